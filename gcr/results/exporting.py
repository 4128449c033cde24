"""Puts the images of a batch where the scorers of public benchmarks look for them (`layouts`).

A layout stands twice in its folder: `raw` has the request as it is, `refined` the best image of
the same run, so that a scorer compares the two on equal prompts and seeds. A prompt that failed is
in neither. Several batches of the same prompts, drawn with different seeds, give several images of
each prompt: the first batch image 0, the next image 1.

The layout of a batch that goes on is added to when it is exported again: what is done stays done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcr.core.phrases import count
from gcr.core.records import Result, image_name
from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.atomic import check_inside, duplicate, read, write, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.results.layouts import LAYOUTS, check
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.summary import Summary

RAW, REFINED = "raw", "refined"
NAME = "layout.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """A layout that was written.

    folder: with `raw` and `refined` in it. prompts: that are there, each with `images` images.
    left_out: why others are not, by their ids.
    """

    form: str
    folder: Path
    prompts: int
    images: int
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "format": self.form,
            "folder": str(self.folder),
            RAW: str(self.folder / RAW),
            REFINED: str(self.folder / REFINED),
            "prompts": self.prompts,
            "images": self.images,
            "left_out": dict(self.left_out),
        }

    def said(self) -> list[str]:
        """What came of it, in lines for a person."""
        layout, missing = LAYOUTS[self.form], len(self.left_out)
        each = f", {self.images} images of each" if self.images > 1 else ""
        lines = [f"{self.form}: {self.prompts} of {count(self.prompts + missing, 'prompt')}{each}"]
        if missing:
            id_, reason = next(iter(self.left_out.items()))
            more = f"; and {missing - 1} more" if missing > 1 else ""
            fails = ", on which its scorer fails" if layout.every else ""
            lines.append(f"left out{fails}: {id_} ({reason}){more}")
        if layout.images > self.images:
            lines.append(
                f"its scorer reads {layout.images} images of each prompt: draw batches with other "
                "--seed, such as 1000 apart, and name all of them in one gcr export"
            )
        return lines


def export(paths: Sequence[Path], form: str, output: Path | None = None) -> Exported:
    """Write the layout of a batch, or of several batches of the same prompts.

    output: the layout's folder; None: below the batch's own, named after the form.
    Images are hard links where the file system has them, and copies where not. Raises UsageError
    for batches that do not go together and for a folder that is not theirs, GcrError where no
    prompt is done.
    """
    batches = [BatchFolder.open(path) for path in paths]
    jobs = _common_jobs(batches)
    if len(batches) > 1 and form == "geneval2":
        raise UsageError("geneval2 has one image of each prompt", "name one batch")
    check(form, jobs)
    if output is None and len(batches) > 1:
        raise UsageError("several batches, and no --output", "name the layout's folder")
    folder = output or paths[0] / form
    _check_ours(folder, form, batches)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with turn(folder):  # shards of one batch may end at the same time
        return _write(folder, form, batches, jobs)


def _common_jobs(batches: Sequence[BatchFolder]) -> tuple[Job, ...]:
    """The prompts of all batches. Raises UsageError unless they are equal and the seeds are not."""
    first = batches[0]
    seeds = {job.id: {job.seed} for job in first.jobs}
    for other in batches[1:]:
        if [(j.id, j.prompt) for j in other.jobs] != [(j.id, j.prompt) for j in first.jobs]:
            raise UsageError(
                f"{other.path} has other prompts than {first.path}", "name batches of one file"
            )
        for job in other.jobs:
            if job.seed in seeds[job.id]:
                raise UsageError(
                    f"{other.path} draws prompt {job.id} from seed {job.seed}, as another does",
                    "its images would count twice: draw the batch with another --seed",
                )
            seeds[job.id].add(job.seed)
    return first.jobs


def _check_ours(folder: Path, form: str, batches: Sequence[BatchFolder]) -> None:
    """Raise UsageError for a folder that holds anything but this very layout."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        record = structured.record(folder / NAME)
        ours = (record["format"], record["batches"]) == (form, _names(batches))
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise UsageError(
            f"{folder} is there already, and not the {form} layout of these batches",
            "name another folder with --output, or remove it",
        )


def _write(
    folder: Path, form: str, batches: Sequence[BatchFolder], jobs: Sequence[Job]
) -> Exported:
    results = [_results(batch) for batch in batches]
    left_out = {}
    done: dict[int, Job] = {}
    for place, job in enumerate(jobs):
        reasons = [_reason(own.get(job.id)) for own in results]
        if any(reasons):
            left_out[job.id] = next(filter(None, reasons))
        else:
            done[place] = job
    if not done:
        raise GcrError("no prompt is done, so there is no image to export", "finish the batch")
    record = {"format": form, "batches": _names(batches), "left_out": left_out}
    write(folder / NAME, _json(record))
    layout = LAYOUTS[form]
    for place, job in done.items():
        for number, (batch, own) in enumerate(zip(batches, results, strict=True)):
            result = own[job.id]
            below = layout.image(job, place, number, len(batches))
            raw = batch.path / result.folder / image_name(0, 0)
            _link(raw, folder / RAW / below, folder)
            _link(batch.path / result.best_image, folder / REFINED / below, folder)
    for side in (RAW, REFINED):
        for below, content in layout.texts(folder / side, done).items():
            check_inside(folder, (folder / side / below).parent)
            write(folder / side / below, _json(content))
    return Exported(form, folder, len(done), len(batches), left_out)


def _names(batches: Sequence[BatchFolder]) -> list[str]:
    """What tells batches apart, wherever their folders are."""
    return [f"{batch.id} {batch.story.get('started')}" for batch in batches]


def _results(batch: BatchFolder) -> dict[str, Result]:
    summary = Summary(batch.path)
    summary.refresh()
    return summary.results


def _reason(result: Result | None) -> str:
    """Why a prompt has no pair of images; empty where it has one."""
    return "not done yet" if result is None else result.failure


def _link(image: Path, target: Path, folder: Path) -> None:
    """Put an image in its place, whole or not at all; one that is there already stays."""
    try:
        content = read(image)
    except OSError as error:
        message = f"cannot read {image}: {error.strerror or error}"
        raise GcrError(message, "put the file back, or draw the batch anew") from error
    if target.is_file() and read(target) == content:
        return
    check_inside(folder, target.parent)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    # Not beside the target: scorers read every file that they find there.
    duplicate(image, target, near=folder)


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"
