"""The geometry of the charts, which the templates draw.

Horizontal places are percentages, so that a chart is as wide as its page and its text is not
scaled; vertical ones are pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcr.core.phrases import branched

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
class Turn:
    """Where a run went on from an image that a person chose.

    Attributes:
        x: in %, between two rounds or behind the last one.
        image: the name of the last one that was chosen there.
        words: what was decided there, all of it.
    """

    x: float
    image: str
    words: str


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a run over its rounds.

    Attributes:
        dots: the attempts.
        line: the best score so far, a step for each round that has one.
        ticks: (x, round) of the axis below.
        target: the y of the score at which the run stops; None: there is none below 1.
        turns: where a person had it go on from another image.
        band: between which y scores differ from the best only by chance; None: unknown.
        grid: (y, score) of the lines across.
        height: in px.
    """

    dots: tuple[Dot, ...]
    line: tuple[Segment, ...]
    ticks: tuple[tuple[float, int], ...]
    target: float | None
    turns: tuple[Turn, ...] = ()
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
    turns: dict[int, Turn] = {}
    for branch in run.branches:
        before = turns.get(branch.after)
        words = branched(run, branch)
        words = f"{before.words}; then {words}" if before else words
        turns[branch.after] = Turn(branch.after * width, branch.image, words)
    line = tuple(_steps(bests, width))
    return Scores(tuple(dots), line, tuple(ticks), shown, tuple(turns.values()), band)


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


# What was reached against what it took.

PLOT = 200.0
"""Pixels from the top of a plot to its axis, beside a margin of `TOP`."""
GAPS = 4  # between marks of an axis, about
SIDES = 3.0  # % of the width that stay free on either side


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot.

    Attributes:
        name: what it is of.
        path: of an SVG whose view box is 100 wide and as high as the plot.
        dots: (x in %, y in px) of its points; empty where they are too many to be marked.
    """

    name: str
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Scores against what they took.

    Attributes:
        lines: one for each series.
        across: (y in px, score) of the lines across.
        below: (x in %, value) of the marks of the axis below.
        height: in px.
    """

    lines: tuple[Line, ...]
    across: tuple[tuple[float, float], ...]
    below: tuple[tuple[float, float], ...]
    height: float = TOP + PLOT + 28


def plot(series: Mapping[str, Sequence[tuple[float, float]]], *, dotted: bool) -> Plot:
    """The plot of several series. Each holds its value up to the next point, and from the last one
    on to the end.

    Arguments:
        series: points (x, score), by the name of the series; x rises.
        dotted: whether to mark the points, whose x are then counted from 1; else x begins at 0.
    """
    every = [point for points in series.values() for point in points]
    first, last = (1.0 if dotted else 0.0), max(x for x, _ in every)
    marks = _marks(min(score for _, score in every), max(score for _, score in every))
    low, high = marks[0], marks[-1]

    def place(x: float) -> float:
        return SIDES + (100 - 2 * SIDES) * (x - first) / (last - first or 1.0)

    def height(score: float) -> float:
        return TOP + PLOT * (high - score) / (high - low)

    lines = []
    for name, points in series.items():
        (x, score), *rest = points
        steps = [f"M{place(x):.2f} {height(score):.2f}"]
        steps += [f"H{place(x):.2f}V{height(score):.2f}" for x, score in rest]
        dots = tuple((place(x), height(score)) for x, score in points) if dotted else ()
        lines.append(Line(name, "".join(steps) + f"H{place(last):.2f}", dots))
    below = [x for x in _marks(first, last) if first <= x <= last and (not dotted or x % 1 == 0)]
    below = sorted({first, *below}) if dotted else below
    return Plot(
        tuple(lines),
        tuple((height(mark), mark) for mark in marks),
        tuple((place(x), x) for x in below),
    )


def _marks(low: float, high: float) -> list[float]:
    """Round values from at most `low` to at least `high`, and always two of them."""
    # Values closer than that could not be told apart as marks, and would be one.
    least = max(1e-11, 1e-12 * abs(low), 1e-12 * abs(high))
    rough = max((high - low or abs(high) or 1.0) / GAPS, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(begin, max(end, begin + 1) + 1)]
