"""Work done aside: it begins now, in a thread of its own, and its result is asked for later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

NAME = "gcr aside"


def aside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Begin the work, and give what waits for its result, or raises what it raised.

    The thread is of the kind that a process does not wait for: nor need Ctrl-C.
    """
    future: Future[Result] = Future()

    def act() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=act, daemon=True, name=NAME).start()
    return future.result


def going_on() -> bool:
    """Whether something is still done aside, though nobody may be waiting for it."""
    return any(thread.name == NAME for thread in threading.enumerate())
