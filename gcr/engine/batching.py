"""Batches: prompt files in, a run folder for each prompt and a summary of all of them out.

Everything that can be wrong with prompts and settings is said before a model is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gcr.core.view import after_an_error
from gcr.engine import cautions, single
from gcr.engine import plan as plans
from gcr.engine.crew import Handout
from gcr.engine.waves import SIZE, Overview, Pace, Waves
from gcr.errors import BatchError, UnavailableError, UsageError
from gcr.inputs import jobs
from gcr.settings.resolving import recalled, resolve
from gcr.storage import runfolder
from gcr.storage.batchfolder import NAME, BatchFolder
from gcr.storage.summary import Result, Summary

if TYPE_CHECKING:
    from gcr.core.view import Watcher
    from gcr.engine.plan import Plan
    from gcr.engine.single import Parts
    from gcr.inputs.jobs import Job

    Loading = Callable[[Plan, Watcher], Parts]


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What came of a batch, or of one shard of it.

    folder: of the batch. results: of the prompts that are done, also before this call, in order;
        those with a `failure` failed. Their paths start from the folder.
    busy: prompts that other processes are at. unfinished: those that nobody finished, because too
        many failed.
    seconds: wall time of this call.
    """

    folder: Path
    results: tuple[Result, ...]
    busy: int
    unfinished: int
    seconds: float

    @property
    def summary(self) -> Path:
        return self.folder / "summary.jsonl"

    @property
    def table(self) -> Path:
        return self.folder / "summary.csv"

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.failure)

    def as_json(self) -> dict[str, object]:
        """JSON values of all but the results themselves; what `gcr batch --json` prints."""
        return {
            "folder": str(self.folder),
            "summary": str(self.summary),
            "table": str(self.table),
            "prompts": len(self.results) + self.busy + self.unfinished,
            "done": len(self.results) - len(self.failures),
            "failed": len(self.failures),
            "busy": self.busy,
            "unfinished": self.unfinished,
            "failures": [{"id": one.id, "failure": one.failure} for one in self.failures],
            "seconds": round(self.seconds, 3),
        }


class BatchInterrupted(KeyboardInterrupt):
    """Ctrl-C after the batch's folder was made. outcome: what there is."""

    def __init__(self, outcome: BatchOutcome) -> None:
        super().__init__()
        self.outcome = outcome


class BatchStopped(BatchError):  # noqa: N818 - what is done is no error
    """The critic's server is gone, and nothing that is left could be judged. outcome: so far."""

    def __init__(self, error: UnavailableError, outcome: BatchOutcome) -> None:
        super().__init__(error.message, f"{error.hint}: gcr resume {outcome.folder}")
        self.outcome = outcome


class Unseen:
    """An overview that shows nothing."""

    def warn(self, message: str, hint: str) -> None: ...
    def loading(self, what: str) -> None: ...
    def progress(self, phase: str, done: int, total: int) -> None: ...
    def begin(self, total: int, done: int) -> None: ...
    def result(self, result: Result) -> None: ...
    def end(self) -> None: ...


def batch(  # noqa: PLR0913 - each for itself
    prompts: Path | str | Sequence[Path | str],
    *,
    into: Path | str | None = None,
    wildcards: Path | str | None = None,
    literal: bool = False,
    column: str | None = None,
    skip_bad: bool = False,
    wave: int = SIZE,
    shard: str = "1/1",
    max_failures: int | None = None,
    ray: str | None = None,
    workers: int | None = None,
    view: Overview | None = None,
    **flags: object,
) -> BatchOutcome:
    """Refine many prompts; the Python form of `gcr batch`.

    prompts: Paths of prompt files, or the prompts themselves as texts.
    into: the batch's folder; one that holds this batch already is gone on with. None: a new one.
    wildcards: the folder of wildcard files. literal: leave texts as they are.
    column: that holds the prompts; None: one that has a usual name. skip_bad: leave out bad rows.
    wave: runs that advance together. shard: `2/3`, part 2 of 3. max_failures: stop after so many.
    ray: do the work on Ray: `local` starts a cluster on this machine, `auto` joins the one that
        runs on it, HOST:PORT one elsewhere. workers: how many on it, each with its own models;
        None: one for each GPU, or for every two CPUs where there is none.
    flags: settings by the names of their options, such as `images=4`.

    Prompts that fail raise nothing: see `BatchOutcome.failures`. Raises GcrError for what concerns
    all (BatchStopped has an outcome); on Ctrl-C BatchInterrupted, which is a KeyboardInterrupt.
    """
    pace = paced(wave, shard, max_failures, ray, workers)
    reading = plans.Reading(column, wildcards, literal, skip_bad)
    plan = plans.make(prompts, resolve(flags), reading)
    return run(plan, None if into is None else Path(into), pace, view=view)


def paced(
    wave: int, shard: str | None, max_failures: int | None, ray: str | None, workers: int | None
) -> Pace:
    """A pace from options as they are given. Raises UsageError."""
    if workers is not None and not ray:
        raise UsageError("--workers needs --ray", "--ray local starts a cluster on this machine")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers} is none", "give 1 or more")
    return Pace(wave, jobs.read_shard(shard or "1/1"), max_failures, ray or "", workers)


