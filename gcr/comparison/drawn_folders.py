"""Batches and comparisons that are there already, compared as they are: nothing is drawn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from gcr.comparison import evaluators
from gcr.comparison import folder as comparefolder
from gcr.comparison.arms import Arm
from gcr.comparison.evaluators import Choice
from gcr.comparison.figures import Asked, category, category_column
from gcr.comparison.folder import CompareInterrupted
from gcr.comparison.measuring import About, Comparison, conclude
from gcr.core.events import Consumer, Notice, ignore
from gcr.core.phrases import count
from gcr.core.records import Task
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.files.atomic import writing
from gcr.settings.resolving import resolve
from gcr.storage import batchfolder, runfolder


def are(paths: Sequence[Path]) -> bool:
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


def compare(  # noqa: PLR0913 - each for itself
    paths: Sequence[Path],
    flags: Mapping[str, object],
    *,
    evaluator: str | Sequence[str] | None,
    by: str,
    force: bool,
    into: Path | None,
    emit: Consumer = ignore,
) -> Comparison:
    """Compare batches and comparisons as they are, on the prompts that all of them have.

    flags: of which only `output` has a use. Raises UsageError for the others, GcrError where the
    evaluator fails, CompareInterrupted on Ctrl-C.
    """
    started = time.perf_counter()
    others = [key for key, value in flags.items() if value is not None and key != "output"]
    if others:
        hint = "give prompt files to draw with other settings"
        raise UsageError(f"--{others[0].replace('_', '-')}: nothing is drawn here", hint)
    arms = _arms(paths)
    asked = _in_all(arms, by, emit)
    choices = evaluators.chosen(evaluator, [arm.setting("generator") for arm in arms])
    critics = dict.fromkeys(arm.setting("critic") for arm in arms)
    tasks = [Task(one.prompt, one.columns) for one in asked]
    evaluators.check_apart(choices, {arm.setting("verify") for arm in arms})
    for choice in choices:
        evaluators.check(choice, tasks, critics, force=force)
    now = datetime.now().astimezone()
    output = resolve({"output": flags.get("output")}, ThisMachine()).output
    about = _about(into or runfolder.new_folder(output, "compared", now), now, paths, arms, choices)
    try:
        return conclude(about, asked, arms, emit, started)
    except KeyboardInterrupt as interruption:
        raise CompareInterrupted(about.folder) from interruption


def _about(
    folder: Path,
    now: datetime,
    paths: Sequence[Path],
    arms: Sequence[Arm],
    choices: tuple[Choice, ...],
) -> About:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    settings = [arm.batch.settings for arm in arms]
    return About(
        folder=folder,
        id=f"{now:%Y%m%d}-{folder.absolute().name}",
        started=now.isoformat(),
        files=tuple(map(str, paths)),
        settings={k: v for k, v in settings[0].items() if all(s.get(k) == v for s in settings)},
        versions=runfolder.versions(),
        evaluators=choices,
        critic=", ".join(dict.fromkeys(arm.setting("critic") for arm in arms)),
        equal="images",
        budget=max((one.images for arm in arms for one in arm.results.values()), default=0),
    )


def _arms(paths: Sequence[Path]) -> list[Arm]:
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
