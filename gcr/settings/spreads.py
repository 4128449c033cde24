"""What is known of critics' spreads: measured once by `gcr calibrate`, kept for later runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcr.settings import notebook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def key(critic: str, rubric: str, score: str) -> str:
    """What a spread belongs to. score: where the critic's scores come from."""
    return f"{critic} {rubric} {score}"


def known(environ: Mapping[str, str], of: str) -> float | None:
    """The spread that was measured for a key; None where none was."""
    return notebook.read(store(environ), KIND).get(of)


def keep(environ: Mapping[str, str], of: str, spread: float) -> Path:
    """Write a spread to the user's config folder; returns the file."""
    path = store(environ)
    with notebook.changing(path, KIND) as entries:
        entries[of] = round(spread, 6)
    return path


def forget(environ: Mapping[str, str], of: str) -> float | None:
    """Take a spread out of the file again; returns it, or None where there was none."""
    spread = known(environ, of)
    if spread is not None:
        with notebook.changing(store(environ), KIND) as entries:
            entries.pop(of, None)
    return spread


def store(environ: Mapping[str, str]) -> Path:
    """The file of measured spreads."""
    return notebook.place(environ, "spreads.yaml")


def _spread(value: Any) -> float:
    spread = float(value)
    if not 0 <= spread <= 1:
        raise ValueError(f"{spread} is not in 0-1")
    return spread


KIND = notebook.Kind(_spread, "spreads", "gcr calibrate")
