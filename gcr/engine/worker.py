"""A worker of a batch: a pair of models of its own, and the prompts that it is handed.

`crew` hands them out, and `cluster` runs workers as actors of Ray; this module knows neither.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gcr.core.events import Event, Notice, PromptFinished
from gcr.core.records import Result
from gcr.device.memory import take_share
from gcr.engine import cautions, parts
from gcr.engine.queue import BatchQueue
from gcr.errors import UsageError
from gcr.storage.batchfolder import BatchFolder, Summary

if TYPE_CHECKING:
    from gcr.engine.plan import Plan
    from gcr.inputs.jobs import Job

PASSED = (
    *("GCR_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "GCR_API_KEY", "OPENAI_API_KEY", "GCR_CACHE"),
    *("GCR_YES", "OMP_NUM_THREADS"),
)
"""Variables that are to hold for workers, too. How many threads torch has on a CPU decides how sums
are rounded, and with it the last bit of a few pixels."""

Warned = tuple[tuple[str, str], ...]
"""Warnings with their hints."""


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
        Raises UsageError where that folder is not, and as `parts.load` does.
        """
        if not near.is_dir():
            raise _unseen(near)
        os.environ.update(environ)  # torch, which reads some, is not imported yet
        take_share(share)
        with Notes() as notes:
            settings, questions = plan.settings, plan.questions
            self._parts = parts.load(
                settings, questions, notes, negative=plan.negative, prompts=plan.prompts
            )
            plan.caution_of_length(self._parts.generator, notes)
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
            cautions.of_changes(self._batch, self._parts.revisions, notes)
        return self._batch


def environment() -> dict[str, str]:
    """What workers must know of this process's environment; what is empty is left to theirs."""
    return {name: value for name in PASSED if (value := os.environ.get(name))}


def _unseen(path: Path) -> UsageError:
    return UsageError(
        f"the worker on {platform.node()} does not see the folder {path}",
        "name one on a file system that all machines share, with --into or --output",
    )
