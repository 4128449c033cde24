"""Work done aside: it begins now, in a thread of its own, and its result is asked for later."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def aside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Begin the work, and give what waits for its result, or raises what it raised.

    The thread is of the kind that ends with the process: Ctrl-C need not wait for it.
    """
    future: Future[Result] = Future()

    def act() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    Thread(target=act, daemon=True).start()
    return future.result
