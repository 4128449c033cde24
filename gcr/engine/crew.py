"""The workers of a batch, each with models of its own, and how prompts are handed out to them.

Prompts are handed out as workers become free. Where a worker dies, its prompts are handed out
again, after all others and one by one, so that one that kills its worker takes no other with it;
each goes on from its saved rounds. What came of prompts is read from the batch's folder. `cluster`
runs workers as actors of Ray, of which this module knows nothing.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from gcr.core import phrases
from gcr.core.events import Event, Loading, Notice, Progress, PromptFinished
from gcr.core.records import Result
from gcr.device.memory import take_share
from gcr.engine import cautions
from gcr.engine import plan as plans
from gcr.engine.queue import BatchQueue
from gcr.errors import GcrError, UsageError
from gcr.storage.batchfolder import BatchFolder, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gcr.core.events import Consumer
    from gcr.engine.plan import Pace, Plan
    from gcr.inputs.jobs import Job

PASSED = (
    *("GCR_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "GCR_API_KEY", "OPENAI_API_KEY", "GCR_CACHE"),
    *("GCR_YES", "OMP_NUM_THREADS"),
)
"""Variables that are to hold for workers, too. How many threads torch has on a CPU decides how sums
are rounded, and with it the last bit of a few pixels."""

Warned = tuple[tuple[str, str], ...]
"""Warnings with their hints."""

DEATHS = 3
"""Deaths in a row after which a worker is not replaced."""

SHOWN = 3  # ids of prompts, at most

LEASE = 120.0
"""Seconds for which a file server may keep the claims of a machine that was lost: NFS's 90, and
some more. Those of a process that died on a machine that lives are gone with it."""


# A worker


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker's models are there. revisions: of them, by the role they play."""

    revisions: Mapping[str, str | None]
    warnings: Warned


@dataclass(frozen=True, slots=True)
class Hand:
    """Prompts for one worker.

    most_failures: after which it stops; None: no limit. patience: seconds to wait for prompts that
        another process still claims, because the worker that had them died.
    """

    jobs: tuple[Job, ...]
    most_failures: int | None = None
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a hand. busy: ids of the prompts that other processes are at."""

    results: tuple[Result, ...]
    busy: frozenset[str]
    warnings: Warned


class Notes(logging.Handler):
    """Collects notices, results and, inside a `with` block, gcr's log warnings, to be reported by
    another process.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: list[tuple[str, str]] = []
        self.results: list[Result] = []

    def __enter__(self) -> Self:
        logging.getLogger("gcr").addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("gcr").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.warnings.append((record.getMessage(), ""))

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.warnings.append((event.message, event.hint))
        elif isinstance(event, PromptFinished):
            self.results.append(event.result)


class Worker:
    """Loads the models once, and then does one hand of prompts after the other."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._batch: BatchFolder | None = None

    def load(
        self, plan: Plan, near: Path, environ: Mapping[str, str], share: float = 1.0
    ) -> Loaded:
        """Load the models. near: where the batch's folder is, or will be made.

        environ: variables of the process that hands out, as `environment` finds them. share: of a
        GPU that several workers have together.
        Raises UsageError where that folder is not, and as `plan.load` does.
        """
        if not near.is_dir():
            raise _unseen(near)
        os.environ.update(environ)  # torch, which reads some, is not imported yet
        take_share(share)
        with Notes() as notes:
            self._parts = plans.load(plan, notes)
            cautions.tell(notes, cautions.of_lengths(plan.jobs, self._parts.generator))
        return Loaded(self._parts.revisions, tuple(notes.warnings))

    def work(self, path: Path, hand: Hand) -> Done:
        """Do prompts of the batch in a folder, as one wave. Raises as `waves.work` does."""
        with Notes() as notes:
            batch, summary = self._opened(path, notes), Summary(path)
            left = summary.left(hand.jobs)
            queue = BatchQueue(
                batch,
                summary,
                self._parts,
                notes,
                size=len(hand.jobs),
                most_failures=hand.most_failures,
            )
            until = time.monotonic() + hand.patience
            try:
                queue.work(left, self._stop.is_set)  # what is written down from here on is done
                while queue.busy and time.monotonic() < until and not self._stop.wait(1.0):
                    queue.work(queue.busy, self._stop.is_set)
            except KeyboardInterrupt:
                if not self._stop.is_set():
                    raise
        busy = frozenset(job.id for job in queue.busy)
        return Done(tuple(notes.results), busy, tuple(notes.warnings))

    def stop(self) -> None:
        """End the hand after the round that is being drawn; called while `work` goes on."""
        self._stop.set()

    def _opened(self, path: Path, notes: Notes) -> BatchFolder:
        if self._batch is None:
            if not path.is_dir():
                raise _unseen(path)
            self._batch = BatchFolder.open(path)
            cautions.tell(notes, cautions.of_changes(self._batch, self._parts.revisions))
        return self._batch


def environment() -> dict[str, str]:
    """What workers must know of this process's environment; what is empty is left to theirs."""
    return {name: value for name in PASSED if (value := os.environ.get(name))}


