"""Puts the images of a batch where the scorers of public benchmarks look for them.

    geneval        00000/metadata.jsonl, 00000/samples/0000.png
    geneval2       image_paths.json: {prompt: path}, 00000.png
    unigenbench    0_0.png: the prompt's index and the image's number
    t2i-compbench  samples/a red cat_000000.png: the prompt itself and a running number
    dpg            0.png: the prompt's id

A layout is written twice: `raw` has the image of the request as it is, `refined` the best image of
the same run, so that a scorer compares the two on equal prompts and seeds. A prompt that failed is
in neither. Several batches of the same prompts, drawn with different seeds, give several images of
each prompt: the first batch image 0, the next image 1.

When a batch has gone on and is exported again, its layout is added to: what is there stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcr.core.phrases import count
from gcr.core.records import Result, image_name
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile, structured
from gcr.files.atomic import check_inside, duplicate, read, replacing, write, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.storage import metadata
from gcr.storage.batchfolder import BatchFolder, Summary

RAW, REFINED = "raw", "refined"
NAME = "layout.json"
MOST_NAME_BYTES = 255
"""Of a file's name, on nearly every file system."""


# The layouts


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a benchmark's scorer looks for images, and for what belongs to them.

    Attributes:
        check: raises UsageError for jobs that the layout cannot be made of.
        image: returns the path of an image below `raw` or `refined`, from its job, the job's place
            in the batch (from 0), the image's number (from 0), and the images of each prompt.
        texts: returns the contents of the other files by their paths, from the folder and the jobs
            in it by their places.
        images: how many of each prompt the scorer reads; 0: as many as there are.
        every: whether the scorer fails on a prompt of its own file that has no image.
        single: whether there is one image of each prompt.
        counted: whether a scorer counts images instead of reading their numbers, so that no number
            may be left out.
    """

    check: Callable[[Sequence[Job]], None]
    image: Callable[[Job, int, int, int], str]
    texts: Callable[[Path, Mapping[int, Job]], Mapping[str, object]] = lambda _folder, _jobs: {}
    images: int = 0
    every: bool = False
    single: bool = False
    counted: bool = False


def check(form: str, jobs: Sequence[Job]) -> None:
    """Raise UsageError unless there is such a layout, and it can be made of these prompts.

    Only prompts and columns are looked at, so this can be called before anything is drawn.
    """
    if form not in LAYOUTS:
        raise UsageError(f"no layout {form!r}", f"known: {', '.join(LAYOUTS)}")
    for job in jobs:
        if job.written:
            raise UsageError(
                f"{job.place}: wildcards made {job.prompt!r} of it, which is no prompt of {form}",
                "give --literal to gcr batch, which leaves texts as they are",
            )
    LAYOUTS[form].check(jobs)


def _check_geneval(jobs: Sequence[Job]) -> None:
    """The scorer passes an image whose row has no `include`, so each row must have it."""
    for job in jobs:
        tag, include = job.extra.get("tag"), job.extra.get("include")
        is_complete = isinstance(include, list) and all(
            isinstance(item, dict) and {"class", "count"} <= item.keys() for item in include
        )
        if not (isinstance(tag, str) and include and is_complete):
            raise UsageError(
                f"{job.place}: geneval needs the columns tag and include, a list of objects with "
                "class and count",
                "take its evaluation_metadata.jsonl",
            )


def _geneval_rows(_folder: Path, jobs: Mapping[int, Job]) -> Mapping[str, object]:
    """The rows as they were in the prompt file."""
    return {
        f"{place:05}/metadata.jsonl": {**job.extra, "prompt": job.prompt}
        for place, job in jobs.items()
    }


def _check_geneval2(jobs: Sequence[Job]) -> None:
    places: dict[str, str] = {}
    for job in jobs:
        if job.prompt in places:
            raise UsageError(
                f"{job.place}: geneval2 finds images by their prompts, and {places[job.prompt]} "
                "has the same",
                "remove one of the two rows",
            )
        places[job.prompt] = job.place


def _geneval2_paths(folder: Path, jobs: Mapping[int, Job]) -> Mapping[str, object]:
    """Absolute paths, because the scorer runs in another folder."""
    paths = {job.prompt: str((folder / f"{place:05}.png").resolve()) for place, job in jobs.items()}
    return {"image_paths.json": paths}


def _check_unigenbench(jobs: Sequence[Job]) -> None:
    """The index must be the benchmark's: row numbers would be accepted, and off by one."""
    indices: set[int] = set()
    for job in jobs:
        has_dimensions = any(name.startswith("sub_dims") for name in job.extra)
        index = int(job.id) if job.id.isascii() and job.id.isdigit() else None
        if not has_dimensions or index is None or index in indices:
            raise UsageError(
                f"{job.place}: unigenbench needs the columns index and sub_dims_en or sub_dims_zh, "
                "and one row for each index",
                "take one of its test_prompts files",
            )
        indices.add(index)


