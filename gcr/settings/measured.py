"""What `gcr bench` measured on this machine, kept for later runs.

For each model, device and size: how many images at once are drawn or judged fastest, how long that
takes, and what the model takes of the device's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gcr.device.libraries import imported
from gcr.settings import notebook

if TYPE_CHECKING:
    from gcr.device.residency import Footprint

Phase = Literal["draw", "judge", "overlap"]
Size = tuple[int | None, int | None]
"""Width and height in pixels; None: the pipeline's own."""

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Measured:
    """batch: images at once. seconds: for each image, in a batch of that size.

    weights, part: bytes of the model and of its largest part. working: bytes that work takes
        beside them; None where that cannot be told, as on a CPU.
    """

    batch: int
    seconds: float
    weights: int
    part: int
    working: int | None = None

    def footprint(self) -> Footprint | None:
        from gcr.device.residency import Footprint

        return None if self.working is None else Footprint(self.weights, self.part, self.working)


def key(phase: Phase, model: str, device: str, size: Size) -> str:
    """What a measurement belongs to."""
    return f"{_model(phase, model, size)} on {device}"


def known(environ: Mapping[str, str]) -> dict[str, Measured]:
    """All measurements, by their keys."""
    return notebook.read(store(environ), KIND)


def keep(environ: Mapping[str, str], found: Mapping[str, Measured]) -> Path:
    """Write measurements beside those that are known; returns the file."""
    path = store(environ)
    with notebook.changing(path, KIND) as entries:
        entries.update({of: asdict(one) for of, one in found.items()})
    return path


def store(environ: Mapping[str, str]) -> Path:
    """The file of measurements."""
    return notebook.place(environ, "measured.yaml")


def here(environ: Mapping[str, str], phase: Phase, model: str, size: Size) -> Measured | None:
    """What was measured of a model on this machine's device; None where nothing was."""
    return of_here(known(environ), phase, model, size)


def of_here(entries: Mapping[str, Entry], phase: Phase, model: str, size: Size) -> Entry | None:
    """Of entries by their keys the one for this machine's device."""
    if not any(of.startswith(f"{_model(phase, model, size)} on ") for of in entries):
        return None  # and torch need not be imported to tell
    return entries.get(key(phase, model, device_name(), size))


def device_name() -> str:
    """The GPU as it calls itself, or `cpu`."""
    imported("torch")
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _model(phase: Phase, model: str, size: Size) -> str:
    width, height = size
    return f"{phase} {model} {width or 'any'}x{height or 'any'}"


def _measured(values: Any) -> Measured:
    found = Measured(**values)
    if not (isinstance(found.batch, int) and found.batch >= 1 and found.seconds >= 0):
        raise ValueError(f"{found.batch} images at once in {found.seconds} s")
    return found


KIND = notebook.Kind(_measured, "measurements", "gcr bench")
