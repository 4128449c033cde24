"""Interruptions that lose no work: the first ends a run after the round in hand, the next at once.

Ctrl-C, SIGTERM and SIGHUP are all the same here.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from gcr.core.view import Silent, View
from gcr.engine import signals
from gcr.ui.terminal import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from gcr.comparison.arms import View as ComparisonView
    from gcr.core.records import Attempt, Run
    from gcr.engine.waves import Overview
    from gcr.storage.summary import Result


class Ears:
    """Hears what asks to end: the first signal is remembered, the second interrupts.

    warn: told of the first, with a hint. Outside of the main thread, where Python hears no
    signals, nothing is changed.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self.asked = False
        self._warn = warn
        self._before: Mapping[int, Any] = {}  # handlers of signals
        self._at_rest = False

    def open(self) -> None:
        self._before = signals.handled(self._hear)

    def close(self) -> None:
        signals.put_back(self._before)
        self._before = {}

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """While this lasts nothing would be lost, and the first signal interrupts, too."""
        self._at_rest = True
        try:
            yield
        finally:
            self._at_rest = False

    def _hear(self, number: int, _: FrameType | None) -> None:
        signals.note(number)
        if self.asked or self._at_rest:
            raise KeyboardInterrupt
        self.asked = True
        if number == signal.SIGINT:
            self._warn("stopping after this round", "Ctrl-C again stops at once")
        else:
            name = signal.Signals(number).name
            self._warn(f"{name}: stopping after this round", "a second signal stops at once")


class Patient:
    """A view around another that hears signals while rounds are drawn.

    A round that was half drawn could not be gone on with, so the round, not the image, is what
    the first signal waits for. Outside of the main thread, where Python hears no signals, this
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
        """Raises KeyboardInterrupt after a round in which one was heard, unless it was last."""
        # The round is on disk, and whoever shows it may ask how to go on.
        with nullcontext() if run.stop else self._ears.at_rest():
            self._view.round(run, best)
        if self._ears.asked and run.stop is None:
            raise KeyboardInterrupt

    def end(self, run: Run, best: Attempt | None, folder: Path) -> None:
        self._ears.close()
        self._view.end(run, best, folder)


class PatientBatch:
    """An overview around another that hears signals while a batch is worked on."""

    def __init__(self, view: Overview) -> None:
        self._view = view
        self._ears = Ears(view.warn)

    def asked(self) -> bool:
        """Whether one was heard: the batch is to stop where all rounds are saved."""
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
    """A view of a comparison around another that hears signals while an arm is worked on."""

    def __init__(self, view: ComparisonView) -> None:
        super().__init__(view)
        self._comparison = view

    def arm(self, name: str) -> None:
        self._comparison.arm(name)


def say_nothing_is_saved(close: Callable[[], None] | None) -> None:
    """Say it of what was interrupted early. close: takes live lines away, which stood beside it."""
    if close:
        close()
    failure("interrupted before anything was saved", "")