def _check_t2i_compbench(jobs: Sequence[Job]) -> None:
    for job in jobs:
        name = _t2i_compbench_image(job, 0, 0, 1).removeprefix("samples/")
        if len(name.encode()) > MOST_NAME_BYTES:
            raise UsageError(
                f"{job.place}: t2i-compbench reads the prompt from the image's file name, and this "
                "one is too long for it",
                f"shorten it to {MOST_NAME_BYTES - len('_000000.png')} bytes",
            )


def _t2i_compbench_image(job: Job, place: int, number: int, images: int) -> str:
    """The scorers read the prompt up to the first "_", and a file name cannot have a "/"."""
    words = " ".join(job.prompt.replace("/", " ").replace("_", " ").split())
    return f"samples/{words}_{place * images + number:06}.png"


def _check_dpg(jobs: Sequence[Job]) -> None:
    """The ids must be the benchmark's, from files' names or its table, and not row numbers."""
    for job in jobs:
        stem = Path(job.place.partition(", line ")[0].partition(", row ")[0]).stem
        if job.id in {"", ".", ".."} or not ("proposition_id" in job.extra or stem == job.id):
            raise UsageError(
                f"{job.place}: dpg needs the benchmark's own ids",
                "take its folder of prompts, or dpg_bench.csv",
            )
        if "." in job.id or "/" in job.id:
            raise UsageError(
                f"{job.place}: dpg reads the id from the image's file name, which {job.id!r} "
                "cannot be",
                'take an id without "." and "/"',
            )


LAYOUTS: Mapping[str, Layout] = {
    # github.com/djghosh13/geneval, evaluation/evaluate_images.py
    "geneval": Layout(
        _check_geneval,
        lambda _job, place, number, _images: f"{place:05}/samples/{number:04}.png",
        _geneval_rows,
    ),
    # github.com/facebookresearch/GenEval2, evaluation.py --image_filepath_data
    "geneval2": Layout(
        _check_geneval2,
        lambda _job, place, _number, _images: f"{place:05}.png",
        _geneval2_paths,
        every=True,
        single=True,
    ),
    # github.com/CodeGoat24/UniGenBench, eval/*_eval.py --data_path
    "unigenbench": Layout(
        _check_unigenbench,
        lambda job, _place, number, _images: f"{int(job.id)}_{number}.png",
        images=4,
        every=True,
    ),
    # github.com/Karine-Huang/T2I-CompBench, BLIPvqa_eval, UniDet_eval, CLIPScore_eval
    "t2i-compbench": Layout(_check_t2i_compbench, _t2i_compbench_image, counted=True),
    # github.com/TencentQQGYLab/ELLA, dpg_bench/compute_dpg_bench.py, with PIC_NUM=1
    "dpg": Layout(_check_dpg, lambda job, _place, _number, _images: f"{job.id}.png", single=True),
}


# The files


