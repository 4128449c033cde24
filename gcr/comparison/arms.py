"""The arms of a comparison: a batch each, over the same prompts, from the same first images.

Every strategy begins by drawing the request as it is on the prompt's own seed. So what one arm drew
and judged first is what the others would: they take it over, and the raw arm has nothing to draw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.comparison import cost
from gcr.core.events import ArmStarted
from gcr.core.records import Result, Round
from gcr.engine import batching, models
from gcr.engine import plan as plans
from gcr.engine.outcome import BatchStopped
from gcr.engine.parts import parts_of
from gcr.engine.queue import open_run
from gcr.errors import BatchError, UsageError
from gcr.files.atomic import check_inside
from gcr.files.locks import take
from gcr.settings import plugins
from gcr.storage.batchfolder import NAME, BatchFolder, Summary
from gcr.storage.runfolder import RunFolder

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.core.records import Critic, Generator
    from gcr.device.memory import SharedDevice
    from gcr.engine.parts import Parts
    from gcr.engine.plan import Pace, Plan
    from gcr.settings.schema import Settings

RAW = "raw"
SCREENED = "refine-screened"
"""Refinement with `--critique best`."""
USUAL = (RAW, "best-of-n", "refine")


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm that was drawn, or as far as it was. results: of its prompts, by id."""

    name: str
    batch: BatchFolder
    results: Mapping[str, Result]

    @classmethod
    def read(cls, name: str, path: Path) -> Arm:
        """Raises UsageError where there is no batch, GcrError for damage."""
        batch, summary = BatchFolder.open(path), Summary(path)
        summary.refresh()
        return cls(name, batch, summary.results)

    def image(self, id_: str) -> Path | None:
        """The best image of a prompt that came to a good end."""
        result = self.results.get(id_)
        if result is None or result.failure:
            return None
        return self.batch.path / result.best_image

    def setting(self, name: str) -> str:
        return str(self.batch.settings.get(name))

    @property
    def strategy(self) -> str:
        """What it draws; that of one image for each prompt is no strategy."""
        alone = self.batch.settings.get("rounds") == self.batch.settings.get("images") == 1
        return RAW if alone else self.setting("strategy")

    @property
    def critic(self) -> tuple[str, ...]:
        """What its scores come from; those of another critic are no others' measure."""
        return tuple(self.setting(name) for name in ("critic", "rubric_sha256", "score", "verify"))


def plan_of(name: str, plan: Plan) -> Plan:
    """The plan of an arm. plan: what all arms have in common, with their budget."""
    own: dict[str, Any] = {"strategy": name}
    if name == SCREENED:
        own = {"strategy": "refine", "critique": "best"}
    if name == RAW:
        own = {"strategy": "best-of-n", "rounds": 1, "images": 1}
        own |= {"max_images": None, "max_seconds": None}
    return plans.plan_jobs(plan.jobs, plan.files, replace(plan.settings, **own))


class Models:
    """The pair of models that all arms share: loaded when the first of them needs it.

    Attributes:
        loading: seconds that loading them took.
    """

    def __init__(self) -> None:
        self._pair: tuple[Generator, Critic] | None = None
        self.loading = 0.0

    @property
    def device(self) -> SharedDevice | None:
        """Where they are; None: not loaded, or not on one that is known."""
        return getattr(self._pair[0], "device", None) if self._pair else None

    def parts(self, plan: Plan, emit: Consumer) -> Parts:
        """What takes part in an arm. Raises UsageError for a strategy that this generator cannot
        be used with: another one in its place would be compared under its name.
        """
        if self._pair is None:
            started = time.perf_counter()
            self._pair = models.load_models(
                plan.settings,
                plan.questions,
                emit,
                negative=plan.negative,
                prompts=plan.prompts,
            )
            self.loading += time.perf_counter() - started
        generator, critic = self._pair
        parts = parts_of(plan.settings, generator, critic, emit, plan.prompts)
        name = plan.settings.strategy
        if type(parts.strategy) is not plugins.strategy(name):
            raise UsageError(
                f"{plan.settings.generator} cannot draw as {name} does",
                f"leave out --arm {name}, or take another --generator",
            )
        return parts


def play(  # noqa: PLR0913, PLR0917 - each for itself
    own: Mapping[str, Plan],
    folder: Path,
    models: Models,
    pace: Pace,
    emit: Consumer,
    stop: Callable[[], bool],
) -> None:
    """Draw all arms below a folder, or what is left of them. own: plans, by the names of the arms.

    The raw one comes last, because the others draw what it shows; and of these the first are those
    whose critic writes most: of all images, and a prompt after a round, which the others can do
    without. Raises as `batching.run` does.
    """

    def place(name: str) -> tuple[bool, bool, bool]:
        settings = own[name].settings
        return name == RAW, settings.critique == "best", not settings.history

    first, *others = sorted(own, key=place)
    for name in (first, *others):
        emit(ArmStarted(name))
        check_inside(folder, folder / name)
        if name != first and (folder / first / NAME).exists():
            _inherit(own[name], folder / name, Arm.read(first, folder / first))
        path = folder / name
        try:
            with cost.recorded(path, emit, models) as counted:
                batching.run(own[name], path, pace, emit=counted, stop=stop, load=models.parts)
        except BatchStopped as stopped:  # what goes on is the whole comparison
            hint = f"when that is mended: gcr resume {folder}"
            raise BatchError(stopped.message, hint) from stopped


def _inherit(plan: Plan, into: Path, donor: Arm) -> None:
    """Take over the first images of all runs that have none, from runs that came to a good end."""
    story = donor.batch.story.get("revisions")
    revisions = story if isinstance(story, dict) else {}
    heir = BatchFolder.begin(into, plan.jobs, plan.recorded, plan.files, revisions)
    for job in plan.jobs:
        result = donor.results.get(job.id)
        if result is None or result.failure or (heir.run_path(job) / "rounds.jsonl").exists():
            continue
        claim = take(heir.prepared(job))
        if claim is not None:  # else another process is at it
            try:
                folder = open_run(heir, job, plan.settings, revisions)
                _take_over(plan.settings, folder, RunFolder.open(donor.batch.run_path(job)))
            finally:
                claim.release()


def _take_over(settings: Settings, folder: RunFolder, giving: RunFolder) -> None:
    """The first images of another arm; but not where its critic did not do what this one's does."""
    if settings.history and not giving.run.settings["history"]:
        return
    if settings.critique != giving.run.settings.get("critique", "all"):
        return
    wanted = min(settings.images, settings.max_images or settings.images)
    first = giving.run.rounds[0].attempts[:wanted]
    if len(first) == wanted and not folder.run.rounds:
        images = [giving.gallery(giving.run, attempt.image) for attempt in first]
        wording = giving.run.rounds[0].wording if settings.history else None
        folder.save(replace(folder.run, rounds=(Round(0, first, wording),)), images)
