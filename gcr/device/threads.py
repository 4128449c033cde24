"""How many of torch's threads a model computes with on a CPU, and how long it is at work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Self

CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user sets how many; empty ones do not count."""

_lock = Lock()
_limits = 0  # how many are in force
_unlimited = 0  # threads without any limit


def unless_chosen(count: int, environ: Mapping[str, str] | None = None) -> int | None:
    """The count itself; None where the user's environment says how many threads."""
    environ = os.environ if environ is None else environ
    return None if any(environ.get(name) for name in CHOSEN_BY) else count


@contextmanager
def at_most(count: int | None) -> Iterator[None]:
    """Limit torch's threads inside, and restore their number afterwards.

    count: of threads; None: no limit. torch keeps a number for each thread that calls it, and new
    threads take the one that was set last; so the number from before any limit is restored.
    """
    if count is None:
        yield
        return
    global _limits, _unlimited  # noqa: PLW0603 - torch has one number for the process, too
    import torch

    with _lock:
        _unlimited = _unlimited if _limits else torch.get_num_threads()
        _limits += 1
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            _limits -= 1
            torch.set_num_threads(_unlimited)


class Stopwatch:
    """A clock that runs inside `with` blocks.

    Attributes:
        seconds: of all blocks so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._since
