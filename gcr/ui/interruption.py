"""Interruptions that lose no work: the first ends it after the round in hand, the next at once.

Ctrl-C, SIGTERM and SIGHUP are all the same here.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gcr.core.events import Event, Notice, RoundFinished, WorkFinished, WorkStarted
from gcr.engine import signals
from gcr.ui.terminal import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from gcr.core.events import Consumer


class Interruption:
    """A consumer around another that hears signals while work goes on.

    A round that was half drawn could not be gone on with, so the round, not the image, is what the
    first signal waits for: `requested` is then true, which whoever works asks for. The second
    interrupts at once. Outside of the main thread, where Python hears no signals, events are only
    passed on.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._requested = False
        self._before: Mapping[int, Any] = {}  # handlers of signals
        self._at_rest = False

    def __call__(self, event: Event) -> None:
        match event:
            case WorkStarted():
                self._consumer(event)
                self._before = signals.handled(self._hear)
            case WorkFinished():
                signals.put_back(self._before)
                self._before = {}
                self._consumer(event)
            case RoundFinished(run, _) if run.stop is None:
                with self.at_rest():
                    self._consumer(event)
            case _:
                self._consumer(event)

    def requested(self) -> bool:
        """Whether the work is to end where all rounds are saved."""
        return self._requested

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
        if self._requested or self._at_rest:
            raise KeyboardInterrupt
        self._requested = True
        if number == signal.SIGINT:
            notice = Notice("stopping after this round", "Ctrl-C again stops at once")
        else:
            name = signal.Signals(number).name
            notice = Notice(f"{name}: stopping after this round", "a second signal stops at once")
        self._consumer(notice)


def say_nothing_is_saved(close: Callable[[], None] | None, folder: Path | None = None) -> None:
    """Say it of what was interrupted early.

    close: takes live lines away, which stood beside it.
    folder: where work was to be gone on with, or begun; None: in a new one.
    """
    from gcr.results import listing

    if close:
        close()
    if folder and listing.kind_of(folder):
        hint = f"{folder} is as it was; the same command goes on from there"
        failure("interrupted before anything more was saved", hint)
    else:
        failure("interrupted before anything was saved", "")
