"""What do critiques of the best images alone cost and save? `python -m benchmarks.screening`.

The embedded pair refines the same requests from the same first images three times:

    screened  a checklist for each image, a critique of the best of each round (`--critique best`)
    all       the same with a critique of each image (`--score checklist`)
    reply     a critique of each image, which also has its score

Truth says which arm's best images are better, paired by request.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from benchmarks import refinement
from benchmarks.selection import finding
from gcr.core.events import ignore
from gcr.core.stopping import StopRule
from gcr.core.strategies import Refine
from gcr.critic import rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.settings.resolving import GOOD_CHANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.refinement import Arm
    from gcr.core.records import Critic, Critique
    from gcr.settings.schema import Score

P = ParamSpec("P")


class Clocked:
    """A critic, and the seconds of this process at work that judging takes it: those on the clock
    also count whatever else the machine does.
    """

    def __init__(self, critic: Critic) -> None:
        self.seconds = 0.0
        self.judge = self._clocked(critic.judge)
        self.screen = self._clocked(critic.screen)
        self.can_overlap = critic.can_overlap
        self.compare, self.reword = critic.compare, critic.reword
        self.rewrite, self.tokens = critic.rewrite, critic.tokens

    def _clocked(self, judge: Callable[P, list[Critique]]) -> Callable[P, list[Critique]]:
        def clocked(*args: P.args, **kwargs: P.kwargs) -> list[Critique]:
            began = time.process_time()
            critiques = judge(*args, **kwargs)
            self.seconds += time.process_time() - began
            return critiques

        return clocked


def figures(arm: Arm, seconds: float) -> dict[str, float]:
    """What an arm came to. seconds: of judging in all."""
    attempts = [attempt for run, _ in arm for attempt in run.attempts]
    return {
        "right": refinement.accuracy(arm, "best"),
        "flaws": fmean(best.flaws for _, best in refinement.ends(arm)),
        "images a request": len(attempts) / len(arm),
        "critiques a request": sum(bool(a.critique.raw) for a in attempts) / len(arm),
        "seconds of judging an image": seconds / len(attempts),
    }


def against(first: Arm, second: Arm) -> dict[str, str]:
    """How much better the second arm's best images are."""
    both = zip(refinement.ends(first), refinement.ends(second), strict=True)
    pairs = [(a, b) for (_, a), (_, b) in both]
    return {
        "right": finding([float(b.right) - float(a.right) for a, b in pairs]),
        "fewer flaws": finding([float(a.flaws - b.flaws) for a, b in pairs]),
    }


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 120,
    images: Annotated[int, typer.Option(help="Images for each request and arm.")] = 8,
    a_round: Annotated[int, typer.Option(help="Images in each round.")] = 2,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "screen",
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Compare critiques of all images with those of the best on pocket, by truth."""
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=False)
    rule = StopRule(images // a_round, chosen.target, images, chosen.min_gain)
    told: dict[str, object] = {"requests": count, "set": name, "images": images}
    arms: dict[str, Arm] = {}
    kinds: list[tuple[str, Score, float]] = [
        ("screened", "checklist", GOOD_CHANCE),
        ("all", "checklist", GOOD_CHANCE),
        ("reply", "reply", chosen.target),
    ]
    for arm, critic.score, target in kinds:
        clocked = Clocked(critic)
        strategy, stop = Refine(a_round, refinement.SEED), replace(rule, target=target)
        screen = arm == "screened"
        arms[arm] = refinement.play(prompts, generator, clocked, strategy, stop, screen=screen)
        told[arm] = figures(arms[arm], clocked.seconds)
        typer.echo(f"{arm}: {json.dumps(told[arm])}")
        if not screen:
            key = f"screened against {arm}"
            told[key] = against(arms[arm], arms["screened"])
            typer.echo(f"{key}: {json.dumps(told[key])}")
    if output is not None:
        write(output, json.dumps(told, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
