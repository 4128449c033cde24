"""How many at once are fastest, found by trying."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

GAIN = 0.1
"""By this share a larger batch has to be faster, or the smaller one, which needs less memory, is
kept."""

MOST = 64


class Point(NamedTuple):
    """A batch of this size, and the seconds it took for each of its items."""

    batch: int
    seconds: float


class Curve(NamedTuple):
    """points: in the order they were tried. full: the size that memory had no room for; 0: none."""

    points: tuple[Point, ...]
    full: int = 0

    @property
    def best(self) -> Point:
        """The last that was worth it."""
        best = self.points[0]
        for point in self.points[1:]:
            if point.seconds <= best.seconds / (1 + GAIN):
                best = point
        return best


def curve(work: Callable[[int], float | None], most: int = MOST) -> Curve:
    """Try 1, 2, 4, 8, … at once until the gain is too small or memory runs out.

    work: does so many at once and returns the seconds it took; None where memory ran out.
    """
    points: list[Point] = []
    size = 1
    while size <= most:
        seconds = work(size)
        if seconds is None:
            return Curve(tuple(points), full=size)
        points.append(Point(size, seconds / size))
        if Curve(tuple(points)).best.batch != size:
            break
        size *= 2
    return Curve(tuple(points))