@dataclass(frozen=True, slots=True)
class Exported:
    """A layout that was written.

    Attributes:
        form: its name, one of LAYOUTS.
        folder: with `raw` and `refined` in it.
        prompts: how many are there.
        images: how many of each prompt.
        left_out: why other prompts are not there, by their ids.
    """

    form: str
    folder: Path
    prompts: int
    images: int
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """What `gcr export --json` prints."""
        return {
            "format": self.form,
            "folder": str(self.folder),
            RAW: str(self.folder / RAW),
            REFINED: str(self.folder / REFINED),
            "prompts": self.prompts,
            "images": self.images,
            "left_out": dict(self.left_out),
        }

    def summary(self) -> list[str]:
        """Lines for a person."""
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

    Images are hard links where the file system has them, else copies.

    Arguments:
        paths: the batches' folders.
        form: the layout, one of LAYOUTS.
        output: its folder; None: in the batch's folder, named after the layout.

    Raises UsageError for batches that do not go together and for a folder that holds anything else,
    GcrError where no prompt is done.
    """
    batches = [BatchFolder.open(path) for path in paths]
    jobs = _common_jobs(batches)
    check(form, jobs)
    if len(batches) > 1 and LAYOUTS[form].single:
        raise UsageError(f"{form} has one image of each prompt", "name one batch")
    if output is None and len(batches) > 1:
        raise UsageError("several batches, and no --output", "name the layout's folder")
    folder = output or paths[0] / form
    check_ours(folder, form, _names(batches))
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


def check_ours(folder: Path, form: str, names: Sequence[str]) -> None:
    """Raise UsageError for a folder that holds anything but this layout of these batches.

    names: of the batches, as the layout's record has them.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        record = structured.record(folder / NAME)
        is_ours = (record["format"], record["batches"]) == (form, list(names))
    except (OSError, ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
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
        reasons = [_reason(by_id.get(job.id)) for by_id in results]
        if any(reasons):
            left_out[job.id] = next(filter(None, reasons))
        else:
            done[place] = job
    if not done:
        raise GcrError("no prompt is done, so there is no image to export", "finish the batch")
    record = {"format": form, "batches": _names(batches), "left_out": left_out}
    ids = [job.id for job in done.values()]
    both = list(zip(batches, results, strict=True))
    sides = {
        RAW: [{i: _first(b.path / r[i].folder, r[i].best_image) for i in ids} for b, r in both],
        REFINED: [{i: b.path / r[i].best_image for i in ids} for b, r in both],
    }
    fill(folder, form, done, sides, record)
    return Exported(form, folder, len(done), len(batches), left_out)


def fill(
    folder: Path,
    form: str,
    done: Mapping[int, Job],
    sides: Mapping[str, Sequence[Mapping[str, Path]]],
    record: Mapping[str, object],
) -> None:
    """Write a layout that stands several times in a folder, or add to it.

    Arguments:
        folder: that all of it is in.
        form: the layout, one of LAYOUTS.
        done: the prompts that are in it, by their places.
        sides: for each subfolder, for each image of a prompt, the image's path by the prompt's id.
        record: what the layout says of itself.
    """
    layout = LAYOUTS[form]
    write(folder / NAME, _json(record))
    for side, images in sides.items():
        for place, job in done.items():
            for number, image in enumerate(images):
                below = layout.image(job, place, number, len(images))
                _link(image[job.id], folder / side / below, folder)
        for below, content in layout.texts(folder / side, done).items():
            check_inside(folder, (folder / side / below).parent)
            write(folder / side / below, _json(content))


def _names(batches: Sequence[BatchFolder]) -> list[str]:
    """What identifies batches, wherever their folders are."""
    return [f"{batch.id} {batch.story.get('started')}" for batch in batches]


def _results(batch: BatchFolder) -> dict[str, Result]:
    summary = Summary(batch.path)
    summary.refresh()
    return summary.results


def _first(folder: Path, best: str) -> Path:
    """A run's first image, which ends as its best one does."""
    return folder / image_name(0, 0, best.rpartition(".")[2] or "png")


def _reason(result: Result | None) -> str:
    """Why a prompt has no pair of images; empty where it has one."""
    return "not done yet" if result is None else result.failure


def _link(image: Path, target: Path, folder: Path) -> None:
    """Put an image in its place, unless it is there already; as a PNG, which scorers read."""
    try:
        content = read(image)
    except OSError as error:
        message = f"cannot read {image}: {error.strerror or error}"
        raise GcrError(message, "put the file back, or draw the batch anew") from error
    is_copy = image.suffix == target.suffix
    if not is_copy:
        content = _as_png(image)
    if target.is_file() and read(target) == content:
        return
    check_inside(folder, target.parent)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    # The temporary file is not beside the target, where scorers read every file.
    if is_copy:
        duplicate(image, target, near=folder)
    else:
        with replacing(target, near=folder) as file:
            file.write(content)


def _as_png(image: Path) -> bytes:
    """An image of another kind as a PNG. Raises GcrError for one that is damaged."""
    try:
        with imagefile.opened(image) as opened:
            return metadata.pixels(opened.convert("RGB"))
    except (OSError, *imagefile.DAMAGE) as error:
        raise GcrError(f"{image} is damaged: {error}", "draw the batch anew") from error


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"
