"""Comparisons: arms over the same prompts, measured by an evaluator that did not steer them; drawn
for it, or batches and comparisons that are there already.

Everything that can be wrong with prompts, settings and evaluator is said before a model is loaded.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.comparison import arms as kinds
from gcr.comparison import evaluators
from gcr.comparison import folder as comparefolder
from gcr.comparison.arms import Arm, Models
from gcr.comparison.evaluators import Choice
from gcr.comparison.figures import Asked, category, category_column
from gcr.comparison.folder import CompareInterrupted, Contest
from gcr.comparison.measuring import About, Comparison, conclude, take
from gcr.core.events import Consumer, Notice, ignore
from gcr.core.phrases import count
from gcr.core.records import Task
from gcr.core.stopping import MOST_ROUNDS
from gcr.engine.machine import ThisMachine
from gcr.engine.plan import Pace, new_folder
from gcr.engine.waves import never
from gcr.errors import UsageError
from gcr.files.atomic import writing
from gcr.settings import plugins
from gcr.settings.resolving import BUDGET_IS_LIMIT, output_folder, resolve
from gcr.storage import batchfolder, runfolder

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
        raise UsageError(
            f"--equal should be 'images' or 'seconds', not {equal!r}",
            "it says what all arms have equally much of",
        )
    named = f"--{budget.replace('_', '-')}"
    if flags.get(other) is not None:
        hint = f"leave out --{other.replace('_', '-')}, or change --equal"
        raise UsageError(f"at equal {equal} the budget is {named}", hint)
    if flags.get("strategy") is not None:
        raise UsageError("a comparison has several strategies", "name each with --arm")
    if flags.get("format") not in (None, "png"):
        raise UsageError(
            "a comparison's images are PNGs: its arms share the first ones, pixel by pixel",
            "leave the format out",
        )
    settings, origins, _ = resolve(flags, ThisMachine())
    if equal == "seconds" and settings.max_seconds is None:
        raise UsageError("--equal seconds needs to know how many", "add --max-seconds")
    nobodys = {key for key, origin in origins.items() if origin in ("default", BUDGET_IS_LIMIT)}
    changes: dict[str, Any] = {"strategy": "refine", "compare": False, other: None}
    changes["format"] = "png"
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
    benchmark: str = "",
) -> Contest:
    """What is to be compared, checked. Raises UsageError, and ModelError for an evaluator.

    benchmark: whose own scorer is an evaluator, too, or the only one.
    """
    names = tuple(dict.fromkeys(arms))
    known = ", ".join((kinds.RAW, *plugins.STRATEGIES.names(), kinds.SCREENED))
    for name in names:
        if name not in (kinds.RAW, kinds.SCREENED):
            plugins.STRATEGIES.find(name, lambda: known)
    if kinds.SCREENED in names and plan.settings.score != "checklist":
        raise UsageError(
            f"--arm {kinds.SCREENED} scores by a checklist, and the other arms would not",
            "give --score checklist, for all arms",
        )
    official = (Choice(evaluators.SCORES, benchmark),) if benchmark else ()
    choices: tuple[Choice, ...] = ()
    if evaluator or not benchmark:
        choices = evaluators.chosen(evaluator, [plan.settings.generator])
    _check_for(plan, choices, force=force)
    column = category_column([job.extra for job in plan.jobs], by)
    return Contest(plan, names, choices + official, equal, column)


def _check_for(plan: Plan, choices: Sequence[Choice], *, force: bool = False) -> None:
    """As `_check`, for what a plan is to draw."""
    tasks = [Task(job.prompt, job.extra) for job in plan.jobs]
    _check(choices, [plan.settings.verify], tasks, [plan.settings.critic], force)


def _check(
    choices: Sequence[Choice],
    verifiers: Collection[str],
    tasks: Sequence[Task],
    critics: Collection[str],
    force: bool,
) -> None:
    """Raise what can be known to be wrong with evaluators before anything is measured."""
    evaluators.check_apart(choices, verifiers)
    for choice in choices:
        evaluators.check(choice, tasks, critics, force=force)


def run(
    contest: Contest,
    into: Path | None,
    wave: int | None = None,
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
    runfolder.check_writable(into or plan.settings.output, "--into" if into else "--output")
    own = {name: kinds.plan_of(name, plan) for name in contest.arms}
    models = Models()
    if into is None or not (into / comparefolder.NAME).exists():
        for one in own.values():  # a folder is made for what can be drawn
            models.parts(one, emit)
    folder = into or new_folder(plan)
    about = _begun(folder, contest)
    with _resumable(folder):
        kinds.play(own, folder, models, Pace(wave or 0), emit, stop)
        del models  # an evaluator may need their room
        return conclude(about, contest.asked, _arms_of(contest, folder), emit, started)


def _begun(folder: Path, contest: Contest) -> About:
    """Write down what is compared, and say it."""
    plan = contest.plan
    return About(
        folder=folder,
        **comparefolder.begin(folder, contest),
        files=plan.files,
        settings=plan.recorded,
        evaluators=contest.evaluators,
        critic=plan.settings.critic,
        equal=contest.equal,
        budget=contest.budget,
    )


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
    wave: int | None = None,
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
    contest = contest_of(path, evaluator, "resume", **here)
    return run(contest, path, wave, emit=emit, stop=stop)


def contest_of(
    path: Path,
    evaluator: str | Sequence[str] | None,
    command: str,
    **here: Unpack[ResumeOptions],
) -> Contest:
    """The contest of a folder, with its evaluators or those that are given.

    command: that is to be given again with what only its user may say. Raises UsageError, and
    ModelError for an evaluator.
    """
    contest = comparefolder.found(path, **here)
    known = contest.evaluators
    official = tuple(choice for choice in known if choice.name == evaluators.SCORES)
    lines = [choice.model for choice in known if not evaluators.names_models(choice)]
    if evaluator:
        given = evaluators.chosen(evaluator, [contest.plan.settings.generator])
        evaluators.check_apart(given, [contest.plan.settings.verify])
        _check_for(contest.plan, [choice for choice in given if choice not in known])
        contest = replace(contest, evaluators=given + official)
    elif lines:
        words = [shlex.quote(str(choice)) for choice in known if choice not in official]
        again = " ".join(f"--evaluator {word}" for word in words)
        raise UsageError(
            f"{path} measures with a command line: {lines[0]}",
            f"if it is yours: gcr {command} {path} {again}",
        )
    return contest


def scored(
    path: Path,
    contest: Contest,
    scores: Mapping[tuple[str, str], float],
    benchmark: str,
    emit: Consumer = ignore,
) -> Comparison:
    """What came of a comparison that was drawn, with scores of a benchmark's own scorer.

    scores: by arm and prompt id. Raises as `resume` does.
    """
    started = time.perf_counter()
    arms = _arms_of(contest, path)
    about = _begun(path, contest)
    with _resumable(path):
        take(scores, arms, Choice(evaluators.SCORES, benchmark), path, emit)
        return conclude(about, contest.asked, arms, emit, started)


def _arms_of(contest: Contest, folder: Path) -> list[Arm]:
    return [Arm.read(name, folder / name) for name in contest.arms]


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say where to go on from where this is interrupted."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        raise CompareInterrupted(folder) from interruption


# Of what is drawn already


def are_drawn(paths: Sequence[Path]) -> bool:
    """Whether these are folders of batches and comparisons, rather than prompt files.

    Raises UsageError where only some are.
    """
    found = [
        any((path / name).exists() for name in (batchfolder.NAME, comparefolder.NAME))
        for path in paths
    ]
    if any(found) and not all(found):
        other = paths[found.index(False)]
        raise UsageError(
            f"{other} is no folder of a batch or a comparison, as the others are",
            "compare such folders with each other, or draw prompt files",
        )
    return all(found)


def drawn(  # noqa: PLR0913 - each for itself
    paths: Sequence[Path],
    into: Path | None,
    *,
    output: object = None,
    evaluator: str | Sequence[str] | None = None,
    by: str = "",
    force: bool = False,
    emit: Consumer = ignore,
) -> Comparison:
    """Compare batches and comparisons that are there as they are, on the prompts that all have.

    output: where a new folder is made, as an option gives it. Raises GcrError; CompareInterrupted
    on Ctrl-C.
    """
    started = time.perf_counter()
    arms = _arms_in(paths)
    asked = _in_all(arms, by, emit)
    choices = evaluators.chosen(evaluator, [arm.setting("generator") for arm in arms])
    verifiers = {arm.setting("verify") for arm in arms}
    critics = dict.fromkeys(arm.setting("critic") for arm in arms)
    _check(choices, verifiers, [Task(one.prompt, one.columns) for one in asked], critics, force)
    now = datetime.now().astimezone()
    folder = into or runfolder.new_folder(output_folder({"output": output}), "compared", now)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    settings = [arm.batch.settings for arm in arms]
    about = About(
        folder=folder,
        id=f"{now:%Y%m%d}-{folder.absolute().name}",
        started=now.isoformat(),
        files=tuple(map(str, paths)),
        settings={k: v for k, v in settings[0].items() if all(s.get(k) == v for s in settings)},
        versions=runfolder.versions(),
        evaluators=choices,
        critic=", ".join(critics),
        equal="images",
        budget=max((one.images for arm in arms for one in arm.results.values()), default=0),
    )
    with _resumable(folder):
        return conclude(about, asked, arms, emit, started)


def _arms_in(paths: Sequence[Path]) -> list[Arm]:
    """The arms in folders, named after these as far as it takes to tell them apart."""
    places = []
    for path in paths:
        if (path / batchfolder.NAME).exists():
            places.append(path)
        else:
            places += [path / name for name in comparefolder.found(path).arms]
    called = Counter(place.name for place in places)
    names = [place.name if called[place.name] == 1 else str(place) for place in places]
    if len(set(names)) < max(2, len(names)):
        raise UsageError("a batch has to be compared with another", "name two folders")
    return [Arm.read(name, place) for name, place in zip(names, places, strict=True)]


def _in_all(arms: Sequence[Arm], by: str, emit: Consumer) -> list[Asked]:
    """The prompts that all arms have, by id and words. Raises UsageError where there are none."""
    sets = [{(job.id, job.prompt): job for job in arm.batch.jobs} for arm in arms]
    common = [place for place in sets[0] if all(place in one for one in sets)]
    if not common:
        raise UsageError(
            "these batches have no prompt in common", "ids and words have to be the same"
        )
    if left := len(set().union(*sets)) - len(common):
        emit(Notice(f"{count(left, 'prompt')} not in all of the batches, so left out", ""))
    if any(one[place].seed != sets[0][place].seed for one in sets for place in common):
        emit(Notice("the batches began with other seeds", "so chance adds to their differences"))
    jobs = [sets[0][place] for place in common]
    column = category_column([job.extra for job in jobs], by)
    return [Asked(job.id, job.prompt, category(job.extra, column), job.extra) for job in jobs]
