"""What images buy: `python -m benchmarks.curve`, accuracy against images for every strategy.

The same requests and first seeds for all; truth judges what the critic picks from the first 1, 2,
4, … images of each run. A run that reached the target draws no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import refinement
from gcr.core import ranking
from gcr.core.events import ignore
from gcr.core.records import Preference, Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import STRATEGIES, Refine
from gcr.critic import pairwise, rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write

if TYPE_CHECKING:
    from gcr.core.records import Critic, Strategy

AT = 8
"""Images at which stopping early, and what is reported at the end, are looked at."""


def first(run: Run, images: int) -> Run:
    """The run as it was when it had drawn so many images."""
    rounds, left = [], images
    for round_ in run.rounds:
        if left > 0:
            rounds.append(replace(round_, attempts=round_.attempts[:left]))
            left -= len(round_.attempts)
    return replace(run, rounds=tuple(rounds))


def cut(arm: refinement.Arm, images: int) -> refinement.Arm:
    return [(first(run, images), judged) for run, judged in arm]


def figures(arm: refinement.Arm) -> dict[str, float]:
    """The share of right picks, the share of requests with any right image, and, for each request,
    images and seconds on average.
    """
    every = [(run, judged) for run, judged in arm if run.attempts]
    return {
        "right": round(refinement.accuracy(arm, "best"), 4),
        "any right": round(
            fmean(any(judged[a.image].right for a in run.attempts) for run, judged in every), 4
        ),
        "images": round(fmean(len(run.attempts) for run, _ in every), 2),
        "seconds": round(
            fmean(sum(a.draw_seconds + a.judge_seconds for a in run.attempts) for run, _ in every),
            2,
        ),
    }


def reported(arm: refinement.Arm, critic: Critic) -> dict[str, float]:
    """How often an improvement on the raw image is reported, and how often that is false.

    Reported: another image has the best score, and the critic prefers it in the blind comparison.
    False: truth finds as much wrong with it as with the raw image, or more. The shares of false
    ones are of those reported.
    """
    told = equal = worse = 0
    for run, judged in arm:
        raw, best = ranking.raw(run), ranking.best(run)
        if raw is None or best is None or raw == best:
            continue
        before, after = judged[raw.image], judged[best.image]
        said = pairwise.blind(critic, [run.request], [before.image], [after.image])
        if said == [Preference.SECOND]:
            told += 1
            equal += after.flaws == before.flaws
            worse += after.flaws > before.flaws
    return {
        "improvements reported": round(told / len(arm), 4),
        "of them no better": round(equal / max(1, told), 4),
        "of them worse": round(worse / max(1, told), 4),
    }


def mixes() -> Mapping[str, Strategy]:
    """Ways to share out the images of a round between rewritten prompts and the best so far."""
    return {
        f"{images} a round, {again} of them again": Refine(images, refinement.SEED, again)
        for images, again in ((1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2))
    }


def main(  # noqa: PLR0913, PLR0917 - one parameter for each option
    count: Annotated[int, typer.Option(help="Requests.")] = 200,
    images: Annotated[int, typer.Option(help="Images at most for each request.")] = 16,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "curve",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = True,
    mixed: Annotated[bool, typer.Option(help="Compare mixes of `refine` instead.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Spend images by every strategy on the same requests."""
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=held_out)
    rule = StopRule(images, chosen.target, images, chosen.min_gain, images)
    early = replace(rule, patience=chosen.patience, images=AT)
    named = {name: kind(chosen.images, refinement.SEED) for name, kind in STRATEGIES.items()}
    told: dict[str, object] = {"requests": count, "set": name, "held out": held_out}
    for strategy, plan in (mixes() if mixed else named).items():
        arm = refinement.play(prompts, generator, critic, plan, rule)
        found = {f"{2**i}": figures(cut(arm, 2**i)) for i in range(images.bit_length())}
        found["stopped early"] = figures(refinement.stopped(arm, early))
        if not mixed:
            found["at the end"] = reported(cut(arm, AT), critic)
        told[strategy] = found
        typer.echo(f"{strategy}: {json.dumps(found)}")
        if output is not None:
            write(output, json.dumps(told, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
