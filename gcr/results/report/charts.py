"""The geometry of the charts, which the templates draw.

Horizontal places are percentages, so that a chart is as wide as its page and its text is not
scaled; vertical ones are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcr.core.records import Run

EDGE = 43.0  # % from the middle of a scale to its ends, which leaves room for their labels
TOP, HEIGHT = 12.0, 180.0  # pixels: above the scores, and from the score 1 to the score 0


def _y(score: float) -> float:
    return TOP + (1 - min(1.0, max(0.0, score))) * HEIGHT


@dataclass(frozen=True, slots=True)
class Dot:
    """An attempt in the chart of scores.

    Attributes:
        x: in %.
        y: in px; of an unscored attempt that of the score 0.
        score: 0-1; None: unscored.
        image: its name.
        round: its index.
    """

    x: float
    y: float
    score: float | None
    image: str
    round: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A straight line from (x1, y1) to (x2, y2)."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a run over its rounds.

    Attributes:
        dots: the attempts.
        line: the best score so far, a step for each round that has one.
        ticks: (x, round) of the axis below.
        target: the y of the score at which the run stops; None: there is none below 1.
        band: between which y scores differ from the best only by chance; None: unknown.
        grid: (y, score) of the lines across.
        height: in px.
    """

    dots: tuple[Dot, ...]
    line: tuple[Segment, ...]
    ticks: tuple[tuple[float, int], ...]
    target: float | None
    band: tuple[float, float] | None = None
    grid: tuple[tuple[float, float], ...] = tuple((_y(score), score) for score in (1.0, 0.5, 0.0))
    height: float = TOP + HEIGHT + 32


def scores(
    run: Run, bests: Sequence[float | None], best: float | None = None, noise: float = 0.0
) -> Scores:
    """The chart of a run's scores.

    Arguments:
        run: the run.
        bests: the score of the best image after each round; None: nothing was scored yet.
        best: the score of the best image at the end.
        noise: how far scores may differ by chance; 0: unknown.
    """
    width = 100 / max(1, len(run.rounds))
    dots = []
    for number, round_ in enumerate(run.rounds):
        step = width / (len(round_.attempts) + 1)
        for position, attempt in enumerate(round_.attempts, 1):
            x = number * width + position * step
            dots.append(Dot(x, _y(attempt.score or 0), attempt.score, attempt.image, round_.index))
    ticks = [((number + 0.5) * width, round_.index) for number, round_ in enumerate(run.rounds)]
    target = run.settings.get("target")
    shown = _y(target) if isinstance(target, int | float) and target < 1 else None
    band = (_y(best + noise), _y(best - noise)) if noise and best is not None else None
    return Scores(tuple(dots), tuple(_steps(bests, width)), tuple(ticks), shown, band)


def _steps(bests: Sequence[float | None], width: float) -> list[Segment]:
    line: list[Segment] = []
    for number, score in enumerate(bests):
        if score is None:
            continue
        x, y = number * width, _y(score)
        if line and line[-1].y2 != y:
            line.append(Segment(x, line[-1].y2, x, y))
        line.append(Segment(x, y, x + width, y))
    return line


@dataclass(frozen=True, slots=True)
class Whisker:
    """A mean difference with its interval.

    Attributes:
        x: in %.
        low: the interval's lower end, in %; None: there is no interval.
        high: its upper end, in %; None: there is no interval.
    """

    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of differences, the same on both sides of 0.

    Attributes:
        reach: the largest difference that it shows.
    """

    reach: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Scale:
        """The smallest scale that shows all of the values, its reach a multiple of 0.05."""
        largest = max((abs(value) for value in values), default=0.0)
        return cls(max(1, math.ceil(round(largest / 0.05, 6))) * 0.05)

    def place(self, value: float) -> float:
        """Where a value stands, in %."""
        return 50 + EDGE * value / self.reach

    def whisker(self, value: float, interval: Sequence[float] | None) -> Whisker:
        """A mean difference and its interval as places on this scale."""
        low, high = map(self.place, interval) if interval else (None, None)
        return Whisker(self.place(value), low, high)

    @property
    def ticks(self) -> list[tuple[float, float]]:
        """(x in %, value) of the marks of the axis."""
        return [(self.place(value), value) for value in (-self.reach, 0.0, self.reach)]
