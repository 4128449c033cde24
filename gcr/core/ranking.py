"""Which image is better, and which the best: by score, by a person's choice, and beyond chance.

A critic that judges one image several times does not score it the same each time. The higher score
is the better guess all the same. But a lead that is no larger than that resets no plateau, and
nothing is claimed of it.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Protocol, TypeVar

from gcr.core.records import Attempt, Preference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gcr.core.records import Critique, Run

Pair = tuple[int, Attempt, Attempt]
"""The place of a field of attempts, and two of these, the one of the higher score first."""

BRACKET = 8
"""Images that compete to be the best where pairs decide, at most: seven comparisons."""


class Judged(Protocol):
    """An image with its critique: an attempt, or a picture from elsewhere. image: its name."""

    @property
    def image(self) -> str: ...
    @property
    def critique(self) -> Critique: ...
    @property
    def score(self) -> float | None: ...


AnyJudged = TypeVar("AnyJudged", bound=Judged)

CONFIDENCE = 1.645
"""Standard deviations that chance exceeds upwards once in 20 times."""


def ranked(attempts: Iterable[AnyJudged]) -> list[AnyJudged]:
    """Attempts, best first.

    Higher scores come first and a tie goes to the earlier attempt. Unscored attempts come after
    every scored one: first those whose critique could not be read, then those never judged.
    """
    return sorted(attempts, key=_rank)


def _rank(attempt: Judged) -> tuple[int, float]:
    if attempt.score is not None:
        return 0, -attempt.score
    # Only an image that was never judged, because it is faulty, has neither aspects nor a reply.
    return (1 if attempt.critique.aspects or attempt.critique.raw else 2), 0.0


def highest(attempts: Iterable[Attempt]) -> Attempt | None:
    """The attempt of the highest score; None where nothing is scored."""
    top = next(iter(ranked(attempts)), None)
    return top if top is not None and top.score is not None else None


def parents(run: Run) -> list[Attempt]:
    """The attempts in the order in which a strategy goes on from them: the image that a person
    kept, then the others, best first. After a branch they are its image and those drawn since.
    """
    attempts, base = run.line.attempts, run.base
    if base is not None:
        attempts = attempts[attempts.index(base) :]
    return sorted(ranked(attempts), key=lambda attempt: attempt.image != run.kept)


def parent(run: Run) -> Attempt | None:
    """The first of the parents, if it has a score or a person chose it."""
    first = next(iter(parents(run)), None)
    if first is None or (first.score is None and first.image != run.kept and first != run.base):
        return None
    return first


def named(run: Run, name: str) -> Attempt | None:
    """The attempt whose image has a name, such as `01-0` or `01-0.png`; `best` is the best one.

    None where there is none.
    """
    if name.partition(".")[0] == "best":
        return best_scored(run)
    named = (a for a in run.attempts if name in (a.image, a.image.partition(".")[0]))
    return next(named, None)


def best(run: Run) -> Attempt | None:
    """The image that a person kept, or that a blind comparison settled on; or else that of the
    highest score, and of equals the earlier one; None before the first round.

    Where nothing was scored this is the first image that has no fault, or failing that the first
    image: something to look at, whose `score` is None. Check it before calling it a result.
    """
    chosen = run.kept or run.settled
    by_choice = (attempt for attempt in run.attempts if chosen and attempt.image == chosen)
    return next(by_choice, None) or next(iter(ranked(run.attempts)), None)


def best_scored(run: Run) -> Attempt | None:
    """The best of the attempts that have a score, or the one that a person kept."""
    top = best(run)
    return top if top is not None and (top.score is not None or run.kept) else None


def raw(run: Run) -> Attempt:
    """The baseline: the user's own words drawn with the user's own seed. Needs one round."""
    return run.rounds[0].attempts[0]


def margin(attempts: Iterable[Judged]) -> float:
    """By how much one score must exceed another to be better and not lucky; 0 where unknown.

    The spread of a critic is one figure: those of the attempts are pooled. A difference of two
    scores spreads √2 times as far as one.
    """
    spreads = [a.critique.spread for a in attempts if a.critique.spread is not None]
    return CONFIDENCE * math.sqrt(2) * pooled(spreads) if spreads else 0.0


def pooled(spreads: Sequence[float]) -> float:
    """One standard deviation for many of equally large samples."""
    return math.sqrt(fmean(spread**2 for spread in spreads))


def near(attempts: Sequence[AnyJudged], best: AnyJudged) -> list[AnyJudged]:
    """The others whose scores differ from that of `best` by no more than chance allows, best first.

    None where no spread is known, or `best` has no score.
    """
    most = margin(attempts)
    if not most or best.score is None:
        return []
    return [
        attempt
        for attempt in ranked(attempts)
        if attempt.score is not None
        and attempt.image != best.image
        and abs(attempt.score - best.score) <= most
    ]


def contenders(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that compete to be the best where pairs decide: those of the highest scores.

    Where a program found one of them as it was asked for, none that it found otherwise competes:
    no preference overrules a fact.
    """
    scored = [attempt for attempt in ranked(attempts) if attempt.score is not None]
    right = [attempt for attempt in scored if not attempt.critique.refuted]
    return (right or scored)[:BRACKET]


def knock_out(
    fields: Sequence[Sequence[Attempt]],
    prefer: Callable[[Sequence[Pair]], Sequence[Preference | None]],
) -> list[Attempt | None]:
    """The winner of each field of attempts, each given best first; None of an empty one.

    In each round the first meets the last, the second the last but one, and so on; in the middle
    one may be left over, and goes on. So does the higher score where there is no preference.
    prefer: which of two is better, asked for the pairs of all fields at once.
    """
    left = [list(field) for field in fields]
    while pairs := [
        (i, attempts[k], attempts[-1 - k])
        for i, attempts in enumerate(left)
        for k in range(len(attempts) // 2)
    ]:
        left = [attempts[: (len(attempts) + 1) // 2] for attempts in left]
        for (i, higher, lower), preference in zip(pairs, prefer(pairs), strict=True):
            if preference is Preference.SECOND:
                left[i][left[i].index(higher)] = lower
    return [attempts[0] if attempts else None for attempts in left]
