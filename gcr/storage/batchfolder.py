"""The batch folder: what a batch leaves on disk, and how it is gone on with.

outputs/2026-08-23/143205-shapes-7f3a/
  batch.json      at the beginning: settings, versions, every prompt with its id, seed, wildcards
  runs/birds-1/   a run folder for each prompt (gcr.storage.runfolder)
  summary.jsonl   one line for each prompt, when it is done
  summary.csv     the same as a table, when a process ends
  index.html      the same as a gallery, which gcr.results.report writes; and one for each run
  .turn           locked for a moment by whoever writes batch.json or the summary

Several processes may add lines to the summary, taking turns. Where a prompt that failed is tried
again, its later line counts; when a process ends, earlier ones are removed, which leaves one line
for each prompt.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gcr.core.phrases import quoted
from gcr.core.plaintext import cell
from gcr.core.ranking import best_scored, margin
from gcr.core.records import Result, StopReason, best_name
from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.atomic import check_inside, sweep, sync_folder, write, write_json, writing
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.storage import runfolder
from gcr.storage.runfolder import check_objects, damaged, differences

if TYPE_CHECKING:
    from gcr.core.records import Requirement, Run

logger = logging.getLogger(__name__)

NAME = "batch.json"
RUNS = "runs"
SHOWN = 8  # differences in a message, at most


def holds(run: Path) -> bool:
    """Whether the folder of a run is one of a batch's or a comparison's."""
    return run.absolute().parent.name == RUNS


class BatchFolder:
    """A batch on disk.

    Attributes:
        path: the folder.
        id: what the ids of its runs begin with.
        jobs: all of its prompts, in order.
        settings: JSON values, fixed for the whole batch.
        story: what batch.json holds besides: when it began, its prompt files, versions, revisions.
    """

    def __init__(
        self,
        path: Path,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        story: Mapping[str, object],
    ) -> None:
        self.path = path
        self.jobs = tuple(jobs)
        self.settings = dict(settings)
        self.story = dict(story)

    @property
    def id(self) -> str:
        return str(self.story["id"])

    @classmethod
    def begin(
        cls,
        path: Path,
        jobs: Sequence[Job],
        settings: Mapping[str, object],
        files: Sequence[str],
        revisions: Mapping[str, str | None],
    ) -> BatchFolder:
        """Begin a batch in a folder, or go on with the one that another process began there.

        Arguments:
            path: the folder, which need not exist yet.
            jobs: all prompts, in order.
            settings: JSON values, fixed for the whole batch.
            files: the prompt files, as messages name them.
            revisions: of models from the hub, by the role they play.

        Raises UsageError where another batch was begun there, GcrError where nothing can be
        written.
        """
        now = datetime.now().astimezone()
        with writing(path):
            (path / RUNS).mkdir(parents=True, exist_ok=True)
        with turn(path):
            if (path / NAME).exists():
                return cls.open(path).checked(jobs, settings)
            story = {
                "id": f"{now:%Y%m%d}-{path.absolute().name}",
                "started": now.isoformat(),
                "files": list(files),
                "versions": runfolder.versions(),
                "revisions": dict(revisions),
            }
            record = {**story, "settings": settings, "entries": [job.as_json() for job in jobs]}
            write_json(path / NAME, record, indent=1)
            sync_folder(path)
        return cls(path, jobs, settings, story)

    @classmethod
    def open(cls, path: Path) -> BatchFolder:
        """Find a batch again. Raises UsageError where there is none, GcrError for damage."""
        try:
            record = structured.record(path / NAME)
            check_objects(record)
            jobs = [Job.from_json(values) for values in record.pop("entries")]
            return cls(path, jobs, record.pop("settings"), record)
        except OSError as error:
            message = f"no batch in {path}: {error.strerror or error}"
            raise UsageError(message, "name a folder that `gcr batch` made") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path / NAME, error) from error

    def checked(self, jobs: Sequence[Job], settings: Mapping[str, object]) -> BatchFolder:
        """The batch itself. Raises UsageError where it was begun with other prompts or settings."""
        changes = [*differences(self.settings, settings), *_job_differences(self.jobs, jobs)]
        if changes:
            more = len(changes) - SHOWN
            shown = ", ".join(changes[:SHOWN]) + (f", and {more} more" if more > 0 else "")
            raise UsageError(
                f"{self.path} was begun with other prompts or settings ({shown})",
                f"gcr resume {self.path} goes on as it was begun; or name a new folder",
            )
        return self

    def run_path(self, job: Job) -> Path:
        """The folder of a job's run, which need not exist."""
        return self.path / RUNS / job.folder

    def prepared(self, job: Job) -> Path:
        """The folder of a job's run, which is there from now on."""
        path = self.run_path(job)
        check_inside(self.path, path)
        if not path.is_dir():
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
            sync_folder(path.parent)
        return path

    def results(self) -> list[Result]:
        """What came of the prompts that are done, in order; a damaged line is a warning."""
        summary = Summary(self.path, tolerant=True)
        summary.refresh()
        return [summary.results[job.id] for job in self.jobs if job.id in summary.results]

    def checklist(self, job: Job) -> tuple[Requirement, ...]:
        """The checklist that the critic made of the same words for another run of this batch, in
        whichever process; empty where there is none yet.
        """
        for other in self._same_words[job.prompt, job.negative]:
            path = self.run_path(other)
            if other.id == job.id or not (path / runfolder.NAME).exists():
                continue
            try:
                run, _ = runfolder.read_beginning(path)
            except GcrError as error:  # that run will fail with it; this one need not
                logger.info("no checklist from %s: %s", path, error.message)
                continue
            if run.request.checklist:
                return run.request.checklist
        return ()

    @cached_property
    def _same_words(self) -> Mapping[tuple[str, str], list[Job]]:
        """The jobs by their prompt and negative prompt."""
        jobs: dict[tuple[str, str], list[Job]] = {}
        for job in self.jobs:
            jobs.setdefault((job.prompt, job.negative), []).append(job)
        return jobs


