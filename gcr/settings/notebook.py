"""Files of entries in the user's config folder, by their keys: what was measured here.

Several processes may write at the same time: they take turns, and each adds to what is there. A
file that is damaged is put aside, with a warning: what was measured can be measured again.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gcr.errors import GcrError
from gcr.files import structured, yamltext
from gcr.files.atomic import write, writing
from gcr.files.locks import turn
from gcr.files.structured import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Entry]):
    """What a file holds.

    entry: makes one of a value in YAML; raises ValueError, TypeError or AttributeError for what is
        none. what: the entries are called. again: the command that makes them.
    """

    entry: Callable[[Any], Entry]
    what: str
    again: str


@dataclass(frozen=True, slots=True)
class _Page(Generic[Entry]):
    """What was read. values: as they are in YAML. damage: what is wrong with the rest, if anything
    is.
    """

    values: dict[str, object]
    entries: dict[str, Entry]
    damage: str = ""


def place(environ: Mapping[str, str], name: str) -> Path:
    """The file of this name: in $XDG_CONFIG_HOME/gcr, by default ~/.config/gcr."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "gcr" / name


def read(path: Path, kind: Kind[Entry]) -> dict[str, Entry]:
    """The entries of a file that can be read; the rest is a warning."""
    try:
        page = _parsed(path, kind)
        if page.damage:
            with turn(path.parent):
                page = _mended(path, kind)
    except OSError as error:
        logger.warning("cannot read %s, so it is not used: %s", path, error.strerror or error)
        return {}
    except GcrError as error:
        logger.warning("%s is damaged (%s), and is not mended: %s", path, page.damage, error)
    return page.entries


@contextmanager
def changing(path: Path, kind: Kind[Any]) -> Iterator[dict[str, object]]:
    """The entries of a file as values for YAML, to be changed; what they are then is written.

    Nobody else changes them in between. Raises GcrError where they cannot be written.
    """
    import yaml

    with writing(path, "make it writable"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with turn(path.parent):
            values = _mended(path, kind).values
            yield values
            # Config files are often links into a folder that is kept elsewhere.
            write(path.resolve(), yaml.safe_dump(values).encode())


def _mended(path: Path, kind: Kind[Entry]) -> _Page[Entry]:
    """What a file holds; a damaged one is put aside, and what can be read takes its place. Only in
    turn.
    """
    import yaml

    page = _parsed(path, kind)
    if page.damage:
        aside = path.with_name(f"{path.name}.damaged")
        with writing(path, "make it writable"):
            path.replace(aside)
            if page.values:
                write(path, yaml.safe_dump(page.values).encode())
        logger.warning(
            "%s was damaged (%s), and is now %s; %s measures %s again",
            path,
            page.damage,
            aside,
            kind.again,
            kind.what,
        )
    return page


def _parsed(path: Path, kind: Kind[Entry]) -> _Page[Entry]:
    """What a file holds. Raises OSError where it cannot be opened."""
    page: _Page[Entry] = _Page({}, {})
    try:
        loaded = yamltext.parse(structured.text(path)) or {}
    except FileNotFoundError:
        return page
    except MalformedError as error:
        return _Page({}, {}, str(error))
    if not isinstance(loaded, dict):
        return _Page({}, {}, "it holds no entries")
    damage = ""
    for key, value in loaded.items():
        try:
            page.entries[str(key)] = kind.entry(value)
        except (ValueError, TypeError, AttributeError) as error:
            damage = damage or f"{key}: {error}"
        else:
            page.values[str(key)] = value
    return _Page(page.values, page.entries, damage)
