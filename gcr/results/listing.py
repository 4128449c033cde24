"""Runs, batches and comparisons below a folder, newest first, as `gcr list` shows them.

Folders are read as they are, also while somebody works in them, and nothing is changed. What is
damaged is listed with what is wrong with it, and as much as can be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from sys import float_info
from typing import Any

from gcr.core.phrases import STOPPED, count
from gcr.core.ranking import best_scored
from gcr.core.records import StopReason
from gcr.errors import GcrError, UsageError
from gcr.files import paths, structured
from gcr.storage import batchfolder, ratings, runfolder
from gcr.storage.batchfolder import Summary

DEEPEST = 4
"""Folders between the output folder and a run: gcr makes two, and --into can name more."""
RECORDS = (runfolder.NAME, runfolder.ROUNDS)
COMPARED, CONTESTED = "compare.json", "arms.json"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MADE = re.compile(r"\d{6}(-.+)?-[0-9a-f]{4}")
"""The names that gcr gives to the folders of a day."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run, a batch or a comparison.

    kind: `run`, `batch` or `comparison`. folder: as a path that can be given to other commands.
    started: in ISO 8601, with the offset of its machine; empty where it cannot be read.
    prompt: of a run. files: of a batch or comparison, without their folders.
    score: of a run's best image; of a batch the mean of its prompts' best images; of a comparison
        the highest mean of its arms, by its evaluator. 0-1, None: there is none.
    images: that were drawn, as far as it is known.
    stop: why a run ended, as in run.json; None: it did not.
    done, total: prompts of a batch or a comparison. failed: of those that are done.
    untrusted: whether the score says nothing of some of the prompt.
    stars: of the user's best rating of a run's images, 1-5; 0: there is none.
    image: to show of it; None: there is none.
    problem: what is damaged; empty for nothing.
    """

    kind: str
    folder: Path
    started: str = ""
    prompt: str = ""
    files: tuple[str, ...] = ()
    score: float | None = None
    images: int = 0
    stop: str | None = None
    done: int = 0
    total: int = 0
    failed: int = 0
    untrusted: bool = False
    stars: int = 0
    image: Path | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        """What it is known by: its prompt or its files, or else the name of its folder."""
        return self.prompt or ", ".join(self.files) or self.folder.name

    @property
    def began(self) -> str:
        """When it began, to the second, in the time of its machine; by its folder's name, if by
        nothing else.
        """
        if self.started:
            return self.started[:19]
        day, time = self.folder.parent.name, self.folder.name[:6]
        known = _DAY.fullmatch(day) and time.isdecimal()
        return f"{day}T{time[:2]}:{time[2:4]}:{time[4:]}" if known else ""

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.kind != "run":
            words = f"{self.done} of {count(self.total, 'prompt')} done"
            return words + (f", {self.failed} failed" if self.failed else "")
        if self.stop:
            return STOPPED[StopReason(self.stop)]
        return "no known end" if self.problem else "not finished"

    def has(self, words: Sequence[str]) -> bool:
        """Whether its prompt, files or folder have all of the words, in capitals or not."""
        text = " ".join((self.prompt, *self.files, str(self.folder))).casefold()
        return all(word.casefold() in text for word in words)

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it."""
        image = str(self.image) if self.image else None
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            **values,
            "started": self.began,
            "folder": str(self.folder),
            "files": list(self.files),
            "image": image,
        }


