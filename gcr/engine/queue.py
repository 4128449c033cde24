"""The prompts of a batch as a queue of runs: claimed against other processes, and written down."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.core.events import Notice, PromptFinished
from gcr.core.guards import lost
from gcr.core.ranking import best_scored
from gcr.core.records import Request, Run
from gcr.critic import limits
from gcr.engine import waves
from gcr.errors import GcrError
from gcr.files.locks import take
from gcr.storage.batchfolder import result_of
from gcr.storage.runfolder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from gcr.core.events import Consumer
    from gcr.engine.parts import Parts
    from gcr.inputs.jobs import Job
    from gcr.settings.schema import Settings
    from gcr.storage.batchfolder import BatchFolder, Summary

logger = logging.getLogger(__name__)


def open_run(
    batch: BatchFolder, job: Job, settings: Settings, revisions: Mapping[str, str | None]
) -> RunFolder:
    """A job's run, as far as it is on disk; begun where it is not.

    Raises UsageError for a prompt of which the critic understands nothing.
    """
    limits.check(job.prompt, settings)
    path = batch.run_path(job)
    keep = tuple(span for span in settings.keep if not list(lost([span], job.prompt)))
    request = Request(job.prompt, job.negative or settings.negative, keep)
    recorded = {**batch.settings, "seed": job.seed, "keep": list(keep)}
    if (path / "run.json").exists():
        folder = RunFolder.open(path)
        folder.check(request, recorded)
        return folder
    if settings.score == "checklist":
        request = replace(request, checklist=batch.checklist(job))
    return RunFolder.begin(path, Run(f"{batch.id}-{job.folder}", request, recorded), revisions)


class BatchQueue:
    """Jobs of a batch that nobody else is at.

    size: runs in a wave. most_failures: prompts that may fail before no other is begun; None: all.
    failures: how many failed. busy: jobs that were left to other processes.
    """

    alone = False

    def __init__(  # noqa: PLR0913 - each for itself
        self,
        batch: BatchFolder,
        summary: Summary,
        parts: Parts,
        emit: Consumer,
        *,
        size: int,
        most_failures: int | None = None,
    ) -> None:
        self._batch = batch
        self._summary = summary
        self._before = dict(summary.results)
        self._parts = parts
        self._emit = emit
        self._size = size
        self._most_failures = most_failures
        self._jobs: dict[str, Job] = {}  # by the ids of their runs
        self._waiting: list[Job] = []
        self.failures = 0
        self.busy: list[Job] = []

    def work(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> None:
        """Finish all jobs, but those that other processes are at. Raises as `waves.work` does, and
        GcrError where the batch's own files cannot be written.
        """
        waiting = list(jobs)
        while waiting:
            self._waiting, self.busy = waiting, []
            waves.work(self, self._parts, self._emit, stop=stop)
            if len(self.busy) == len(waiting):
                return
            waiting = self.busy  # whoever had them may have ended since

    @property
    def closed(self) -> bool:
        """Whether too many prompts failed."""
        return self._most_failures is not None and self.failures >= self._most_failures

    def waves(self) -> Generator[list[RunFolder]]:
        jobs = iter(self._waiting)
        while not self.closed:
            with ExitStack() as held:
                wave: list[RunFolder] = []
                for job in jobs:
                    claim = take(self._batch.prepared(job))
                    if claim is None:
                        self.busy.append(job)
                        continue
                    held.callback(claim.release)
                    folder = self._opened(job)
                    if folder is None:
                        claim.release()
                    else:
                        wave.append(folder)
                    if len(wave) == self._size or self.closed:
                        break
                if not wave or self.closed:
                    return
                yield wave

    def finished(self, folder: RunFolder) -> None:
        failure = "" if best_scored(folder.run) else "no image could be scored"
        self._note(self._jobs[folder.run.id], folder, failure)

    def failed(self, folder: RunFolder, error: Exception) -> None:
        self._fail(self._jobs[folder.run.id], folder, error)

    def _opened(self, job: Job) -> RunFolder | None:
        """The job's run; None: it is done since, or its folder is damaged."""
        self._summary.refresh()
        known = self._summary.results.get(job.id)
        if known is not None and known is not self._before.get(job.id):
            return None
        try:
            folder = open_run(self._batch, job, self._parts.settings, self._parts.revisions)
        except Exception as error:
            logger.info("prompt %s failed", job.id, exc_info=error)
            self._fail(job, None, error)
            return None
        self._jobs[folder.run.id] = job
        return folder

    def _fail(self, job: Job, folder: RunFolder | None, error: Exception) -> None:
        failure = (
            error.message if isinstance(error, GcrError) else f"{type(error).__name__}: {error}"
        )
        try:
            self._note(job, folder, failure)
        except GcrError as later:
            if not isinstance(error, GcrError):
                raise
            self._emit(Notice(later.message, later.hint))
            raise error from later

    def _note(self, job: Job, folder: RunFolder | None, failure: str) -> None:
        path = self._batch.run_path(job).relative_to(self._batch.path)
        result = result_of(job, path.as_posix(), folder.run if folder else None, failure)
        self._summary.add(result)  # where it cannot be written, the batch cannot go on
        self.failures += bool(failure)
        self._emit(PromptFinished(result))
