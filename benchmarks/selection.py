"""Does choosing the best image by pairs find better ones? `python -m benchmarks.selection`.

The embedded pair, the same images and the same critic: once the image of the highest score counts
as the best, once the winner of blind comparisons in both orders (`--select pairwise`). Truth says
which choice is better, paired by request.
"""

from __future__ import annotations

import json
import time
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import refinement
from gcr.comparison import statistics
from gcr.core import ranking
from gcr.core.events import ignore
from gcr.core.records import Preference
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN, Refine
from gcr.critic import pairwise, rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.refinement import Arm, Judged
    from gcr.core.ranking import Pair
    from gcr.core.records import Critic, Strategy


def preferences(arm: Arm, pairs: Sequence[Pair], critic: Critic) -> list[Preference | None]:
    """The critic's blind preference for pairs of images of an arm's runs."""
    return pairwise.blind(
        critic,
        [arm[i][0].request for i, _, _ in pairs],
        [arm[i][1][first.image].image for i, first, _ in pairs],
        [arm[i][1][second.image].image for i, _, second in pairs],
    )


def selected(arm: Arm, critic: Critic) -> dict[str, object]:
    """What both ways of choosing come to by truth, and their difference."""
    fields = [ranking.contenders(run.attempts) for run, _ in arm]
    began = time.perf_counter()
    winners = ranking.knock_out(fields, lambda pairs: preferences(arm, pairs, critic))
    seconds = time.perf_counter() - began
    choices = [
        (judged[field[0].image], judged[winner.image])
        for (_, judged), field, winner in zip(arm, fields, winners, strict=True)
        if winner is not None
    ]
    right = [float(pair.right) - float(score.right) for score, pair in choices]
    flaws = [float(score.flaws - pair.flaws) for score, pair in choices]
    return {
        "right by score": fmean(score.right for score, _ in choices),
        "right by pairs": fmean(pair.right for _, pair in choices),
        "best possible": fmean(any(j.right for j in judged.values()) for _, judged in arm),
        "right, pairs against score": finding(right),
        "fewer flaws, pairs against score": finding(flaws),
        "other image chosen": fmean(score is not pair for score, pair in choices),
        "seconds a request": seconds / len(arm),
    }


def agreement(arm: Arm, critic: Critic) -> dict[str, float]:
    """How often score and preference find the image with fewer flaws, of all pairs that differ in
    them; a tie counts half.
    """
    pairs = [
        (i, first, second)
        for i, (run, judged) in enumerate(arm)
        for first, second in combinations(ranking.contenders(run.attempts), 2)
        if judged[first.image].flaws != judged[second.image].flaws
    ]
    said = preferences(arm, pairs, critic)
    by_score, by_pair = [], []
    for (i, first, second), preference in zip(pairs, said, strict=True):
        a, b = arm[i][1][first.image], arm[i][1][second.image]
        better = Preference.FIRST if a.flaws < b.flaws else Preference.SECOND
        by_pair.append(0.5 if preference in (None, Preference.TIE) else float(preference is better))
        by_score.append(_by_score(a, b, better))
    return {
        "pairs that differ": len(pairs),
        "score right about them": fmean(by_score),
        "pairs right about them": fmean(by_pair),
        "pairs without preference": fmean(p in (None, Preference.TIE) for p in said),
    }


def _by_score(a: Judged, b: Judged, better: Preference) -> float:
    scores = (a.attempt.score or 0.0, b.attempt.score or 0.0)
    if scores[0] == scores[1]:
        return 0.5
    higher = Preference.FIRST if scores[0] > scores[1] else Preference.SECOND
    return float(higher is better)


def finding(differences: list[float]) -> str:
    """A difference in words: its mean, its interval, and how many requests won and lost."""
    (found,) = statistics.judge([differences])
    low, high = found.interval or (0.0, 0.0)
    return (
        f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"{found.wins} won, {found.losses} lost, {found.ties} equal: {found.verdict.value}"
    )


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 60,
    images: Annotated[int, typer.Option(help="Images for each request.")] = 8,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "pairs",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Compare two ways to choose the best image on pocket, with truth as the evaluator."""
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=held_out)
    patient = StopRule(images // chosen.images, chosen.target, images, chosen.min_gain)
    seed = refinement.SEED
    arms: dict[str, tuple[Strategy, StopRule]] = {
        "refine": (Refine(chosen.images, seed), patient),
        "best-of-n": (BestOfN(images, seed), StopRule(rounds=1)),
    }
    figures: dict[str, object] = {"requests": count, "set": name, "images": images}
    for arm_name, (strategy, rule) in arms.items():
        arm = refinement.play(prompts, generator, critic, strategy, rule)
        for key, value in (selected(arm, critic) | agreement(arm, critic)).items():
            figures[f"{arm_name}: {key}"] = value
            typer.echo(f"{arm_name}: {key}: {value}")
    if output is not None:
        write(output, json.dumps(figures, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
