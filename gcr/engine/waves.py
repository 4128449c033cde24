"""Waves: many runs of a batch through the one loop, and what happens when one of them fails.

A wave draws for all of its runs, each in calls of its own (`apart`), and then judges for all in
one, so that images go through the critic in batches and two models that take turns on one device
change places once a round.
Where that raises, nobody knows for which run: so each goes on alone, from its saved rounds, and
those that raise alone have failed.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gcr.core import loop
from gcr.core.guards import lost
from gcr.core.ranking import best_scored
from gcr.core.records import Request, Run, StopReason
from gcr.core.view import Watcher, after_an_error
from gcr.critic import limits
from gcr.engine.isolation import Apart
from gcr.errors import GcrError, UnavailableError
from gcr.files.locks import take
from gcr.storage.runfolder import RunFolder
from gcr.storage.summary import Result, Summary, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from gcr.core.records import Preference
    from gcr.engine.single import Parts
    from gcr.inputs.jobs import Job
    from gcr.settings.resolving import Settings
    from gcr.storage.batchfolder import BatchFolder

logger = logging.getLogger(__name__)

SIZE = 16


@dataclass(frozen=True, slots=True)
class Pace:
    """How a batch is worked through; none of it changes an image.

    wave: runs that advance together. shard: which part of how many, both from 1.
    most_failures: after which the batch stops; None: no limit.
    ray: where the cluster of Ray is that does it, as `cluster` has it; empty: this process does it.
        workers: how many on that cluster; None: as many as suit it.
    """

    wave: int = SIZE
    shard: tuple[int, int] = (1, 1)
    most_failures: int | None = None
    ray: str = ""
    workers: int | None = None


class Overview(Watcher, Protocol):
    """Told what happens in a batch; each call returns at once."""

    def begin(self, total: int, done: int) -> None:
        """total: prompts of the batch, or of its shard; done: those that are done already."""
        ...

    def result(self, result: Result) -> None: ...
    def end(self) -> None: ...


class Member(NamedTuple):
    """A run in a wave."""

    job: Job
    folder: RunFolder

    def interrupt(self) -> None:
        self.folder.finish(StopReason.INTERRUPTED, best_scored(self.folder.run))


def opened(
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


class Waves:
    """Works through jobs, so many at a time.

    stopping: asked before each wave and drawing whether to stop there, where all rounds are saved.
    failures: how many prompts failed. busy: ids of the jobs that were left to other processes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each for itself
        self,
        batch: BatchFolder,
        parts: Parts,
        summary: Summary,
        view: Overview,
        pace: Pace,
        stopping: Callable[[], bool],
    ) -> None:
        self._batch = batch
        self._parts = parts
        self._summary = summary
        self._before = dict(summary.results)
        self._view = view
        self._pace = pace
        self._stopping = stopping
        self._ended: set[str] = set()  # ids of jobs
        self.failures = 0
        self.busy: frozenset[str] = frozenset()

    @property
    def stopped(self) -> bool:
        """Whether too many prompts failed."""
        most = self._pace.most_failures
        return most is not None and self.failures >= most

    def work(self, jobs: Iterable[Job]) -> None:
        """Finish all jobs, but those that other processes are at.

        Raises KeyboardInterrupt when stopping, UnavailableError where the critic is gone, and
        GcrError where the batch's own files cannot be written.
        """
        left = list(jobs)
        while left:
            busy: list[Job] = []
            with closing(self._claimed(left, busy)) as waves:
                for wave in waves:
                    self._advance_all(wave)
            self.busy = frozenset(job.id for job in busy)
            if len(busy) == len(left):
                return
            left = busy  # whoever had them may have ended since

    def _claimed(self, jobs: Iterable[Job], busy: list[Job]) -> Generator[list[Member]]:
        """Waves of jobs that nobody else is at, held while they are worked on."""
        waiting = iter(jobs)
        while not self.stopped:
            with ExitStack() as held:
                wave: list[Member] = []
                for job in waiting:
                    claim = take(self._batch.prepared(job))
                    if claim is None:
                        busy.append(job)
                        continue
                    held.callback(claim.release)
                    member = self._member(job)
                    if member is None:
                        claim.release()
                    else:
                        wave.append(member)
                    if len(wave) == self._pace.wave or self.stopped:
                        break
                if not wave or self.stopped:
                    return
                if self._stopping():
                    raise KeyboardInterrupt
                yield wave

    def _member(self, job: Job) -> Member | None:
        """The job with its run; None: it is done since, or its folder is damaged."""
        self._summary.refresh()
        known = self._summary.results.get(job.id)
        if known is not None and known is not self._before.get(job.id):
            return None
        try:
            parts = self._parts
            return Member(job, opened(self._batch, job, parts.settings, parts.revisions))
        except Exception as error:  # noqa: BLE001 - one failed prompt fails alone
            self._fail(job, None, error)
            return None

    def _advance_all(self, wave: Sequence[Member]) -> None:
        try:
            self._advance_or_part(wave)
        except BaseException:
            for member in self._unfinished(wave):
                with after_an_error(self._view):
                    member.interrupt()
            raise
        for member in self._unfinished(wave):
            member.interrupt()

    def _advance_or_part(self, wave: Sequence[Member]) -> None:
        """Advance a wave to its end; where that raises, each of its runs alone."""
        try:
            self._advance(wave)
        except UnavailableError:
            raise  # of all prompts that are left, none would fare better
        except Exception as error:
            if len(wave) == 1:
                self._fail(*wave[0], error)
                return
            logger.info("a wave failed; its runs go on one by one", exc_info=error)
            for member in self._unfinished(wave):
                if self.stopped:
                    return
                self._advance_or_part([member])

    def _unfinished(self, wave: Sequence[Member]) -> list[Member]:
        return [member for member in wave if member.job.id not in self._ended]

    def _advance(self, wave: Sequence[Member]) -> None:
        """Run the loop until all runs stop. Rounds are on disk before anything is said of them.

        Raises KeyboardInterrupt where it was asked to stop before.
        """
        members = {member.folder.run.id: member for member in wave}
        rule = self._parts.rule
        self._finish([(one, why) for one in wave if (why := rule.reason(one.folder.run))])
        apart = Apart(self._parts.strategy, self._parts.generator, rule)
        stopped: list[tuple[Member, StopReason]] = []
        for step in loop.refine(
            [member.folder.run for member in wave],
            apart,
            self._parts.critic,
            apart,
            rule,
            history=self._parts.settings.history,
            gallery=lambda run, name: members[run.id].folder.gallery(run, name),
            overlap=self._parts.can_overlap,
            pause=self._stopping,
        ):
            member = members[step.run.id]
            member.folder.save(step.run, step.images)
            if step.run.stop is not None:
                stopped.append((member, step.run.stop))
            if step.last:
                self._finish(stopped)
                stopped = []
        if self._unfinished(wave):
            raise KeyboardInterrupt

    def _finish(self, stopped: Sequence[tuple[Member, StopReason]]) -> None:
        """Compare raw images with the best, for all in one.

        Raises UnavailableError where the critic is gone, after the runs are closed without it.
        """
        preferences: list[Preference | None] = [None] * len(stopped)
        try:
            folders = [member.folder for member, _ in stopped]
            preferences = self._parts.compared(folders, self._view)
        finally:
            for (member, stop), preference in zip(stopped, preferences, strict=True):
                self._close(member, stop, preference)

    def _close(self, member: Member, stop: StopReason, preference: Preference | None) -> None:
        best = best_scored(member.folder.run)
        try:
            member.folder.finish(stop, best, preference)
        except Exception as error:  # noqa: BLE001 - one failed prompt fails alone
            self._fail(*member, error)
            return
        self._note(member.job, member.folder, "" if best else "no image could be scored")

    def _fail(self, job: Job, folder: RunFolder | None, error: Exception) -> None:
        logger.info("prompt %s failed", job.id, exc_info=error)
        if folder is not None:
            with after_an_error(self._view):
                folder.finish(StopReason.FAILED, best_scored(folder.run))
        reason = (
            error.message if isinstance(error, GcrError) else f"{type(error).__name__}: {error}"
        )
        try:
            self._note(job, folder, reason)
        except GcrError as later:
            if not isinstance(error, GcrError):
                raise
            self._view.warn(later.message, later.hint)
            raise error from later

    def _note(self, job: Job, folder: RunFolder | None, failure: str) -> None:
        path = self._batch.run_path(job).relative_to(self._batch.path)
        result = result_of(job, path.as_posix(), folder.run if folder else None, failure)
        self._summary.add(result)  # where it cannot be written, the batch cannot go on
        self._ended.add(job.id)
        self.failures += bool(failure)
        self._view.result(result)
