"""Which weights stay on a device: planned from their bytes, what work needs, and what is free.

    both      the weights of both models stay there
    swap      the model at work is there, the other waits in the machine's memory
    offload   as swap, and of a pipeline only the part at work is there

Each mode needs less memory and more time than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Mode = Literal["both", "swap", "offload"]
Residency = Literal["auto", "both", "swap", "offload"]
MODES: tuple[Mode, ...] = ("both", "swap", "offload")

GIB = 1024**3
WORKING_BYTES = 3 * GIB
"""What work needs besides the weights, until that is measured (estimated): decoding a 1024 px
image, or the KV cache of a batch of critiques."""


class Footprint(NamedTuple):
    """What one model needs, in bytes.

    Attributes:
        weights: of the whole model.
        part: weights of the largest part that can be on the device without the others.
        working: what work needs besides the weights, at most.
    """

    weights: int
    part: int
    working: int = WORKING_BYTES


class Plan(NamedTuple):
    """How the models use the device.

    Attributes:
        mode: which weights stay there.
        needs: bytes, at most.
        free: bytes that there are.
        fits: whether there is room.
    """

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
    """The first of the modes that fits, else the last.

    free: bytes on the device when none of the models is there.
    """
    plans = [Plan(mode, needs(mode, models), free) for mode in modes]
    return next((candidate for candidate in plans if candidate.fits), plans[-1])
