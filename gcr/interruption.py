"""Ctrl-C that loses no work: the first ends a run after the round in hand, the second at once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from gcr.view import Silent, View

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from gcr.records import Attempt, Run


class Patient:
    """A view around another that hears Ctrl-C while rounds are drawn.

    A round that was half drawn could not be gone on with, so the round, not the image, is what
    the first Ctrl-C waits for. Outside of the main thread, where Python hears no signals, this
    view only passes on.
    """

    def __init__(self, view: View | None) -> None:
        self._view = view or Silent()
        self._asked = False
        self._before: Any = None  # a handler of signals

    def warn(self, message: str, hint: str) -> None:
        self._view.warn(message, hint)

    def loading(self, what: str) -> None:
        self._view.loading(what)

    def begin(self, run: Run) -> None:
        self._view.begin(run)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)

    def progress(self, phase: str, done: int, total: int) -> None:
        self._view.progress(phase, done, total)

    def round(self, run: Run, best: Attempt | None) -> None:
        """Raises KeyboardInterrupt after a round in which Ctrl-C was heard, unless it was last."""
        self._view.round(run, best)
        if self._asked and run.stop is None:
            raise KeyboardInterrupt

    def end(self, run: Run, best: Attempt | None, folder: Path) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        self._view.end(run, best, folder)

    def _hear(self, _: int, __: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._view.warn("stopping after this round", "Ctrl-C again stops at once")
