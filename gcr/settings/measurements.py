"""What was measured on this machine, kept in the user's config folder for later runs.

Each store is a YAML file of entries by their keys: SPEEDS and OVERLAPS, which `gcr bench` measures,
and SPREADS and `gcr.diagnose.calibration.CARDS`, which `gcr calibrate` does. Several processes may
write at the same time: they take turns, and each adds to what is there. A file that is damaged is
put aside, with a warning: what was measured can be measured again.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from annotated_types import Ge

from gcr.core.records import Seconds, Share
from gcr.errors import GcrError
from gcr.files import paths, structured
from gcr.files.atomic import write, writing
from gcr.files.locks import turn
from gcr.files.structured import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gcr.device.memory import Footprint

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")
Phase = Literal["draw", "judge", "overlap"]
Size = tuple[int | None, int | None]
"""Width and height in pixels; None: the pipeline's own."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a model takes, drawing or judging in batches of the size that was found fastest.

    batch: images at once.
    seconds: for each image, in a batch of that size.
    weights, part: bytes of the model and of its largest part.
    working: bytes that work takes beside them; None where that cannot be told, as on a CPU.
    """

    batch: Annotated[int, Ge(1)]
    seconds: Seconds
    weights: int
    part: int
    working: int | None = None

    def footprint(self) -> Footprint | None:
        from gcr.device.memory import Footprint

        return None if self.working is None else Footprint(self.weights, self.part, self.working)


def device_key(phase: Phase, models: str, device: str, size: Size) -> str:
    """The key of a measurement on a device.

    models: the model's name; both names, as `pair` joins them, for an overlap.
    device: the GPU as it calls itself, or `cpu`.
    """
    return f"{_before_device(phase, models, size)}{device}"


def spread_key(critic: str, rubric: str, score: str) -> str:
    """The key of a spread. score: where the critic's scores come from."""
    return f"{critic} {rubric} {score}"


def pair(generator: str, critic: str) -> str:
    """How keys name two models that work at the same time."""
    return f"{generator} + {critic}"


def on_device(
    entries: Mapping[str, Entry],
    phase: Phase,
    models: str,
    size: Size,
    device_name: Callable[[], str],
) -> Entry | None:
    """The entry of a device, if there is one; the other arguments are as for `device_key`.

    device_name: only called where something was measured on some device, as it may import torch.
    """
    if not any(key.startswith(_before_device(phase, models, size)) for key in entries):
        return None
    return entries.get(device_key(phase, models, device_name(), size))


def _before_device(phase: Phase, models: str, size: Size) -> str:
    width, height = size
    return f"{phase} {models} {width or 'any'}x{height or 'any'} on "


@dataclass(frozen=True, slots=True)
class Store(Generic[Entry]):
    """A file of measurements.

    name: of the file, in the user's config folder.
    kind: the type of an entry, as which a value in YAML is read.
    entries: what messages call them.
    command: that measures them.
    """

    name: str
    kind: Any
    entries: str
    command: str

    def path(self, environ: Mapping[str, str]) -> Path:
        return paths.config_folder(environ) / self.name

    def read(self, environ: Mapping[str, str]) -> dict[str, Entry]:
        """The entries that can be read; the rest is a warning."""
        path = self.path(environ)
        damage = ""
        try:
            content = self._parsed(path)
            damage = content.damage
            if damage:
                with turn(path.parent):
                    content = self._repaired(path)
        except OSError as error:
            logger.warning("cannot read %s, so it is not used: %s", path, error.strerror or error)
            return {}
        except GcrError as error:
            logger.warning("%s is damaged (%s), and is not mended: %s", path, damage, error)
        return content.entries

    def keep(self, environ: Mapping[str, str], entries: Mapping[str, Entry]) -> Path:
        """Add entries, and return the file. Raises GcrError where it cannot be written."""
        with self._changing(environ) as values:
            dump = structured.adapter(self.kind).dump_python
            values.update({key: dump(entry, mode="json") for key, entry in entries.items()})
        return self.path(environ)

    def forget(self, environ: Mapping[str, str], key: str) -> Entry | None:
        """Take an entry out; returns it, or None where there was none. Raises as `keep` does."""
        entry = self.read(environ).get(key)
        if entry is not None:
            with self._changing(environ) as values:
                values.pop(key, None)
        return entry

    @contextmanager
    def _changing(self, environ: Mapping[str, str]) -> Iterator[dict[str, object]]:
        """The values of the file, to be changed while nobody else does; they are then written."""
        import yaml

        path = self.path(environ)
        with writing(path, "make it writable"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with turn(path.parent):
                values = self._repaired(path).values
                yield values
                # Config files are often links into a folder that is kept elsewhere.
                write(path.resolve(), yaml.safe_dump(values).encode())

    def _repaired(self, path: Path) -> _Content[Entry]:
        """What the file holds; a damaged one is put aside, and replaced by what can be read of it.

        To be called in `turn`.
        """
        import yaml

        content = self._parsed(path)
        if content.damage:
            backup = path.with_name(f"{path.name}.damaged")
            with writing(path, "make it writable"):
                path.replace(backup)
                if content.values:
                    write(path, yaml.safe_dump(content.values).encode())
            logger.warning(
                "%s was damaged (%s), and is now %s; %s measures %s again",
                path,
                content.damage,
                backup,
                self.command,
                self.entries,
            )
        return content

    def _parsed(self, path: Path) -> _Content[Entry]:
        """What the file holds. Raises OSError where it cannot be opened."""
        try:
            loaded = structured.parse_yaml(structured.text(path)) or {}
        except FileNotFoundError:
            return _Content({}, {})
        except MalformedError as error:
            return _Content({}, {}, str(error))
        if not isinstance(loaded, dict):
            return _Content({}, {}, "it holds no entries")
        values: dict[str, object] = {}
        entries: dict[str, Entry] = {}
        damage = ""
        for key, value in loaded.items():
            try:
                entries[str(key)] = structured.valid(self.kind, value)
            except ValueError as error:
                damage = damage or f"{key}: {error}"
            else:
                values[str(key)] = value
        return _Content(values, entries, damage)


class _Content(NamedTuple, Generic[Entry]):
    """What was read of a file.

    values: as they are in YAML, of those that are entries.
    damage: what is wrong with the rest; empty where nothing is.
    """

    values: dict[str, object]
    entries: dict[str, Entry]
    damage: str = ""


SPEEDS: Store[Speed] = Store("measured.yaml", Speed, "measurements", "gcr bench")
"""What each model takes, by `device_key`."""
OVERLAPS: Store[bool] = Store("overlaps.yaml", bool, "findings", "gcr bench")
"""Whether it is faster to draw and judge at the same time, by `device_key`."""
SPREADS: Store[float] = Store("spreads.yaml", Share, "spreads", "gcr calibrate")
"""The standard deviation of critics' scores, 0-1, by `spread_key`."""
