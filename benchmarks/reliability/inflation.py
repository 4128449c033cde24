"""Whether choosing by the critic's score finds right images, or images that only score well."""

from __future__ import annotations

import random
import time
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks import refinement
from gcr.core.events import ignore
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN
from gcr.critic import rubric
from gcr.engine.models import load_models

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.reliability import Tally

REQUESTS = 48
IMAGES = 16  # of each request
TOGETHER = 8  # requests


def run(place: Path, seed: int, scale: float, tally: Tally) -> None:  # noqa: ARG001 - no files
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    count = max(TOGETHER, round(REQUESTS * scale))
    prompts = refinement.requests(count, f"reliability {seed}", held_out=False)
    strategy, rule = BestOfN(IMAGES, refinement.SEED), StopRule(rounds=1)
    fields: list[list[refinement.Judged]] = []
    for start in range(0, count, TOGETHER):
        if time.monotonic() > tally.until:
            break
        arm = refinement.play(prompts[start : start + TOGETHER], generator, critic, strategy, rule)
        fields += [list(judged.values()) for _, judged in arm]
    for field in fields:
        for judged in field:
            score = judged.attempt.score
            kind = (
                "no score"
                if score is None
                else "a perfect score"
                if score >= refinement.FULL
                else "a lower score"
            )
            tally.note(kind, "right by truth" if judged.right else "wrong by truth")
    tally.figures |= {f"best of {n}": _chosen(fields, n) for n in (1, 2, 4, 8, 16)}


def _chosen(fields: list[list[refinement.Judged]], n: int) -> dict[str, str]:
    """What the best of the first n images of each request come to; an image without a score is not
    chosen, and a request that has no other has no best.
    """
    scored = [
        [(score, judged) for judged in field[:n] if (score := judged.attempt.score) is not None]
        for field in fields
    ]
    best = [max(field, key=lambda pair: pair[0]) for field in scored if field]
    perfect = [judged for score, judged in best if score >= refinement.FULL]
    rng = random.Random(0)
    among = fmean(any(judged.right for judged in field[:n]) for field in fields)
    return {
        "mean score": f"{fmean(score for score, _ in best):.3f}",
        "right by truth": f"{fmean(judged.right for _, judged in best):.1%}",
        "a right one among them": f"{among:.1%}",
        "chosen at random": f"{fmean(rng.choice(field[:n]).right for field in fields):.1%}",
        "perfect scores that are wrong": f"{sum(not j.right for j in perfect)} of {len(perfect)}",
        "requests without a score": str(len(fields) - len(best)),
    }
