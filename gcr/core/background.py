"""What goes on beside the work at hand: other work, in threads, and Python's garbage collection."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

NAME = "gcr background"


def in_background(work: Callable[[], Result]) -> Callable[[], Result]:
    """Start the work at once. Returns what waits for its result, or raises what it raised.

    A process does not wait for the thread when it ends, and Ctrl-C does not either.
    """
    future: Future[Result] = Future()

    def act() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=act, daemon=True, name=NAME).start()
    return future.result


def is_busy() -> bool:
    """Whether something still runs in the background, though nobody may be waiting for it."""
    return any(thread.name == NAME for thread in threading.enumerate())


@contextmanager
def no_collection() -> Iterator[None]:
    """Make many objects that stay: looking through them again and again takes as long as that."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
