"""stdout and stderr that may be closed or full at any time, without an end to the work.

What is said on stderr is not worth that. Of stdout, which has the result, the first error is kept,
so that it can be told once when all is done; a reader who has had enough is none to tell of.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lenient:
    """A text stream that drops what cannot be written.

    stream: None: it was closed before this process began. error: why something was dropped.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.error: OSError | ValueError | None = None
        self._closed = stream is None
        self._stream = stream or _nowhere()

    def write(self, text: str) -> int:
        if self._closed:
            self.error = OSError(errno.EBADF, "it is closed")
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._give_up(error)
        except RuntimeError as error:
            if "reentrant" not in str(error):  # a signal spoke amid another word
                raise
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        """Write into nothing from here on, also what is still waiting to be written."""
        self.error = self.error or error
        nowhere = _nowhere()
        try:
            os.dup2(nowhere.fileno(), self._stream.fileno())
        except (OSError, ValueError):
            self._stream = nowhere  # it has no file of its own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lenient() -> Iterator[Lenient]:
    """Have stdout and stderr drop what they cannot take; gives stdout."""
    _occupy()
    before = sys.stdout, sys.stderr
    out = Lenient(sys.stdout)
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", Lenient(sys.stderr))
    try:
        yield out
    finally:
        out.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _occupy() -> None:
    """Have nothing else be opened under the numbers of the three streams, and be written into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for as long as we live