def resume(
    path: Path,
    pace: Pace | None = None,
    *,
    view: Overview | None = None,
    stopping: Callable[[], bool] = lambda: False,
    **here: Any,
) -> BatchOutcome:
    """Go on with the batch of a folder, with the prompts and settings it was begun with.

    Prompts that failed are tried again. here: for `recalled`; stopping, and raises: as `run`.
    """
    folder = BatchFolder.open(path)
    files = folder.story.get("files")
    names = [str(name) for name in files] if isinstance(files, list) else []
    plan = plans.planned(folder.jobs, names, recalled(folder.settings, **here))
    return run(plan, path, pace or Pace(), view=view, stopping=stopping)


def load(plan: Plan, view: Watcher) -> Parts:
    """Load what a plan needs."""
    return single.load(plan.settings, plan.questions, view, negative=plan.negative)


def run(  # noqa: PLR0913 - each for itself
    plan: Plan,
    into: Path | None,
    pace: Pace,
    *,
    view: Overview | None = None,
    stopping: Callable[[], bool] = lambda: False,
    load: Loading = load,
) -> BatchOutcome:
    """Carry out a plan. stopping: asked before each drawing whether to stop there.

    load: called once it is known that something is left to do. Raises as `batch` does.
    """
    started, view = time.perf_counter(), view or Unseen()
    share = jobs.shard(plan.jobs, *pace.shard)
    if into is not None and (into / NAME).exists():
        before = BatchFolder.open(into)
        plan = plan.as_begun(before.settings)
        before.checked(plan.jobs, plan.recorded)
        if not Summary(into).left(share):
            return _outcome(into, plan, share, started)
    runfolder.check_writable(into or plan.settings.output)
    plan.caution(view)
    with _force(plan, into or plan.settings.output, pace, view, stopping, load) as force:
        revisions = force.load()
        path = into or plan.new_folder()
        folder = BatchFolder.begin(path, plan.jobs, plan.recorded, plan.files, revisions)
        summary = Summary(path)
        left = summary.left(share)
        try:
            view.begin(len(share), len(share) - len(left))
            busy = force.work(folder, summary, left)
        except KeyboardInterrupt as stop:
            raise BatchInterrupted(_outcome(path, plan, share, started, interrupted=view)) from stop
        except UnavailableError as error:
            raise BatchStopped(error, _outcome(path, plan, share, started)) from error
        finally:
            view.end()
    return _outcome(path, plan, share, started, busy)


class Force(Protocol):
    """Who does the work of a batch."""

    def load(self) -> Mapping[str, str | None]:
        """Load models; returns their revisions."""
        ...

    def work(self, batch: BatchFolder, summary: Summary, jobs: Sequence[Job]) -> frozenset[str]:
        """Finish all jobs but those that other processes are at, whose ids are returned.

        Raises as `Waves.work` does.
        """
        ...


class Alone:
    """This process does all of it."""

    def __init__(
        self, plan: Plan, pace: Pace, view: Overview, stopping: Callable[[], bool], load: Loading
    ) -> None:
        self._plan = plan
        self._load = load
        self._pace = pace
        self._view = view
        self._stopping = stopping

    def load(self) -> Mapping[str, str | None]:
        self._parts = self._load(self._plan, self._view)
        self._plan.caution_of_length(self._parts.generator, self._view)
        return self._parts.revisions

    def work(self, batch: BatchFolder, summary: Summary, jobs: Sequence[Job]) -> frozenset[str]:
        cautions.of_changes(batch, self._parts.revisions, self._view)
        waves = Waves(batch, self._parts, summary, self._view, self._pace, self._stopping)
        waves.work(jobs)
        return waves.busy


@contextmanager
def _force(  # noqa: PLR0913, PLR0917 - each for itself
    plan: Plan,
    near: Path,
    pace: Pace,
    view: Overview,
    stopping: Callable[[], bool],
    load: Loading,
) -> Iterator[Force]:
    """Who works at this pace. near: where the batch's folder is, or will be made."""
    if not pace.ray:
        yield Alone(plan, pace, view, stopping, load)
        return
    from gcr.engine import cluster

    if pace.ray != cluster.LOCAL:
        cautions.of_server(plan.settings, view)
    view.loading(f"Ray ({pace.ray})")
    with cluster.crew(plan, near.absolute(), pace.ray, pace.workers) as crew:
        yield Handout(crew, view, pace, stopping)


def _outcome(  # noqa: PLR0913 - each for itself
    path: Path,
    plan: Plan,
    share: Sequence[Job],
    started: float,
    busy: frozenset[str] = frozenset(),
    *,
    interrupted: Watcher | None = None,
) -> BatchOutcome:
    """What there is, also as a table. busy: ids of the prompts that other processes are at, whose
    earlier failures are no results. interrupted: warned where there can be no table.
    """
    summary = Summary(path)
    with after_an_error(interrupted) if interrupted else nullcontext():
        summary.tabulate(job.id for job in plan.jobs)
    known = (summary.results.get(job.id) for job in share)
    results = tuple(one for one in known if one and not (one.failure and one.id in busy))
    elsewhere = len(busy - {result.id for result in results})
    unfinished = len(share) - len(results) - elsewhere
    return BatchOutcome(path, results, elsewhere, unfinished, time.perf_counter() - started)
