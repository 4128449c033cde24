"""Whether it is worth it to draw and judge at the same time: tried, and kept for later runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcr import measured, notebook, tuning
from gcr.aside import aside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gcr.measured import Size

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
        judging = aside(judge)
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


def key(generator: str, critic: str, device: str, size: Size) -> str:
    """What a finding belongs to. device, size: as in `gcr.measured`."""
    return measured.key("overlap", _pair(generator, critic), device, size)


def here(environ: Mapping[str, str], generator: str, critic: str, size: Size) -> bool | None:
    """Whether it was worth it on this machine; None where it was not tried."""
    entries = notebook.read(store(environ), KIND)
    return measured.of_here(entries, "overlap", _pair(generator, critic), size)


def keep(environ: Mapping[str, str], of: str, *, pays: bool) -> Path:
    """Write whether it is worth it to the user's config folder; returns the file."""
    path = store(environ)
    with notebook.changing(path, KIND) as entries:
        entries[of] = pays
    return path


def store(environ: Mapping[str, str]) -> Path:
    """The file of what was found."""
    return notebook.place(environ, "overlaps.yaml")


def _pair(generator: str, critic: str) -> str:
    return f"{generator} + {critic}"


def _pays(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


KIND = notebook.Kind(_pays, "findings", "gcr bench")
