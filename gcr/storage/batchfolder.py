"""The folder of a batch: what was asked for, and where its runs are.

outputs/2026-08-23/143205-shapes-7f3a/
  batch.json      settings, versions, and every prompt with its id, seed and wildcards
  runs/birds-1/   a run folder for each prompt
  summary.jsonl   one line for each prompt that is done
  summary.csv     the same as a table, when a process ends
  index.html      the same as a gallery, which gcr.results.report writes; and one for each run
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
from gcr.files.atomic import check_inside, sync_folder, write, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.settings.recorded import UNRECORDED, lasting
from gcr.storage import runfolder
from gcr.storage.runfile import damaged

if TYPE_CHECKING:
    from gcr.core.records import Requirement

logger = logging.getLogger(__name__)

NAME = "batch.json"
RUNS = "runs"
SHOWN = 8  # differences, at most


class BatchFolder:
    """A batch on disk.

    id: what the ids of its runs begin with. jobs: all of its prompts, in order.
    settings: JSON values, fixed for the whole batch.
    story: when it began, of which files, and with which versions.
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

        Raises UsageError where that one is another batch.
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
            content = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
            write(path / NAME, content.encode() + b"\n")
            sync_folder(path)
        return cls(path, jobs, settings, story)

    @classmethod
    def open(cls, path: Path) -> BatchFolder:
        """Find a batch again. Raises UsageError where there is none, GcrError for damage."""
        try:
            record = structured.record(path / NAME)
            jobs = [Job.from_json(values) for values in record.pop("entries")]
            return cls(path, jobs, record.pop("settings"), record)
        except OSError as error:
            message = f"no batch in {path}: {error.strerror or error}"
            raise UsageError(message, "name a folder that `gcr batch` made") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path / NAME, error) from error

    def checked(self, jobs: Sequence[Job], settings: Mapping[str, object]) -> BatchFolder:
        """Itself, unless it was begun with other prompts or settings: then UsageError says which
        differ.
        """
        before, now = (
            json.loads(json.dumps({**UNRECORDED, **lasting(known)}))
            for known in (self.settings, settings)
        )
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        changes = [f"{key}: {before.get(key)!r} → {now.get(key)!r}" for key in keys]
        changes += _differences(self.jobs, jobs)
        if changes:
            more = len(changes) - SHOWN
            shown = ", ".join(changes[:SHOWN]) + (f", and {more} more" if more > 0 else "")
            raise UsageError(
                f"{self.path} was begun with other prompts or settings ({shown})",
                f"gcr resume {self.path} goes on as it was begun; or name a new folder",
            )
        return self

    def run_path(self, job: Job) -> Path:
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
        """What the critic took the words of a prompt apart into for another run of this batch, from
        whichever process; empty where it did not yet.
        """
        for other in self._alike[job.prompt, job.negative]:
            path = self.run_path(other)
            if other.id == job.id or not (path / "run.json").exists():
                continue
            try:
                run, _ = runfolder.begun(path)
            except GcrError as error:  # which is that run's failure, and not this one's
                logger.info("no checklist from %s: %s", path, error.message)
                continue
            if run.request.checklist:
                return run.request.checklist
        return ()

    @cached_property
    def _alike(self) -> Mapping[tuple[str, str], list[Job]]:
        """The prompts by their words."""
        alike: dict[tuple[str, str], list[Job]] = {}
        for job in self.jobs:
            alike.setdefault((job.prompt, job.negative), []).append(job)
        return alike


def _differences(before: Sequence[Job], now: Sequence[Job]) -> list[str]:
    """How two lists of prompts differ, each difference in a few words."""
    old, new = {job.id: job for job in before}, {job.id: job for job in now}
    changes = [f"prompt {id_} is gone" for id_ in old if id_ not in new]
    changes += [f"prompt {id_} is new" for id_ in new if id_ not in old]
    for id_ in (id_ for id_ in old if id_ in new):
        was, is_ = old[id_], new[id_]
        if was.prompt != is_.prompt:
            changes.append(f"prompt {id_}: {was.prompt!r} → {is_.prompt!r}")
        elif was.seed != is_.seed:
            changes.append(f"seed of prompt {id_}: {was.seed} → {is_.seed}")
        elif json.loads(json.dumps(was.extra)) != json.loads(json.dumps(is_.extra)):
            changes.append(f"columns of prompt {id_}: {was.extra!r} → {is_.extra!r}")
    return changes
