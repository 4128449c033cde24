"""Whether it is worth it to draw and judge at the same time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcr.core.background import in_background
from gcr.diagnose import tuning

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 3
"""The fastest counts: whatever else the machine does can only make it slower."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """ratio: of the seconds for both at the same time to those for one after the other.

    same: whether all came out the same.
    """

    ratio: float
    same: bool

    @property
    def pays(self) -> bool:
        return self.same and self.ratio <= 1 / (1 + tuning.GAIN)


def tried(
    draw: Callable[[], object],
    judge: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Overlap:
    """Do both at the same time, and one after the other. clock: tells seconds."""

    def at_once() -> tuple[object, object]:
        judging = in_background(judge)
        return draw(), judging()

    in_turn, usual = _fastest(lambda: (draw(), judge()), clock)
    together, found = _fastest(at_once, clock)
    # Some models never do the same twice: that is no fault of working at once.
    steady = all(one == usual[0] for one in usual)
    same = not steady or all(one == usual[0] for one in found)
    return Overlap(together / in_turn, same)


def _fastest(work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, list[object]]:
    """The least seconds that work takes, and what came of it each time."""
    took: list[float] = []
    came: list[object] = []
    while len(took) < REPEATS:
        started = clock()
        came.append(work())
        took.append(clock() - started)
    return min(took), came
