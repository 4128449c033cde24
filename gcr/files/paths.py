"""Paths as users and files give them: also those that no file system can hold.

A name may be too long, lie in a folder that nobody may look into, or begin with `~` and no user.
Nothing is there then, and whoever asks says so in words of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def expanded(path: Path | str) -> Path:
    """The path with the home of `~` or `~user` in it; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path | str) -> bool:
    """Whether there is such a file."""
    return _is(Path.is_file, path)


def is_folder(path: Path | str) -> bool:
    """Whether there is such a folder."""
    return _is(Path.is_dir, path)


def exists(path: Path | str) -> bool:
    """Whether there is such a file or folder."""
    return _is(Path.exists, path)


def _is(check: Callable[[Path], bool], path: Path | str) -> bool:
    try:
        return check(Path(path))
    except (OSError, ValueError, RuntimeError):
        return False