ERRORS = (
    OSError,
    RuntimeError,
    ArithmeticError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
"""What reading a damaged record may raise."""


def entries(output: Path) -> list[Entry]:
    """All that is below a folder, newest first. Raises UsageError where there is no such folder."""
    if not paths.is_folder(output):
        raise UsageError(
            f"there is no folder {output}", "gcr refine makes it; or name another with --output"
        )
    listed = [_read(*place) for place in _places(output, DEEPEST)]
    return sorted(listed, key=lambda entry: (entry.began, str(entry.folder)), reverse=True)


def chosen(
    listed: Sequence[Entry],
    words: Sequence[str] = (),
    min_score: float | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Those that have the words and the score, so many at most; and all that are damaged, as
    nobody knows what they would have.
    """
    fit = [entry for entry in listed if _fits(entry, words, min_score)]
    return [
        entry for place, entry in enumerate(fit) if limit is None or place < limit or entry.problem
    ]


def _fits(entry: Entry, words: Sequence[str], min_score: float | None) -> bool:
    if entry.problem:
        return True
    enough = min_score is None or (entry.score is not None and entry.score >= min_score)
    return enough and entry.has(words)


def find(name: str, output: Path) -> Path:
    """The folder that a user means: a path, a file in it, or a part of its name below `output`.

    Raises UsageError where there is none, or more than one.
    """
    if not name.strip():
        raise UsageError("the name of the run is empty", "gcr list shows what there is")
    path = paths.expanded(name)
    if paths.is_folder(path):
        return path
    if paths.is_file(path):
        return path.parent
    places = [folder for _, folder in _places(output, DEEPEST)] if paths.is_folder(output) else []
    fit = [folder for folder in places if name.casefold() in folder.name.casefold()]
    # The whole name of one may be a part of another's.
    fit = [folder for folder in fit if folder.name == name] or fit
    if not fit:
        raise UsageError(f"no run {name!r} below {output}", "gcr list shows what there is")
    if len(fit) > 1:
        raise UsageError(
            f"{name!r} could be {count(len(fit), 'folder')}: "
            + ", ".join(folder.name for folder in sorted(fit)[:3])
            + (", …" if len(fit) > 3 else ""),
            "give more of its name, or its path",
        )
    return fit[0]


def newest_run(output: Path) -> Path:
    """The folder of the run that began last, by their names: gcr makes no run under another.

    Raises UsageError where there is none.
    """
    places = _places(output, DEEPEST) if paths.is_folder(output) else ()
    runs = [Entry(kind, folder) for kind, folder in places if kind == "run"]
    if runs:
        return max(runs, key=lambda entry: (entry.began, str(entry.folder))).folder
    raise UsageError(f"no run below {output}", 'gcr refine "a red circle" makes one')


def _places(folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
    """The kind and folder of each of them below a folder. What is inside of one belongs to it."""
    with os.scandir(folder) as children:
        names = sorted(each.name for each in children if each.is_dir(follow_symlinks=False))
    for name in names:
        path = folder / name
        if kind := kind_of(path):
            yield kind, path
        elif depth > 1 and os.access(path, os.R_OK | os.X_OK):
            yield from _places(path, depth - 1)


def kind_of(path: Path) -> str:
    """What a folder holds, also where its record is gone; empty for none of ours."""
    if paths.exists(path / COMPARED) or paths.exists(path / CONTESTED):
        return "comparison"
    if paths.exists(path / batchfolder.NAME):
        return "batch"
    begun = any(paths.exists(path / name) for name in RECORDS)
    made = _DAY.fullmatch(path.parent.name) and _MADE.fullmatch(path.name)
    return "run" if begun or made else ""


def _read(kind: str, folder: Path) -> Entry:
    read = {"run": _run, "batch": _batch, "comparison": _comparison}[kind]
    try:
        return read(folder)
    except GcrError as error:
        return Entry(kind, folder, problem=error.message)


def _run(folder: Path) -> Entry:
    if not any(paths.exists(folder / name) for name in RECORDS):
        raise GcrError(f"{folder} has no {runfolder.NAME}: nothing was begun there, or it is lost")
    problem = runfolder.first_damage(folder)
    run, story = runfolder.load_with_story(folder)
    best = best_scored(run)
    rating = ratings.top(ratings.read(folder))
    shown = best or next(iter(run.attempts), None)
    return Entry(
        "run",
        folder,
        str(story.get("started") or ""),
        prompt=run.request.prompt,
        score=best.score if best else None,
        images=len(run.attempts),
        stop=str(run.stop) if run.stop else None,
        untrusted=bool(run.untrusted),
        stars=rating.stars if rating else 0,
        image=folder / shown.image if shown else None,
        problem=problem,
    )


def _batch(folder: Path) -> Entry:
    batch = batchfolder.BatchFolder.open(folder)
    entry = Entry(
        "batch",
        folder,
        str(batch.story.get("started") or ""),
        files=_names(batch.story.get("files")),
        total=len(batch.jobs),
    )
    try:
        Summary(folder).refresh()
    except GcrError as error:
        entry = replace(entry, problem=error.message)
    results = batch.results()
    scored = [(r.best, r.best_image) for r in results if r.best is not None]
    top = max(scored, default=(None, ""))[1]
    return replace(
        entry,
        score=fmean(score for score, _ in scored) if scored else None,
        images=sum(result.images for result in results),
        done=len(results),
        failed=sum(bool(result.failure) for result in results),
        untrusted=any(result.untrusted for result in results),
        image=folder / top if top else None,
    )


def _comparison(folder: Path) -> Entry:
    """From compare.json, or where it is not done from arms.json."""
    path = folder / COMPARED
    try:
        if not path.exists():
            record = structured.record(folder / CONTESTED)
            total = len(record["entries"])
            return _named(Entry("comparison", folder, total=total), record)
        record = structured.record(path)
        prompts, means = record["prompts"], [_score(arm["mean"]) for arm in record["arms"]]
        arms = [arm for prompt in prompts for arm in prompt["arms"].values()]
        images = [(_score(arm["score"]) or 0.0, str(arm["image"])) for arm in arms if arm["image"]]
        top = max(images, default=(0.0, ""))[1]
        return _named(
            Entry(
                "comparison",
                folder,
                score=max((mean for mean in means if mean is not None), default=None),
                images=sum(_count(arm["images"]) for arm in arms),
                done=len(prompts),
                total=len(prompts),
                failed=sum(any(a["failure"] for a in p["arms"].values()) for p in prompts),
                image=_inside(folder, top),
            ),
            record,
        )
    except ERRORS as error:
        raise runfolder.damaged(path if path.exists() else folder / CONTESTED, error) from error


def _score(value: object) -> float | None:
    """A score of a record, on whatever scale its evaluator has. Raises ValueError for none."""
    if value is None:
        return None
    if not isinstance(value, int | float) or not abs(value) <= float_info.max:  # nan neither
        raise ValueError(f"a score of {value!r}")
    return value


def _count(value: object) -> int:
    """How many, as a record has it. Raises ValueError for what is no number of things."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of images")
    return value


def _named(entry: Entry, record: Any) -> Entry:
    started = str(record.get("started") or "")
    return replace(entry, started=started, files=_names(record.get("files")))


def _names(files: object) -> tuple[str, ...]:
    return tuple(Path(str(file)).name for file in files) if isinstance(files, list) else ()


def _inside(folder: Path, name: object) -> Path | None:
    """A file of a folder, by a record that may be anybody's; None for one that is elsewhere."""
    path = folder / str(name)
    return path if name and path.resolve().is_relative_to(folder.resolve()) else None