def _unseen(path: Path) -> UsageError:
    return UsageError(
        f"the worker on {platform.node()} does not see the folder {path}",
        "name one on a file system that all machines share, with --into or --output",
    )


# Handing out


class WorkerDiedError(Exception):
    """A worker's process is gone. reason: as far as it is known, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Crew(Protocol):
    """Workers in other processes, known by their numbers. Each does one thing at a time."""

    size: int

    def hire(self, number: int) -> None:
        """Start a worker, also in place of one that died. The first it does is load its models."""
        ...

    def hand(self, number: int, path: Path, hand: Hand) -> None: ...

    def stop(self) -> None:
        """Let all workers end what they do after the round that is being drawn."""
        ...

    def ended(self, seconds: float) -> Sequence[int]:
        """Wait, but no longer, until some workers have done what they were to do."""
        ...

    def outcome(self, number: int) -> Loaded | Done:
        """What a worker did. Raises WorkerDiedError, and what the worker raised."""
        ...


class Handout:
    """Has a crew work through jobs. stop: asked often whether to stop after a round."""

    def __init__(self, crew: Crew, emit: Consumer, pace: Pace, stop: Callable[[], bool]) -> None:
        self._crew = crew
        self._emit = emit
        self._pace = pace
        self._stop = stop
        self._hands: dict[int, Hand | None] = {}  # of workers at work; None: they load
        self._idle: list[int] = []
        self._deaths: Counter[int] = Counter()
        self._waiting: deque[Job] = deque()
        self._orphans: deque[Job] = deque()
        self._busy: list[Job] = []
        self._open: dict[str, Job] = {}
        self._failures = 0
        self._told: set[tuple[str, str]] = set()
        self._revisions: Mapping[str, str | None] | None = None

    def load(self) -> Mapping[str, str | None]:
        """Start all workers; returns when the first is ready, with its models' revisions."""
        self._emit(Loading(f"the models of {_workers(self._crew.size)}"))
        for number in range(self._crew.size):
            self._hire(number)
        while self._revisions is None:
            self._wait()
        return self._revisions

    def work(self, batch: BatchFolder, summary: Summary, jobs: Iterable[Job]) -> frozenset[str]:
        """Finish all jobs but those that other processes are at, whose ids are returned.

        Raises KeyboardInterrupt when it is to stop, and GcrError where the batch cannot go on.
        """
        self._path, self._summary = batch.path, summary
        self._before = dict(summary.results)
        left = list(jobs)
        self._open = {job.id: job for job in left}
        while left:
            self._waiting, self._busy = deque(left), []
            self._hand_out()
            if self._stop() and len(self._open) > len(self._busy):
                raise KeyboardInterrupt
            if self._over or len(self._busy) == len(left):
                break
            left = self._busy  # whoever had them may have ended since
        return frozenset(job.id for job in self._busy)

    @property
    def _over(self) -> bool:
        """Whether nothing more is to be begun."""
        most = self._pace.most_failures
        return self._stop() or (most is not None and self._failures >= most)

    def _hand_out(self) -> None:
        told = False
        while any(self._hands.values()) or ((self._waiting or self._orphans) and not self._over):
            if not self._over:
                self._give()
            elif self._stop() and not told:
                self._crew.stop()
                told = True
            self._wait()

    def _give(self) -> None:
        """Give the workers that wait something to do."""
        while self._idle and (hand := self._next()):
            number = self._idle.pop(0)
            self._hands[number] = hand
            self._crew.hand(number, self._path, hand)

    def _next(self) -> Hand | None:
        """Large hands first, as models work best on many; small ones last, so that all workers
        end together (guided self-scheduling, Polychronopoulos and Kuck, 1987).
        """
        most = self._pace.most_failures
        limit = None if most is None else most - self._failures
        if self._waiting:
            size = min(self._pace.wave, ceil(len(self._waiting) / self._crew.size))
            return Hand(tuple(self._waiting.popleft() for _ in range(size)), limit)
        if self._orphans:
            return Hand((self._orphans.popleft(),), limit, LEASE)
        return None

    def _wait(self) -> None:
        """Wait for a moment, and take what workers have done since."""
        for number in self._crew.ended(0.5):
            hand = self._hands.pop(number)
            try:
                done = self._crew.outcome(number)
            except WorkerDiedError as died:
                self._bury(number, hand, died)
                continue
            self._idle.append(number)
            self._tell(done.warnings)
            if isinstance(done, Loaded):
                self._revisions = self._revisions or done.revisions
            elif hand:
                self._deaths[number] = 0
                self._see(done.results)
                self._busy += [job for job in hand.jobs if job.id in done.busy]
        if self._open:
            self._look()
            at_work = sum(hand is not None for hand in self._hands.values())
            words = f"{at_work} of {_workers(self._crew.size)} at work"
            self._emit(Progress(words, at_work, self._crew.size))

    def _bury(self, number: int, hand: Hand | None, died: WorkerDiedError) -> None:
        """Start another worker in place of one that died, and keep its prompts for later."""
        self._deaths[number] += 1
        left: list[Job] = []
        if hand:
            self._look()
            left = [job for job in hand.jobs if job.id in self._open]
            self._orphans += left
        ids = ", ".join(job.id for job in left[:SHOWN]) + ("…" if len(left) > SHOWN else "")
        again = self._deaths[number] < DEATHS and not self._over
        hint = "another takes its place, and goes on from saved rounds"
        self._emit(
            Notice(
                f"worker {number + 1} died{f' at {ids}' if ids else ''}: {died.reason}",
                hint
                if again
                else f"no other takes its place (deaths in a row: {self._deaths[number]})",
            )
        )
        if again:
            self._hire(number)
        elif not (self._hands or self._idle) and (self._revisions is None or not self._over):
            raise GcrError(
                f"no worker is left, each died {DEATHS} times in a row; the last: {died.reason}",
                "a smaller --wave and fewer --workers need less memory; gcr resume goes on",
            ) from died

    def _hire(self, number: int) -> None:
        self._hands[number] = None
        self._crew.hire(number)

    def _look(self) -> None:
        """Show what has been written down since the last time."""
        self._summary.refresh()
        found = [(id_, self._summary.results.get(id_)) for id_ in self._open]
        self._see(one for id_, one in found if one and one is not self._before.get(id_))

    def _see(self, results: Iterable[Result]) -> None:
        for result in list(results):
            if self._open.pop(result.id, None) is not None:
                self._failures += bool(result.failure)
                self._emit(PromptFinished(result))

    def _tell(self, warnings: Iterable[tuple[str, str]]) -> None:
        """Give each warning once, though every worker may have it."""
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._emit(Notice(*warning))


def _workers(count: int) -> str:
    return phrases.count(count, "worker")