def _job_differences(before: Sequence[Job], now: Sequence[Job]) -> list[str]:
    """How two lists of prompts differ, each difference in a few words."""
    old_jobs, new_jobs = {job.id: job for job in before}, {job.id: job for job in now}
    changes = [f"prompt {id_} is gone" for id_ in old_jobs if id_ not in new_jobs]
    changes += [f"prompt {id_} is new" for id_ in new_jobs if id_ not in old_jobs]
    for id_ in (id_ for id_ in old_jobs if id_ in new_jobs):
        old, new = old_jobs[id_], new_jobs[id_]
        if old.prompt != new.prompt:
            changes.append(f"prompt {id_}: {old.prompt!r} → {new.prompt!r}")
        elif old.seed != new.seed:
            changes.append(f"seed of prompt {id_}: {old.seed} → {new.seed}")
        elif json.loads(json.dumps(old.extra)) != json.loads(json.dumps(new.extra)):
            changes.append(f"columns of prompt {id_}: {old.extra!r} → {new.extra!r}")
    return changes


def result_of(job: Job, path: str, run: Run | None, failure: str) -> Result:
    """The line for one prompt.

    Arguments:
        job: the prompt.
        path: of the run's folder, relative to the batch's.
        run: as far as it got; None: it never began.
        failure: why it did not end well; empty where it did.
    """
    best = best_scored(run) if run else None
    attempts = run.attempts if run else ()
    return Result(
        id=job.id,
        prompt=job.prompt,
        seed=job.seed,
        folder=path,
        stop=str(run.stop if run and run.stop else StopReason.FAILED),
        raw=attempts[0].score if attempts else None,
        best=best.score if best else None,
        best_image=f"{path}/{best_name(best)}" if best else "",
        rounds=len(run.rounds) if run else 0,
        images=len(attempts),
        seconds=round(run.seconds if run else 0.0, 3),
        failure=failure,
        noise=round(margin(attempts), 6),
        untrusted=quoted(run.untrusted) if run else "",
        extra=job.extra,
    )


# The summary


COLUMNS = tuple(column.name for column in fields(Result) if column.name != "extra")


class Summary:
    """The summary of a batch folder, as far as it was read.

    Arguments:
        folder: of the batch.
        tolerant: leave damaged lines out with a warning, for readers who only look at the rest.

    Attributes:
        results: the last line of each prompt, by its id.
    """

    def __init__(self, folder: Path, *, tolerant: bool = False) -> None:
        self.folder = folder
        self.path = folder / "summary.jsonl"
        self.table = folder / "summary.csv"
        self.results: dict[str, Result] = {}
        self._tolerant = tolerant
        self._log = JsonLines(self.path, "remove the line: its prompt is then looked at again")
        self._lines: dict[str, int] = {}  # the number of each result's line

    def refresh(self) -> None:
        """Read what any process added since the last time. Raises GcrError for damage."""
        for error in self._log.read(self._take, tolerant=self._tolerant):
            logger.warning("%s", error.message)

    def _take(self, line: bytes, number: int) -> None:
        result = _checked(structured.parse_record(line))
        self._lines[result.id] = number
        # An equal result stays the same object: callers tell new results by identity.
        if self.results.get(result.id) != result:
            self.results[result.id] = result

    def left(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that are not done as of now, failed ones among them."""
        self.refresh()
        done = {id_ for id_, result in self.results.items() if not result.failure}
        return [job for job in jobs if job.id not in done]

    def add(self, result: Result) -> None:
        """Write the line of a prompt that is done; a line that is there already is not repeated."""
        with turn(self.folder):
            self.refresh()
            if self.results.get(result.id) == result:
                return
            line = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False)
            self._log.append(line.encode())
            self.refresh()

    def tabulate(self, order: Iterable[str]) -> None:
        """Leave one line for each prompt, and write summary.csv: a row for each that is done.

        order: the ids of all prompts.
        """
        with turn(self.folder):
            self.refresh()
            sweep(self.folder, r"summary\.(?:csv|jsonl)|batch\.json")
            if len(self._lines) < self._log.count:  # some prompt was tried again
                self._log.keep(self._lines.values())
                self.refresh()
            results = [self.results[id_] for id_ in order if id_ in self.results]
            extra = dict.fromkeys(name for result in results for name in result.extra)
            names = {name: f"extra.{name}" if name in COLUMNS else name for name in extra}
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow([*COLUMNS, *map(cell, names.values())])
            for result in results:
                values = [getattr(result, name) for name in COLUMNS]
                values += [_as_json(result.extra.get(name)) for name in names]
                rows.writerow(map(cell, values))
            write(self.table, text.getvalue().encode())


def _checked(values: Any) -> Result:
    """A line as a result.

    Raises ValueError for what is no result, or leads out of its batch.
    """
    result: Result = structured.valid(Result, values)
    StopReason(result.stop)  # raises ValueError for anything else
    for path in (result.folder, result.best_image):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"the path {path!r} leads out of the batch")
    return result


def _as_json(value: object) -> object:
    """Lists and objects as JSON; None as an empty cell, which csv makes of it."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return value
