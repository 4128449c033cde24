"""Comparisons: arms over the same prompts, measured by an evaluator that did not steer them.

Everything that can be wrong with prompts, settings and evaluator is said before a model is loaded.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.comparison import arms as kinds
from gcr.comparison import evaluators
from gcr.comparison import folder as comparefolder
from gcr.comparison.arms import Arm, Models
from gcr.comparison.figures import category_column
from gcr.comparison.folder import CompareInterrupted, Contest
from gcr.comparison.measuring import About, Comparison, conclude
from gcr.core.events import Consumer, ignore
from gcr.core.records import Task
from gcr.engine.machine import ThisMachine
from gcr.engine.plan import SIZE, Pace
from gcr.engine.waves import never
from gcr.errors import UsageError
from gcr.settings.resolving import BUDGET_IS_LIMIT, traced
from gcr.settings.schema import MOST_ROUNDS
from gcr.storage import runfolder

if TYPE_CHECKING:
    from typing import Unpack

    from gcr.engine.plan import Plan
    from gcr.settings.schema import ResumeOptions, Settings

IMAGES = 8
"""The budget of each arm for a prompt, where none is given."""


def shared(flags: Mapping[str, object], equal: str) -> Settings:
    """The settings that all arms share, with their budget, from options as in `gcr.batch`.

    The budget is the limit: rounds, and rounds without a gain, limit an arm only where the options
    say so. Raises UsageError.
    """
    budget, other = "max_images", "max_seconds"
    if equal == "seconds":
        budget, other = other, budget
    elif equal != "images":
        raise UsageError(f"--equal {equal!r}", "arms are compared at equal images, or seconds")
    named = f"--{budget.replace('_', '-')}"
    if flags.get(other) is not None:
        hint = f"leave out --{other.replace('_', '-')}, or change --equal"
        raise UsageError(f"at equal {equal} the budget is {named}", hint)
    if flags.get("strategy") is not None:
        raise UsageError("a comparison has several strategies", "name each with --arm")
    settings, origins, _ = traced(flags, ThisMachine())
    if equal == "seconds" and settings.max_seconds is None:
        raise UsageError("--equal seconds needs to know how many", "add --max-seconds")
    nobodys = {key for key, origin in origins.items() if origin in ("default", BUDGET_IS_LIMIT)}
    changes: dict[str, Any] = {"strategy": "refine", "compare": False, other: None}
    changes |= dict.fromkeys({"rounds", "patience"} & nobodys, MOST_ROUNDS)
    if equal == "images":
        changes |= dict.fromkeys({budget} & nobodys, IMAGES)
    return replace(settings, **changes)


def prepare(  # noqa: PLR0913 - each for itself
    plan: Plan,
    *,
    evaluator: str | Sequence[str] | None,
    arms: Sequence[str],
    equal: str,
    by: str,
    force: bool,
) -> Contest:
    """What is to be compared, checked. Raises UsageError, and ModelError for an evaluator."""
    names = tuple(dict.fromkeys(arms))
    for name in names:
        if name not in kinds.NAMES:
            raise UsageError(f"no arm named {name!r}", f"there are: {', '.join(kinds.NAMES)}")
    choices = evaluators.chosen(evaluator, [plan.settings.generator])
    tasks = [Task(job.prompt, job.extra) for job in plan.jobs]
    for choice in choices:
        evaluators.check(choice, tasks, [plan.settings.critic], force=force)
    column = category_column([job.extra for job in plan.jobs], by)
    return Contest(plan, names, choices, equal, column)


def run(
    contest: Contest,
    into: Path | None,
    wave: int = SIZE,
    *,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = never,
) -> Comparison:
    """Draw what is not drawn yet, and measure it. stop: as `waves.work` has it.

    Raises as `compare` does.
    """
    started = time.perf_counter()
    contest = _joined(contest, into)
    plan = contest.plan
    runfolder.check_writable(into or plan.settings.output)
    own = {name: kinds.plan_of(name, plan) for name in contest.arms}
    models = Models()
    if into is None or not (into / comparefolder.NAME).exists():
        for one in own.values():  # a folder is made for what can be drawn
            models.parts(one, emit)
    folder = into or plan.new_folder()
    about = About(
        folder=folder,
        **comparefolder.begin(folder, contest),
        files=plan.files,
        settings=plan.recorded,
        evaluators=contest.evaluators,
        critic=plan.settings.critic,
        equal=contest.equal,
        budget=contest.budget,
    )
    try:
        kinds.play(own, folder, models, Pace(wave), emit, stop)
        del models  # an evaluator may need their room
        arms = [Arm.read(name, folder / name) for name in contest.arms]
        return conclude(about, contest.asked, arms, emit, started)
    except KeyboardInterrupt as interruption:
        raise CompareInterrupted(folder) from interruption


def _joined(contest: Contest, into: Path | None) -> Contest:
    """The contest with the arms that its folder has already, and what was measured at its start."""
    if into is not None and (into / comparefolder.NAME).exists():
        before = comparefolder.found(into)
        names = tuple(dict.fromkeys([*before.arms, *contest.arms]))
        plan = contest.plan.as_begun(before.plan.recorded)
        contest = replace(contest, arms=names, plan=plan)
    if len(contest.arms) < 2:
        raise UsageError("one arm has nothing to be compared with", "name two with --arm")
    return contest


def resume(
    path: Path,
    wave: int = SIZE,
    *,
    evaluator: str | Sequence[str] | None = None,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = never,
    **here: Unpack[ResumeOptions],
) -> Comparison:
    """Go on with the comparison of a folder, as it was begun. here: what `recalled` takes besides.

    evaluator: those it was begun with have to be given again where one is a command line: a folder
        may come from anywhere, and is not to say what is run.
    Raises as `compare` does.
    """
    contest = comparefolder.found(path, **here)
    known = contest.evaluators
    lines = [choice.model for choice in known if not evaluators.names_models(choice)]
    if evaluator:
        given = evaluators.chosen(evaluator, [contest.plan.settings.generator])
        contest = replace(contest, evaluators=given)
    elif lines:
        again = " ".join(f"--evaluator {shlex.quote(str(choice))}" for choice in known)
        raise UsageError(
            f"{path} measures with a command line: {lines[0]}",
            f"if it is yours: gcr resume {path} {again}",
        )
    return run(contest, path, wave, emit=emit, stop=stop)
