"""An append-only file of JSON lines: rounds.jsonl, summary.jsonl and scores.jsonl.

A record exists once its line is whole. A last line without its end is either being written or was
left by a process that died: readers pass over it, and the next writer cuts it off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gcr.errors import GcrError
from gcr.files import atomic
from gcr.files.structured import damage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path


class DamagedLineError(GcrError):
    """A line that holds no record, or not the one that belongs there.

    Attributes:
        line: its number in the file, from 1.
    """

    def __init__(self, path: Path, line: int, cause: Exception, hint: str) -> None:
        super().__init__(damage(path, cause, line), hint)
        self.line = line


class JsonLines:
    """An append-only file of JSON lines, which is read as it grows.

    Only whoever holds the folder, or has its `turn`, may append, mend or keep.

    Arguments:
        path: the file; it need not exist yet.
        hint: what a user can do about a damaged line.

    Attributes:
        count: the lines that were read so far.
    """

    def __init__(self, path: Path, hint: str) -> None:
        self.path = path
        self.count = 0
        self._hint = hint
        self._size = 0  # bytes of the lines that were read
        self._last = b""  # the last of them

    def read(
        self, take: Callable[[bytes, int], None], *, tolerant: bool = False
    ) -> list[DamagedLineError]:
        """Pass on every whole line that was added since the last call.

        Where lines were removed since then, all lines are passed on again.

        Arguments:
            take: gets a line and its number, from 1. It raises AttributeError, KeyError,
                TypeError or ValueError for a damaged line.
            tolerant: pass over damaged lines and return an error for each.

        Raises DamagedLineError for the first damaged line, which the next call meets again, and
        OSError where the file cannot be read.
        """
        if not self.path.exists():
            return []
        # Opened first: what another machine wrote to a network file system is seen from then on.
        with atomic.reading(self.path) as file:
            file.seek(self._size - len(self._last))
            if file.read(len(self._last)) != self._last:
                self.count, self._size, self._last = 0, 0, b""
                file.seek(0)
            added = _whole(file.read())
        lines = added.splitlines(keepends=True)
        errors = []
        for number, line in enumerate(lines, self.count + 1):
            try:
                take(line, number)
            except (AttributeError, KeyError, TypeError, ValueError) as cause:
                error = DamagedLineError(self.path, number, cause, self._hint)
                if not tolerant:
                    raise error from cause
                errors.append(error)
        self.count += len(lines)
        self._size += len(added)
        self._last = lines[-1] if lines else self._last
        return errors

    def append(self, record: bytes) -> None:
        """Add a line, which is on the disk when this returns. Raises GcrError, also for a link."""
        self.mend()
        atomic.append(self.path, record + b"\n")

    def mend(self) -> int:
        """Cut off a last line without its end, so that the next line does not run into it.

        Returns the number of that line; 0: every line is whole. Raises GcrError.
        """
        with atomic.writing(self.path):
            if not self.path.exists():
                return 0
            with atomic.reading(self.path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read() in (b"", b"\n"):
                    return 0
                file.seek(0)
                whole = _whole(file.read())
        atomic.cut(self.path, len(whole))
        return whole.count(b"\n") + 1

    def keep(self, numbers: Collection[int]) -> None:
        """Leave only the lines with these numbers, from 1. Raises GcrError."""
        lines = _whole(atomic.read(self.path)).splitlines(keepends=True)
        kept = (line for number, line in enumerate(lines, 1) if number in numbers)
        atomic.write(self.path, b"".join(kept))


def _whole(content: bytes) -> bytes:
    """The lines that have their ends."""
    return content[: content.rfind(b"\n") + 1]
