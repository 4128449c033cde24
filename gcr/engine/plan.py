"""What a batch is to do: its prompts read, its wildcards chosen, its settings settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gcr.core.guards import lost
from gcr.engine import parts
from gcr.errors import UsageError
from gcr.inputs import jobs
from gcr.inputs.wildcards import Wildcards
from gcr.settings.schema import Settings, as_begun
from gcr.settings.schema import recorded as record
from gcr.storage import runfolder

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.critic import rubric
    from gcr.engine.parts import Parts
    from gcr.inputs.jobs import Job


class Reading(NamedTuple):
    """How prompts are read.

    column: of the files, with the prompts in it; None: the first that has a usual name.
    wildcards: the folder of their files. literal: leave texts as they are.
    skip_bad: leave out rows that cannot be read.
    """

    column: str | None = None
    wildcards: Path | str | None = None
    literal: bool = False
    skip_bad: bool = False


SIZE, LARGEST = 16, 64
"""Runs of a wave at least, and at most, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a batch is worked through; none of it changes an image.

    wave: runs that advance together; 0: as many as suit the plan.
    shard: which part of how many, both from 1.
    most_failures: after which the batch stops; None: no limit.
    ray: where the cluster of Ray is that does it, as `cluster` has it; empty: this process does it.
    workers: how many on that cluster; None: as many as suit it.
    """

    wave: int = 0
    shard: tuple[int, int] = (1, 1)
    most_failures: int | None = None
    ray: str = ""
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. files: what the prompts were read from. recorded: JSON values."""

    jobs: tuple[Job, ...]
    files: tuple[str, ...]
    settings: Settings
    questions: rubric.Rubric
    recorded: dict[str, object]

    @property
    def negative(self) -> bool:
        """Whether any prompt has a negative one of its own."""
        return any(job.negative for job in self.jobs)

    @property
    def wave(self) -> int:
        """Runs that advance together: enough of them that each half of a wave fills the batch with
        which the critic is fastest, as gcr bench measured it.
        """
        settings = self.settings
        written = 1 if settings.critique == "best" else settings.images
        return min(LARGEST, max(SIZE, ceil(2 * settings.judge_batch / written)))

    @property
    def prompts(self) -> list[str]:
        """All that are to be drawn as they are."""
        return [job.prompt for job in self.jobs]

    def as_begun(self, recorded: Mapping[str, object]) -> Plan:
        """Itself with what was measured when it was begun; later measurements are for others.

        recorded: the settings it was begun with.
        """
        settings = as_begun(self.settings, recorded)
        return replace(self, settings=settings, recorded=record(settings, self.questions.sha256))


def make(
    prompts: Path | str | Sequence[Path | str], settings: Settings, reading: Reading | None = None
) -> Plan:
    """Read the prompts and choose their wildcards. Raises UsageError."""
    how = reading or Reading()
    entries = jobs.read(prompts, column=how.column, skip_bad=how.skip_bad)
    chooser = None if how.literal else Wildcards(how.wildcards)
    files = tuple(dict.fromkeys(entry.source for entry in entries))
    return plan_jobs(jobs.of_entries(entries, settings.seed, chooser), files, settings)


def plan_jobs(found: Sequence[Job], files: Sequence[str], settings: Settings) -> Plan:
    """The plan for jobs that are known. Raises UsageError for words to keep that none has."""
    for span in settings.keep:
        if all(list(lost([span], job.prompt)) for job in found):
            raise UsageError(
                f"--keep {span!r} is in none of the prompts",
                "copy the words as the prompts have them",
            )
    settings, questions = parts.with_rubric(settings)
    recorded = record(settings, questions.sha256)
    return Plan(tuple(found), tuple(files), settings, questions, recorded)


def load(plan: Plan, emit: Consumer) -> Parts:
    """Load what a plan needs. Raises what `parts.load` does."""
    return parts.load(
        plan.settings, plan.questions, emit, negative=plan.negative, prompts=plan.prompts
    )


def new_folder(plan: Plan) -> Path:
    """Make a folder for a plan, named after its first file."""
    name = Path(plan.files[0]).absolute().stem if plan.files else ""
    return runfolder.new_folder(plan.settings.output, name, datetime.now().astimezone())
