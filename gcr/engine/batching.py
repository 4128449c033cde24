"""Batches: a plan in, a run folder for each prompt and a summary of all of them out.

Everything that can be wrong with prompts and settings is said before a model is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core.events import Loading, WorkFinished, WorkStarted, after_an_error, ignore
from gcr.engine import cautions
from gcr.engine import plan as plans
from gcr.engine.crew import Handout
from gcr.engine.machine import ThisMachine
from gcr.engine.outcome import BatchInterrupted, BatchOutcome, BatchStopped
from gcr.engine.plan import Pace
from gcr.engine.queue import BatchQueue
from gcr.engine.waves import never
from gcr.errors import UnavailableError, UsageError
from gcr.inputs import jobs
from gcr.settings.resolving import recalled
from gcr.storage import runfolder
from gcr.storage.batchfolder import NAME, BatchFolder, Summary

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Unpack

    from gcr.core.events import Consumer
    from gcr.engine.cluster import RayCrew
    from gcr.engine.parts import Parts
    from gcr.engine.plan import Plan
    from gcr.inputs.jobs import Job
    from gcr.settings.schema import ResumeOptions

    Load = Callable[[Plan, Consumer], Parts]


def paced(
    wave: int | None,
    shard: str | None,
    max_failures: int | None,
    ray: str | None,
    workers: int | None,
) -> Pace:
    """A pace from options as they are given. Raises UsageError."""
    if workers is not None and not ray:
        raise UsageError("--workers needs --ray", "--ray local starts a cluster on this machine")
    for option, number in (("wave", wave), ("max-failures", max_failures), ("workers", workers)):
        if number is not None and number < 1:
            raise UsageError(f"--{option} {number} is none", "give 1 or more")
    return Pace(wave or 0, jobs.read_shard(shard or "1/1"), max_failures, ray or "", workers)


def resume(
    path: Path,
    pace: Pace | None = None,
    *,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = never,
    **here: Unpack[ResumeOptions],
) -> BatchOutcome:
    """Go on with the batch of a folder, with the prompts and settings it was begun with.

    Prompts that failed are tried again. here: for `recalled`; stop, and raises: as `run`.
    """
    folder = BatchFolder.open(path)
    files = folder.story.get("files")
    names = [str(name) for name in files] if isinstance(files, list) else []
    plan = plans.plan_jobs(folder.jobs, names, recalled(folder.settings, ThisMachine(), **here))
    return run(plan, path, pace or Pace(), emit=emit, stop=stop)


def run(  # noqa: PLR0913 - each for itself
    plan: Plan,
    into: Path | None,
    pace: Pace,
    *,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = never,
    load: Load = plans.load,
) -> BatchOutcome:
    """Carry out a plan.

    into: the batch's folder; one that holds this batch already is gone on with. None: a new one.
    stop: asked before each drawing whether to end there. load: called once it is known that
        something is left to do.

    Prompts that fail raise nothing: see `BatchOutcome.failures`. Raises GcrError for what concerns
    all (BatchStopped has an outcome); on Ctrl-C BatchInterrupted, which is a KeyboardInterrupt.
    """
    if pace.shard != (1, 1) and into is None:
        raise UsageError("--shard needs --into", "name one folder that all shards share")
    started = time.perf_counter()
    share = jobs.shard(plan.jobs, *pace.shard)
    left = share
    if into is not None and (into / NAME).exists():
        before = BatchFolder.open(into)
        plan = plan.as_begun(before.settings)
        before.checked(plan.jobs, plan.recorded)
        left = Summary(into).left(share)
        if not left:
            return _outcome(into, plan, share, started)
    near = into or plan.settings.output
    runfolder.check_writable(near, "--into" if into else "--output")
    cautions.tell(emit, cautions.of_batch(plan.jobs, plan.settings))
    pace = replace(pace, wave=pace.wave or plan.wave)
    with ExitStack() as held:
        workforce: ThisProcess | Handout = ThisProcess(plan, pace, emit, stop, load)
        if pace.ray:
            crew = held.enter_context(_crew(plan, near, len(left), pace, emit))
            workforce = Handout(crew, emit, pace, stop)
        revisions = workforce.load()
        path = into or plans.new_folder(plan)
        folder = BatchFolder.begin(path, plan.jobs, plan.recorded, plan.files, revisions)
        summary = Summary(path)
        left = summary.left(share)
        try:
            emit(WorkStarted(len(share), len(share) - len(left)))
            busy = workforce.work(folder, summary, left)
        except KeyboardInterrupt as interrupt:
            raise BatchInterrupted(_outcome(path, plan, share, started, failed=emit)) from interrupt
        except UnavailableError as error:
            raise BatchStopped(error, _outcome(path, plan, share, started, failed=emit)) from error
        finally:
            emit(WorkFinished())
    return _outcome(path, plan, share, started, busy)


@dataclass(eq=False)
class ThisProcess:
    """Does all of a batch itself; `Handout` has the same methods, and has workers do it.

    parts: the models and what goes with them, once they are loaded.
    """

    plan: Plan
    pace: Pace
    emit: Consumer
    stop: Callable[[], bool]
    loader: Load
    parts: Parts = field(init=False)

    def load(self) -> Mapping[str, str | None]:
        """Load models; returns their revisions."""
        self.parts = self.loader(self.plan, self.emit)
        cautions.tell(self.emit, cautions.of_lengths(self.plan.jobs, self.parts.generator))
        return self.parts.revisions

    def work(self, batch: BatchFolder, summary: Summary, jobs: Sequence[Job]) -> frozenset[str]:
        """Finish all jobs but those that other processes are at, whose ids are returned.

        Raises as `waves.work` does.
        """
        cautions.tell(self.emit, cautions.of_changes(batch, self.parts.revisions))
        size, most = self.pace.wave, self.pace.most_failures
        queue = BatchQueue(batch, summary, self.parts, self.emit, size=size, most_failures=most)
        queue.work(jobs, self.stop)
        return frozenset(job.id for job in queue.busy)


def _crew(
    plan: Plan, near: Path, jobs: int, pace: Pace, emit: Consumer
) -> AbstractContextManager[RayCrew]:
    """The workers on Ray. near: where the batch's folder is, or will be made. jobs: prompts to be
    done.
    """
    from gcr.engine import cluster

    if pace.ray != cluster.LOCAL:
        cautions.tell(emit, cautions.of_server(plan.settings))
    emit(Loading(f"Ray ({pace.ray})"))
    return cluster.crew(plan, near.absolute(), pace.ray, pace.workers, jobs)


def _outcome(  # noqa: PLR0913 - each for itself
    path: Path,
    plan: Plan,
    share: Sequence[Job],
    started: float,
    busy: frozenset[str] = frozenset(),
    *,
    failed: Consumer | None = None,
) -> BatchOutcome:
    """What there is, also as a table.

    busy: ids of the prompts that other processes are at, whose earlier failures are no results.
    failed: given after a failure; told where there can be no table.
    """
    summary = Summary(path)
    with after_an_error(failed) if failed else nullcontext():
        summary.tabulate(job.id for job in plan.jobs)
    results = tuple(
        result
        for job in share
        if (result := summary.results.get(job.id)) and not (result.failure and job.id in busy)
    )
    elsewhere = len(busy - {result.id for result in results})
    unfinished = len(share) - len(results) - elsewhere
    return BatchOutcome(path, results, elsewhere, unfinished, time.perf_counter() - started)
