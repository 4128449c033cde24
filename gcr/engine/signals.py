"""Signals that ask this process to end: Ctrl-C, and what Slurm, Docker and a closed terminal send.

All of them interrupt as Ctrl-C does, and the exit code tells which it was: 128 and its number.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

BROKEN_PIPE = 128 + 13
"""The exit code of whoever writes to a pipe that nobody reads any more: that of SIGPIPE, which ends
other tools there. It is no failure, but what was printed is not all there is."""

_last = int(signal.SIGINT)


def exit_code() -> int:
    """Of a process that ends because it was asked to."""
    return 128 + _last


def note(number: int) -> None:
    """Remember which signal came last."""
    global _last  # noqa: PLW0603 - signals come to the process
    _last = number


def handled(handler: Handler) -> Mapping[int, Any]:
    """Install a handler for every ending signal that is not ignored; returns those before.

    `nohup` ignores SIGHUP; a handler that was not set from Python could not be put back.

    Nothing changes outside of the main thread, where Python hears no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [n for n in ENDING if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in heard}


def put_back(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def interrupting() -> Iterator[None]:
    """Have each raise KeyboardInterrupt inside."""
    note(int(signal.SIGINT))
    before = handled(_interrupt)
    try:
        yield
    finally:
        put_back(before)


@contextmanager
def held_back() -> Iterator[None]:
    """Interrupt only after what is inside, at the second signal at once.

    An import that is broken off leaves halves of modules, and some libraries swallow the exception.
    """
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        note(number)
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    before = handled(hear)
    try:
        yield
    finally:
        put_back(before)
    if heard:
        raise KeyboardInterrupt


@contextmanager
def kept() -> Iterator[None]:
    """Put back what a library makes of them inside."""
    current = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in current.items() if handler is not None}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            put_back(before)


def _interrupt(number: int, _: FrameType | None) -> None:
    note(number)
    raise KeyboardInterrupt
