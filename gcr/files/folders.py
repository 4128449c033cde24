"""The user's own folders: of configuration, and of what can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def config(environ: Mapping[str, str]) -> Path:
    """The folder of configuration: $XDG_CONFIG_HOME/gcr, by default ~/.config/gcr."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "gcr"
