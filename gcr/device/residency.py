"""Which weights stay on a device, planned from what they weigh, what work takes, and what is free.

    both      the weights of both models stay there
    swap      the model at work is there, the other waits in the machine's memory
    offload   as swap, and of a pipeline only the part at work is there

Each needs less memory than the one before, and more time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Mode = Literal["both", "swap", "offload"]
Residency = Literal["auto", "both", "swap", "offload"]
MODES: tuple[Mode, ...] = ("both", "swap", "offload")

GIB = 1024**3
WORKING_BYTES = 3 * GIB
"""Room to work beside the weights, until it is measured: decoding a 1024 px image, or the KV cache
of a batch of critiques (estimated)."""


class Footprint(NamedTuple):
    """What one model takes, in bytes.

    weights: of all of it. part: of its largest part that can be there without the others.
    working: what work needs beside the weights, at most.
    """

    weights: int
    part: int
    working: int = WORKING_BYTES


class Plan(NamedTuple):
    """needs, free: bytes. fits: whether there is room for it."""

    mode: Mode
    needs: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needs <= self.free

    def __str__(self) -> str:
        room = f"needs {self.needs / GIB:.1f} GiB of {self.free / GIB:.1f}"
        return f"{self.mode}: {room}" + ("" if self.fits else ", which is too much")


def needs(mode: Mode, models: Sequence[Footprint]) -> int:
    """Bytes on the device in a mode, at most, where models work one at a time."""
    if mode == "both":
        return sum(m.weights for m in models) + max((m.working for m in models), default=0)
    if mode == "swap":
        return max((m.weights + m.working for m in models), default=0)
    return max((m.part + m.working for m in models), default=0)


def needs_at_once(models: Sequence[Footprint]) -> int:
    """Bytes on the device, at most, where all models are there and at work."""
    return sum(m.weights + m.working for m in models)


def plan(modes: Sequence[Mode], models: Sequence[Footprint], free: int) -> Plan:
    """The first of the modes that fits, or failing that the last.

    free: bytes on the device, were none of the models there.
    """
    plans = [Plan(mode, needs(mode, models), free) for mode in modes]
    return next((one for one in plans if one.fits), plans[-1])
