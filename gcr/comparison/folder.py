"""The folder of a comparison: what was asked for, and where its arms are.

outputs/2026-08-23/143205-shapes-7f3a/
  arms.json       settings, versions, every prompt, the arms, the evaluator
  raw/            a batch folder for each arm
  refine/
  scores.jsonl    what the evaluator said of each image
  compare.json    what came of it
  compare.csv     the same as a table: a row for each prompt and arm
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.comparison.evaluators import Choice
from gcr.comparison.figures import Asked, category
from gcr.engine import plan as plans
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.atomic import sweep, write_json, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.settings.plugins import PLAIN
from gcr.settings.resolving import recalled
from gcr.storage import runfolder
from gcr.storage.batchfolder import NAME as BATCH
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.runfolder import damaged

if TYPE_CHECKING:
    from typing import Unpack

    from gcr.engine.plan import Plan
    from gcr.settings.schema import ResumeOptions

NAME = "arms.json"
KEYS = ("id", "started", "versions", "files", "arms", "evaluator", "equal", "by", "settings")


class CompareInterrupted(KeyboardInterrupt):
    """Ctrl-C after the comparison's folder was made. folder: to go on with."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder


@dataclass(frozen=True, slots=True)
class Contest:
    """What is to be compared, and how.

    plan: prompts, and the settings that all arms have in common. arms: by name, in order.
    evaluators: the one that decides, and others.
    equal: what all arms may use as much of: `images` or `seconds`.
    by: the column of categories; empty for none.
    """

    plan: Plan
    arms: tuple[str, ...]
    evaluators: tuple[Choice, ...]
    equal: str = "images"
    by: str = ""

    @property
    def asked(self) -> list[Asked]:
        return [
            Asked(job.id, job.prompt, category(job.extra, self.by), job.extra)
            for job in self.plan.jobs
        ]

    @property
    def budget(self) -> float:
        settings = self.plan.settings
        return float((settings.max_images if self.equal == "images" else settings.max_seconds) or 0)


def begin(path: Path, contest: Contest) -> dict[str, Any]:
    """Write down a contest; returns when it began, and as what.

    One that is there already is gone on with, and may get more arms or another evaluator. Raises
    UsageError where it was begun with other prompts or settings.
    """
    plan, now = contest.plan, datetime.now().astimezone()
    for name in (BATCH, "run.json"):
        if (path / name).exists():
            raise UsageError(f"{path} holds no comparison, but {name}", "name another folder")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with turn(path):
        sweep(path, r"arms\.json")
        story: dict[str, Any] = {
            "id": f"{now:%Y%m%d}-{path.absolute().name}",
            "started": now.isoformat(),
            "versions": runfolder.versions(),
        }
        arms = contest.arms
        first, *others = contest.evaluators
        if (path / NAME).exists():
            before, jobs = _read(path)
            BatchFolder(path, jobs, before["settings"], {}).checked(plan.jobs, plan.recorded)
            story = {key: before[key] for key in story}
            arms = tuple(dict.fromkeys([*before["arms"], *arms]))
        record = {
            **story,
            "files": list(plan.files),
            "arms": arms,
            "evaluator": first.as_json(),
            **({"others": [other.as_json() for other in others]} if others else {}),
            "equal": contest.equal,
            "by": contest.by,
            "settings": plan.recorded,
            "entries": [job.as_json() for job in plan.jobs],
        }
        write_json(path / NAME, record, indent=1)
    return story


def found(path: Path, **here: Unpack[ResumeOptions]) -> Contest:
    """The contest of a folder. here: what `settings.recalled` takes besides.

    Raises UsageError where there is none, GcrError for damage.
    """
    record, jobs = _read(path)
    plan = plans.plan_jobs(
        jobs, record["files"], recalled(record["settings"], ThisMachine(), **here)
    )
    named = [record["evaluator"], *record.get("others", ())]
    evaluators = tuple(Choice(one["name"], one["model"] or "") for one in named)
    return Contest(plan, tuple(record["arms"]), evaluators, record["equal"], record["by"])


def _read(path: Path) -> tuple[dict[str, Any], list[Job]]:
    """What arms.json holds, and its prompts."""
    try:
        record = dict(structured.record(path / NAME))
        jobs = [Job.from_json(values) for values in record["entries"]]
        _check(record)
    except OSError as error:
        message = f"no comparison in {path}: {error.strerror or error}"
        raise UsageError(message, "name a folder that `gcr compare` made") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path / NAME, error) from error
    return record, jobs


def _check(record: dict[str, Any]) -> None:
    """Raise KeyError and ValueError for what is no comparison, or would lead out of its folder."""
    if missing := [key for key in KEYS if key not in record]:
        raise KeyError(missing[0])
    for name in record["arms"]:
        if not PLAIN.fullmatch(name):
            raise ValueError(f"there is no arm {name!r}")
