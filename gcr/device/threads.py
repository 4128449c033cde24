"""How many of torch's threads a model computes with on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user says how many. An empty one says nothing."""

_lock = Lock()
_limits = 0  # that are in force
_usual = 0  # threads without any


def unless_chosen(count: int, environ: Mapping[str, str] | None = None) -> int | None:
    """So many threads; None where the user's environment says how many."""
    environ = os.environ if environ is None else environ
    return None if any(environ.get(name) for name in CHOSEN_BY) else count


@contextmanager
def at_most(count: int | None) -> Iterator[None]:
    """Have torch compute with so many threads inside, and with as many as before afterwards.

    None: as it is. torch keeps the number for each thread that calls it, and the one set last for
    threads that are new to it; so what is put back is what was there before any limit.
    """
    if count is None:
        yield
        return
    global _limits, _usual  # noqa: PLW0603 - torch has one number for the process, too
    import torch

    with _lock:
        _usual = _usual if _limits else torch.get_num_threads()
        _limits += 1
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _lock:
            _limits -= 1
            torch.set_num_threads(_usual)
