"""Why a run ends. Knows scores and rounds; nothing of prompts, images or models."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gcr.core.ranking import highest, margin
from gcr.core.records import Attempt, Extension, Round, Run, StopReason

MOST_ROUNDS = 100
"""That a run is begun with, or extended by; where only a budget was named, as good as no limit."""
_ROUNDING = 1e-9
"""Scores are sums of thirds: 0.70 - 0.68 must count as a gain of 0.02."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """Says whether a run is over, from its rounds alone.

    rounds: most rounds to draw, the raw one included.
    target: the score (0-1) that is good enough.
    patience: rounds in a row without a gain after which more are not worth their time.
    min_gain: the least a round must add to the best score before it to count as a gain; or the
        margin of the critic's own noise, if that is known and larger.
    images: most images to draw; None: as many as the rounds draw. The last round is cut to fit.
    seconds: of the models' work, as the rounds record it; None: no limit. A round that
        would not fit, at the pace of those before it, is not begun. Round 0 always is.
    since: rounds that were there when the run was given a larger budget: whoever did that knew how
        they had ended, so target and patience are for the rounds after them.

    What comes after a branch has to gain on the image that is gone on from, not on the best.
    """

    rounds: int = 4
    target: float = 1.0
    patience: int = 2
    min_gain: float = 0.02
    images: int | None = None
    seconds: float | None = None
    since: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")
        if not 0 <= self.target <= 1:
            raise ValueError(f"target must be from 0 to 1, not {self.target}")
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, not {self.patience}")
        if not 0 <= self.min_gain <= 1:
            raise ValueError(f"min_gain must be from 0 to 1, not {self.min_gain}")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")
        # Neither infinite, nor not a number, nor an integer beyond what floats can hold.
        if self.seconds is not None and not 0 < self.seconds <= sys.float_info.max:
            raise ValueError(f"seconds must be more than 0 and finite, not {self.seconds}")
        if not 0 <= self.since < self.rounds:
            raise ValueError(f"since must be from 0 to less than rounds, not {self.since}")

    def _check_types(self) -> None:
        """Raise TypeError for what is no number, as records that were damaged may have it."""
        for name in self.__slots__:
            value = getattr(self, name)
            if name in {"target", "min_gain", "seconds"}:
                if not isinstance(value, int | float | None):
                    raise TypeError(f"{name} must be a number, not {value!r}")
            elif not isinstance(value, int | None):
                raise TypeError(f"{name} must be a whole number, not {value!r}")

    def reason(self, run: Run) -> StopReason | None:
        """Why this run is over, or None while it is not.

        The target comes first: a run that got what was asked for succeeded, in whichever round. A
        score that says nothing of some of the request is no proof that it did, and none is enough
        where a program found that it did not.
        Then the limits on rounds and images, which are exact, then the one on seconds and the
        plateau, which are forecasts. A run that ends with nothing scored has failed, whichever of
        them ended it.
        """
        latest = highest(a for round_ in run.rounds[self.since :] for a in round_.attempts)
        if latest is not None and _reaches(latest, self.target):
            return StopReason.TARGET
        over = self._over(run)
        scored = highest(run.attempts) is not None
        return over if over is None or scored else StopReason.FAILED

    def room(self, run: Run) -> int | None:
        """How many images may still be drawn; None: no limit."""
        return None if self.images is None else max(0, self.images - len(run.attempts))

    def _over(self, run: Run) -> StopReason | None:
        drawn = len(run.rounds)
        if drawn >= self.rounds:
            return StopReason.ROUNDS
        if self.room(run) == 0:
            return StopReason.IMAGES
        if self.seconds is not None and drawn and run.seconds * (1 + 1 / drawn) > self.seconds:
            return StopReason.SECONDS
        tops = [_top(round_) for round_ in run.rounds]
        if run.branch and run.base and not run.branches_now:
            tops = [run.base.score, *tops[run.branch.after :]]
        idle = min(_idle(tops, self.min_gain, margin(run.attempts)), drawn - self.since)
        return StopReason.PLATEAU if idle >= self.patience else None


def _reaches(best: Attempt, target: float) -> bool:
    critique = best.critique
    reached = (best.score or 0.0) >= target - _ROUNDING
    return reached and not critique.untrusted and not critique.refuted


def rule(recorded: Mapping[str, Any], extensions: Sequence[Extension] = ()) -> StopRule:
    """The rule of a run, from its settings as a folder keeps them, and what extends them."""
    names = {"images": "max_images", "seconds": "max_seconds"}
    values = {part: recorded.get(names.get(part, part)) for part in StopRule.__slots__}
    begun = StopRule(**{part: value for part, value in values.items() if value is not None})
    if not extensions:
        return begun
    last = extensions[-1]
    return replace(
        begun,
        rounds=last.rounds,
        images=last.max_images,
        seconds=last.max_seconds,
        since=last.after,
    )


def rule_of(run: Run) -> StopRule:
    """The rule of a run, as it was begun and extended."""
    return rule(run.settings, run.extensions)


def is_over(run: Run) -> bool:
    """Whether a run, as it was left, came to its end by its own settings: nothing is left to do."""
    return run.stop is not None and run.stop is rule_of(run).reason(run)


def _idle(tops: list[float | None], min_gain: float, noise: float) -> int:
    """How many rounds in a row, up to the last, brought no gain. Unscored rounds bring none.

    A score that is higher by no more than noise is not what later rounds have to beat, either.
    """
    idle = 0
    best: float | None = None
    for index, top in enumerate(tops):
        gained = top is not None and (best is None or _is_gain(top - best, max(min_gain, noise)))
        # The first round has nothing to gain on.
        idle = 0 if gained or index == 0 else idle + 1
        if top is not None and (best is None or top - best > noise):
            best = top
    return idle


def _is_gain(difference: float, least: float) -> bool:
    # With a least gain of 0 an equal score is still no gain.
    return difference > _ROUNDING and difference >= least - _ROUNDING


def _top(round_: Round) -> float | None:
    """The best score of a round; None when nothing in it was scored."""
    return max((a.score for a in round_.attempts if a.score is not None), default=None)
