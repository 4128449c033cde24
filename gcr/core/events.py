"""What happens while work goes on, as data: whoever wants to watch takes events.

A consumer is any callable that takes an event. It is called where the event happens and returns at
once; where two models work at the same time, `Progress` comes from two threads. An exception that a
consumer raises ends the work as an error of the work itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gcr.core.records import Attempt, Result, Run
from gcr.errors import GcrError


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should know. hint: what to do about it; may be empty."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Loading:
    """Models, or a cluster, are being made ready.

    what: the name of what is loaded; empty: nothing any more.
    """

    what: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model is.

    phase: `draw`, `judge` or `evaluate`, or in words what is going on.
    done, total: images, steps or workers, as the phase has it.
    """

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class WorkStarted:
    """Models are loaded, and drawing begins: from here on an interruption has something to save.

    total: runs that are to be done in all. done: how many of them were done before.
    """

    total: int
    done: int = 0


@dataclass(frozen=True, slots=True)
class WorkFinished:
    """Nothing more is drawn or measured, whatever came of it."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run is begun or gone on with. folder: where it is."""

    run: Run
    folder: Path


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round is judged and on disk. run: with that round last. best: the best attempt so far."""

    run: Run
    best: Attempt | None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run has come to its end, good or not. folder: its own; the last write may have
    failed.
    """

    run: Run
    best: Attempt | None
    folder: Path


@dataclass(frozen=True, slots=True)
class PromptFinished:
    """A prompt of a batch is done, here or in a worker's process, and is in the summary."""

    result: Result


@dataclass(frozen=True, slots=True)
class ArmStarted:
    """Another arm of a comparison is drawn from here on."""

    name: str


Event = (
    Notice
    | Loading
    | Progress
    | WorkStarted
    | WorkFinished
    | RunStarted
    | RoundFinished
    | RunFinished
    | PromptFinished
    | ArmStarted
)

Consumer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The consumer of those who do not want to watch."""


@contextmanager
def after_an_error(emit: Consumer) -> Iterator[None]:
    """For what is left to do once something has failed: where that fails, too, it becomes a notice,
    so that the first error is the one that is shown.
    """
    try:
        yield
    except GcrError as error:
        emit(Notice(error.message, error.hint))
