"""Folders in use: a lock that only one process holds, and that dies with it.

The lock is the operating system's, on a file in the folder, so that nothing has to be cleared up
after a crash or `kill -9`. On network file systems it holds between machines where `flock` does,
as NFS and Lustre have it. Windows has no such lock: there every claim is granted.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from gcr.errors import UsageError
from gcr.files.atomic import opened, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = ".claim"


class Claim:
    """A folder that nobody else can claim until it is released, or this process ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def release(self) -> None:
        self._file.close()


def take(folder: Path) -> Claim | None:
    """Claim a folder; None: another process has it. Raises GcrError where nothing can be written.

    One process can claim a folder only once, too.
    """
    path = folder / NAME
    with writing(path):
        file = opened(path)
        if _locked(file, wait=False):
            return Claim(file)
        file.close()
        return None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder. Raises UsageError where another process has it."""
    claim = take(folder)
    if claim is None:
        raise UsageError(f"{folder} is in use by another process", "wait until that one ends")
    try:
        yield
    finally:
        claim.release()


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else is at the files of a folder, and hold them for a moment."""
    path = folder / ".turn"
    with writing(path):
        file = opened(path)
        _locked(file, wait=True)
    with file:
        yield


def _locked(file: IO[bytes], *, wait: bool) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
