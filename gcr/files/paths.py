"""The user's own folders, and paths as users and files give them: also those that no file system
can hold.

A name may be too long, lie in a folder that nobody may look into, or begin with `~` and no user.
Nothing is there then, and whoever asks says so in words of their own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path


def expanded(path: Path | str) -> Path:
    """The path with the home of `~` or `~user` in it; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path | str) -> bool:
    """Whether there is such a file."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's raises for what cannot be a path


def is_folder(path: Path | str) -> bool:
    """Whether there is such a folder."""
    return os.path.isdir(path)  # noqa: PTH112 - as above


def exists(path: Path | str) -> bool:
    """Whether there is such a file or folder."""
    return os.path.exists(path)  # noqa: PTH110 - as above


def config_folder(environ: Mapping[str, str]) -> Path:
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


def cache_folder() -> Path:
    """$GCR_CACHE, else `gcr` where the platform has caches: ~/.cache on Linux."""
    import platformdirs

    if chosen := os.environ.get("GCR_CACHE"):
        return Path(chosen).expanduser()
    return platformdirs.user_cache_path("gcr", appauthor=False, opinion=False)
