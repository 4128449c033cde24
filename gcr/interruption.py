"""Ctrl-C that loses no work: the first ends a run after the round in hand, the second at once."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from gcr.view import Silent, View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from gcr.batches.summary import Result
    from gcr.batches.waves import Overview
    from gcr.comparisons.arms import View as ComparisonView
    from gcr.records import Attempt, Run


class Ears:
    """Hears Ctrl-C: the first is remembered, the second raises KeyboardInterrupt.

    warn: told of the first, with a hint. Outside of the main thread, where Python hears no
    signals, nothing is changed.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self.asked = False
        self._warn = warn
        self._before: Any = None  # a handler of signals

    def open(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)

    def close(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _hear(self, _: int, __: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._warn("stopping after this round", "Ctrl-C again stops at once")


class Patient:
    """A view around another that hears Ctrl-C while rounds are drawn.

    A round that was half drawn could not be gone on with, so the round, not the image, is what
    the first Ctrl-C waits for. Outside of the main thread, where Python hears no signals, this
    view only passes on.
    """

    def __init__(self, view: View | None) -> None:
        self._view = view or Silent()
        self._ears = Ears(self._view.warn)

    def warn(self, message: str, hint: str) -> None:
        self._view.warn(message, hint)

    def loading(self, what: str) -> None:
        self._view.loading(what)

    def begin(self, run: Run) -> None:
        self._view.begin(run)
        self._ears.open()

    def progress(self, phase: str, done: int, total: int) -> None:
        self._view.progress(phase, done, total)

    def round(self, run: Run, best: Attempt | None) -> None:
        """Raises KeyboardInterrupt after a round in which Ctrl-C was heard, unless it was last."""
        self._view.round(run, best)
        if self._ears.asked and run.stop is None:
            raise KeyboardInterrupt

    def end(self, run: Run, best: Attempt | None, folder: Path) -> None:
        self._ears.close()
        self._view.end(run, best, folder)


class PatientBatch:
    """An overview around another that hears Ctrl-C while a batch is worked on."""

    def __init__(self, view: Overview) -> None:
        self._view = view
        self._ears = Ears(view.warn)

    def asked(self) -> bool:
        """Whether Ctrl-C was heard: the batch is to stop where all rounds are saved."""
        return self._ears.asked

    def warn(self, message: str, hint: str) -> None:
        self._view.warn(message, hint)

    def loading(self, what: str) -> None:
        self._view.loading(what)

    def progress(self, phase: str, done: int, total: int) -> None:
        self._view.progress(phase, done, total)

    def begin(self, total: int, done: int) -> None:
        self._view.begin(total, done)
        self._ears.open()

    def result(self, result: Result) -> None:
        self._view.result(result)

    def end(self) -> None:
        self._ears.close()
        self._view.end()


class PatientComparison(PatientBatch):
    """A view of a comparison around another that hears Ctrl-C while an arm is worked on."""

    def __init__(self, view: ComparisonView) -> None:
        super().__init__(view)
        self._comparison = view

    def arm(self, name: str) -> None:
        self._comparison.arm(name)
