"""The batch folder: what a batch leaves on disk, and how it is gone on with.

outputs/2026-08-23/143205-shapes-7f3a/
  batch.json      at the beginning: settings, versions, every prompt with its id, seed, wildcards
  runs/birds-1/   a run folder for each prompt (gcr.storage.runfolder)
  summary.jsonl   one line for each prompt, when it is done (gcr.storage.summary)
  summary.csv     the same as a table, when a process ends
  index.html      the same as a gallery, which gcr.results.report writes; and one for each run
  .turn           locked for a moment by whoever writes batch.json or the summary
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.atomic import check_inside, sync_folder, write_json, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.storage import runfolder
from gcr.storage.runfolder import check_objects, damaged, differences

if TYPE_CHECKING:
    from gcr.core.records import Requirement

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
