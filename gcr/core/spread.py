"""How much of a score is chance, and what that means for calling one image better than another.

A critic that judges one image several times does not score it the same each time. The higher score
is the better guess all the same. But a lead that is no larger than that resets no plateau, and
nothing is claimed of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from gcr.core.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL.Image import Image

    from gcr.core.records import Attempt, Critique, Request

CONFIDENCE = 1.645
"""Standard deviations that chance exceeds upwards once in 20 times."""


def margin(attempts: Iterable[Attempt]) -> float:
    """By how much one score must exceed another to be better and not lucky; 0 where unknown.

    The spread of a critic is one figure: those of the attempts are pooled. A difference of two
    scores spreads √2 times as far as one.
    """
    spreads = [a.critique.spread for a in attempts if a.critique.spread is not None]
    return CONFIDENCE * math.sqrt(2) * pooled(spreads) if spreads else 0.0


def pooled(spreads: Sequence[float]) -> float:
    """One standard deviation for many of equally large samples."""
    return math.sqrt(fmean(spread**2 for spread in spreads))


def ordered(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Attempts, best first.

    Higher scores come first and a tie goes to the earlier attempt. Unscored attempts come after
    every scored one: first those whose critique could not be read, then those never judged.
    """
    return sorted(attempts, key=_rank)


def _rank(attempt: Attempt) -> tuple[int, float]:
    if attempt.score is not None:
        return 0, -attempt.score
    # Only an image that was never judged, because it is faulty, has neither aspects nor a reply.
    return (1 if attempt.critique.aspects or attempt.critique.raw else 2), 0.0


def near(attempts: Sequence[Attempt], best: Attempt) -> list[Attempt]:
    """The others whose scores differ from that of `best` by no more than chance allows, best first.

    None where no spread is known, or `best` has no score.
    """
    least = margin(attempts)
    if not least or best.score is None:
        return []
    return [
        attempt
        for attempt in ordered(attempts)
        if attempt.score is not None
        and attempt.image != best.image
        and abs(attempt.score - best.score) <= least
    ]


@dataclass(frozen=True, slots=True)
class Known(Relay):
    """A critic whose spread was measured before (`gcr calibrate`): a standard deviation, 0-1."""

    spread: float

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        critiques = self.critic.judge(requests, images, sources)
        return [c if c.overall is None else replace(c, spread=self.spread) for c in critiques]


def together(critiques: Sequence[Critique]) -> Critique:
    """Several judgements of one image as one.

    The score is the mean of those that could be read, its spread their standard error; all else
    is from the first of them.
    """
    scores = [critique.overall for critique in critiques if critique.overall is not None]
    first = next((c for c in critiques if c.overall is not None), critiques[0])
    if len(scores) < 2:
        return first
    return replace(first, overall=fmean(scores), spread=stdev(scores) / math.sqrt(len(scores)))
