"""Whether it was worth it, on this machine, to draw and judge at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcr.settings import measured, notebook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gcr.settings.measured import Size


def key(generator: str, critic: str, device: str, size: Size) -> str:
    """What a finding belongs to. device, size: as in `gcr.settings.measured`."""
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
