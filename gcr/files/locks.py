"""Folders in use: locks that one process holds at a time, and that end with it.

They are the operating system's, on files in the folder, so that nothing has to be cleared up after
a crash or `kill -9`. On network file systems they hold between machines where `flock` does, as on
NFS and Lustre.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from filelock import lock_descriptor

from gcr.errors import UsageError
from gcr.files.atomic import opened, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = ".claim"
PAUSE = 0.005  # seconds between looks at a lock that is waited for: it is held for a moment


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
        if lock_descriptor(file.fileno(), blocking=False):
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
        lock_descriptor(file.fileno(), poll_interval=PAUSE)
    with file:
        yield
