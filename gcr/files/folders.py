"""The user's own folders: of configuration, and of what can be made again."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def config(environ: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME/gcr; else ~/.config/gcr, or on macOS and Windows what is usual there.

    Where those have a ~/.config/gcr, which earlier versions used everywhere, it stays in use.
    """
    import platformdirs

    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "gcr"
    folder = Path("~/.config/gcr").expanduser()
    if platform.system() not in {"Darwin", "Windows"} or folder.is_dir():
        return folder
    return platformdirs.user_config_path("gcr", appauthor=False, roaming=True)


def cache() -> Path:
    """$GCR_CACHE, else `gcr` where the platform has caches: ~/.cache on Linux."""
    import platformdirs

    if chosen := os.environ.get("GCR_CACHE"):
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("gcr", appauthor=False, opinion=False)
