"""The user's own folders: of configuration, and of what can be made again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def config(environ: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME/gcr, else `gcr` where the platform has configuration: ~/.config on Linux.

    Where a user has ~/.config/gcr on another platform, as versions up to 0.1 made it, it stays.
    """
    import platformdirs

    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "gcr"
    usual = Path("~/.config/gcr").expanduser()
    if usual.is_dir():
        return usual
    return platformdirs.user_config_path("gcr", appauthor=False, roaming=True)


def cache() -> Path:
    """$GCR_CACHE, else `gcr` where the platform has caches: ~/.cache on Linux."""
    import platformdirs

    if chosen := os.environ.get("GCR_CACHE"):
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("gcr", appauthor=False, opinion=False)
