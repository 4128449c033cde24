"""How much of a score is chance, and what that means for calling one image better than another.

A critic that judges one image several times does not score it the same each time. The higher score
is the better guess all the same. But a lead that is no larger than that resets no plateau, and
nothing is claimed of it.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gcr.core.records import Attempt

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
