"""Public benchmarks: images laid out where their scorers look for them, and results taken back.

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

The layout of a comparison has a folder for each arm, of whose images these scorers write:

    geneval        results.jsonl: {"filename": ".../00000/samples/0000.png", "correct": true, ...}
    geneval2       scores of each question: [[0.9, 0.8], [1.0]], a list for each prompt of its file
    unigenbench    results/*.csv: img_path, and result_json with a score of each checkpoint
    t2i-compbench  vqa_result.json: [{"question_id": 0, "answer": "0.8312"}], by the image's number
    dpg            *_results.txt: path, score of each image in it, their mean

One number comes of each image: right or wrong; the geometric mean, which is GenEval 2's of a
prompt; the share of checkpoints; the answer; the mean. An image that a scorer could not read has
no score.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean, geometric_mean
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.comparison import comparing, evaluators
from gcr.comparison import folder as comparefolder
from gcr.comparison.arms import Arm
from gcr.core.events import Consumer, ignore
from gcr.core.phrases import count
from gcr.core.records import image_name
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile, structured
from gcr.files.atomic import check_inside, duplicate, read, replacing, write, writing
from gcr.files.locks import turn
from gcr.inputs.jobs import Job
from gcr.storage import metadata
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.runfolder import damaged

if TYPE_CHECKING:
    from gcr.comparison.folder import Contest
    from gcr.comparison.measuring import Comparison

RAW, REFINED = "raw", "refined"
NAME = "layout.json"
MOST_NAME_BYTES = 255
"""Of a file's name, on nearly every file system."""


# The layouts


class Row(NamedTuple):
    """What a scorer said of an image.

    Attributes:
        key: of the image among those of its arm: a path below its folder, or a number.
        score: None where its scorer has none.
        path: of the image, as the scorer names it; empty where it does not.
        prompt: None where the file does not say.
    """

    key: str | int
    score: float | None
    path: str = ""
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a benchmark's scorer looks for images, and for what belongs to them.

    Attributes:
        check: raises UsageError for jobs that the layout cannot be made of.
        image: returns the path of an image below `raw` or `refined`, from its job, the job's place
            in the batch (from 0), the image's number (from 0), and the images of each prompt.
        texts: returns the contents of the other files by their paths, from the folder and the jobs
            in it by their places.
        scores: returns what the scorer said of images, from the text of the file that it wrote.
        images: how many of each prompt the scorer reads; 0: as many as there are.
        every: whether the scorer fails on a prompt of its own file that has no image.
        single: whether there is one image of each prompt.
        counted: whether a scorer counts images instead of reading their numbers, so that no number
            may be left out.
        key: returns what the scorer knows an image by, from its path below its arm's folder.
    """

    check: Callable[[Sequence[Job]], None]
    image: Callable[[Job, int, int, int], str]
    scores: Callable[[str], Iterator[Row]]
    texts: Callable[[Path, Mapping[int, Job]], Mapping[str, object]] = lambda _folder, _jobs: {}
    images: int = 0
    every: bool = False
    single: bool = False
    counted: bool = False
    key: Callable[[str], str | int] = str


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


def _geneval_scores(text: str) -> Iterator[Row]:
    for line in filter(str.strip, structured.lines_of(text)):
        result = structured.parse_json(line)
        if not isinstance(result["correct"], bool):
            raise TypeError("correct is neither true nor false")
        path = str(result["filename"])
        key = "/".join(PurePosixPath(path).parts[-3:])
        yield Row(key, float(result["correct"]), path, str(result["prompt"]))


def _geneval2_scores(text: str) -> Iterator[Row]:
    for place, answers in enumerate(_list(text)):
        chances = [float(chance) for chance in answers]
        # A question that was answered wrongly for certain makes the whole wrong.
        yield Row(place, 0.0 if 0 in chances else geometric_mean(chances))


def _unigenbench_scores(text: str) -> Iterator[Row]:
    for cells in csv.DictReader(io.StringIO(text), strict=True):
        path = cells["img_path"]
        result = structured.parse_json(cells["result_json"] or "null")
        score = None if result is None else fmean(point == 1 for point in result["score"])
        yield Row(PurePosixPath(path).name, score, path, cells["prompt"])


def _t2i_compbench_scores(text: str) -> Iterator[Row]:
    for result in _list(text):
        yield Row(int(result["question_id"]), float(result["answer"]))


def _dpg_scores(text: str) -> Iterator[Row]:
    for line in filter(str.strip, structured.lines_of(text)):
        if line.startswith("Model: "):
            return  # what follows are means
        match = re.fullmatch(r"(.+\.png)((?:, [0-9.e+-]+)+)", line.strip())
        if not match:
            raise ValueError(f"{line[:60]!r} has no path and no score")
        yield Row(PurePosixPath(match[1]).name, float(match[2].rpartition(", ")[2]), match[1])


def _list(text: str) -> list[Any]:
    document = structured.parse_json(text)
    if not isinstance(document, list):
        raise TypeError("it is no list")
    return document


def _number(below: str) -> int:
    """The number that a layout's image ends in."""
    return int(re.findall(r"\d+", below)[-1])


LAYOUTS: Mapping[str, Layout] = {
    # github.com/djghosh13/geneval, evaluation/evaluate_images.py
    "geneval": Layout(
        _check_geneval,
        lambda _job, place, number, _images: f"{place:05}/samples/{number:04}.png",
        _geneval_scores,
        _geneval_rows,
    ),
    # github.com/facebookresearch/GenEval2, evaluation.py --image_filepath_data
    "geneval2": Layout(
        _check_geneval2,
        lambda _job, place, _number, _images: f"{place:05}.png",
        _geneval2_scores,
        _geneval2_paths,
        every=True,
        single=True,
        key=_number,
    ),
    # github.com/CodeGoat24/UniGenBench, eval/*_eval.py --data_path
    "unigenbench": Layout(
        _check_unigenbench,
        lambda job, _place, number, _images: f"{int(job.id)}_{number}.png",
        _unigenbench_scores,
        images=4,
        every=True,
    ),
    # github.com/Karine-Huang/T2I-CompBench, BLIPvqa_eval, UniDet_eval, CLIPScore_eval
    "t2i-compbench": Layout(
        _check_t2i_compbench,
        _t2i_compbench_image,
        _t2i_compbench_scores,
        counted=True,
        key=_number,
    ),
    # github.com/TencentQQGYLab/ELLA, dpg_bench/compute_dpg_bench.py, with PIC_NUM=1
    "dpg": Layout(
        _check_dpg,
        lambda job, _place, _number, _images: f"{job.id}.png",
        _dpg_scores,
        single=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Written:
    """A layout that was written.

    Attributes:
        form: its name, one of LAYOUTS.
        folder: with a subfolder for each side.
        sides: `raw` and `refined`, or the arms of a comparison.
        prompts: how many are there.
        images: how many of each prompt.
        left_out: why other prompts are not there, by their ids.
        comparison: whose arms these are; None: they are of batches.
    """

    form: str
    folder: Path
    sides: Sequence[str]
    prompts: int
    images: int
    left_out: Mapping[str, str]
    comparison: Path | None = None

    def as_json(self) -> dict[str, object]:
        """What `gcr export --json` prints."""
        return {
            "format": self.form,
            "folder": str(self.folder),
            **{side: str(self.folder / side) for side in self.sides},
            "prompts": self.prompts,
            "images": self.images,
            "left_out": dict(self.left_out),
        }

    def summary(self) -> list[str]:
        """What came of it and what to do next, in lines for a person."""
        layout, missing = LAYOUTS[self.form], len(self.left_out)
        each = f", {self.images} images of each" if self.images > 1 else ""
        where = f" for each arm in {self.folder}" if self.comparison else each
        lines = [f"{self.form}: {self.prompts} of {count(self.prompts + missing, 'prompt')}{where}"]
        for id_, reason in list(self.left_out.items())[:1]:
            more = f"; and {missing - 1} more" if missing > 1 else ""
            fails = ", on which its scorer fails" if layout.every else ""
            lines.append(f"left out{fails}: {id_} ({reason}){more}")
        if self.comparison:
            files = " ".join(f"--scores {arm}=FILE" for arm in self.sides)
            lines.append(
                f"run its scorer on each of {', '.join(self.sides)} there, and then: "
                f"gcr compare {self.comparison} {files}"
            )
        elif layout.images > self.images:
            lines.append(
                f"its scorer reads {layout.images} images of each prompt: draw batches with other "
                "--seed, such as 1000 apart, and name all of them in one gcr export"
            )
        return lines


# A batch, laid out


def export(paths: Sequence[Path], form: str, output: Path | None = None) -> Written:
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
    # What identifies batches, wherever their folders are.
    names = [f"{batch.id} {batch.story.get('started')}" for batch in batches]
    with _claimed(folder, form, names):
        arms = [Arm.read(str(path), path) for path in paths]  # as of now, and no earlier
        left_out = {job.id: why for job in jobs if (why := _left_out(job, arms))}
        places = {place: job for place, job in enumerate(jobs) if job.id not in left_out}
        if not places:
            raise GcrError("no prompt is done, so there is no image to export", "finish the batch")
        ids = [job.id for job in places.values()]
        best = [{id_: image for id_ in ids if (image := arm.image(id_))} for arm in arms]
        raw = [{id_: _first(arm, id_) for id_ in ids} for arm in arms]
        record = {"format": form, "batches": names, "left_out": left_out}
        _fill(folder, form, places, {RAW: raw, REFINED: best}, record)
    return Written(form, folder, (RAW, REFINED), len(places), len(batches), left_out)


def _left_out(job: Job, arms: Sequence[Arm]) -> str:
    """Why a prompt is in no layout of these batches; empty where it is."""
    results = [arm.results.get(job.id) for arm in arms]
    reasons = (result.failure if result else "not done yet" for result in results)
    return next(filter(None, reasons), "")


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


@contextmanager
def _claimed(folder: Path, form: str, names: Sequence[str]) -> Iterator[None]:
    """Make a layout's folder, and let nobody else write it meanwhile: shards of one batch may end
    at the same time. names: of the batches, as the layout's record has them.

    Raises UsageError for a folder that holds anything but this layout of these batches.
    """
    _check_ours(folder, form, names)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with turn(folder):
        yield


def _check_ours(folder: Path, form: str, names: Sequence[str]) -> None:
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


def _fill(
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


def _first(arm: Arm, id_: str) -> Path:
    """The first image of a prompt's run, which ends as its best one does."""
    result = arm.results[id_]
    return arm.batch.path / result.folder / image_name(0, 0, Path(result.best_image).suffix[1:])


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


# A comparison's arms, laid out


def lay_out(comparison: Path, form: str) -> Written:
    """Write the layout of the arms of a comparison, or add to it what is drawn since.

    Only prompts that are done in every arm are in it. Raises UsageError for a folder that is not
    this layout's, GcrError where no prompt is done.
    """
    contest = comparefolder.found(comparison)
    arms = [Arm.read(name, comparison / name) for name in contest.arms]
    images = {arm.name: {job.id: arm.image(job.id) for job in contest.plan.jobs} for arm in arms}
    left_out = {
        job.id: next(f"not done in {name}" for name in images if images[name][job.id] is None)
        for job in contest.plan.jobs
        if any(of_arm[job.id] is None for of_arm in images.values())
    }
    places = {p: job for p, job in enumerate(contest.plan.jobs) if job.id not in left_out}
    if LAYOUTS[form].counted:
        places = dict(enumerate(places.values()))
    if not places:
        raise GcrError("no prompt is done in every arm, so there is no layout", "gcr resume it")
    sides = {
        name: [{id_: image for id_, image in of_arm.items() if image and id_ not in left_out}]
        for name, of_arm in images.items()
    }
    names = [str(structured.record(comparison / comparefolder.NAME)["id"])]
    below = {job.id: LAYOUTS[form].image(job, place, 0, 1) for place, job in places.items()}
    record = {"format": form, "batches": names, "left_out": left_out, "images": below}
    folder = comparison / form
    with _claimed(folder, form, names):
        _clear(folder, contest.arms, set(below.values()))
        _fill(folder, form, places, sides, record)
    return Written(form, folder, contest.arms, len(places), 1, left_out, comparison)


def _clear(folder: Path, arms: Sequence[str], kept: set[str]) -> None:
    """Remove images that this layout had before and has no more: scorers read all they find."""
    if (folder / NAME).exists():
        gone = set(_images(folder / NAME).values()) - kept
        for path in (folder / arm / below for arm in arms for below in gone):
            check_inside(folder, path.parent)
            with writing(path):
                path.unlink(missing_ok=True)


def _images(path: Path) -> dict[str, str]:
    """Where a layout's images are, below the folder of each arm, by the ids of their prompts."""
    try:
        record = structured.record(path)
        return {str(id_): str(below) for id_, below in record["images"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def laid_out(comparison: Comparison) -> list[Written]:
    """The layouts that a comparison was to have."""
    return [
        lay_out(comparison.about.folder, choice.model)
        for choice in comparison.about.evaluators
        if choice.name == evaluators.SCORES
    ]


# A scorer's results, taken back


def take(
    folders: Sequence[Path],
    given: Sequence[str],
    *,
    evaluator: str | Sequence[str] | None = None,
    emit: Consumer = ignore,
) -> Comparison:
    """What came of a comparison by its benchmark's own scorer.

    Arguments:
        folders: the comparison's, alone.
        given: the scorer's files, each as `FILE`, or as `ARM=FILE` where the file's path and those
            in it do not say which arm it is of.
        evaluator: as `comparing.resume` has it.
        emit: told what happens.

    Raises UsageError for files that are not of this comparison.
    """
    if len(folders) != 1:
        raise UsageError("--scores is for one comparison", "name its folder alone")
    (folder,) = folders
    contest = comparing.contest_of(folder, evaluator, "compare")
    form = _form(folder, contest)
    images = _images(folder / form / NAME)
    scores: dict[tuple[str, str], float] = {}
    for text in given:
        name, path = _named(text, contest.arms)
        for arm, id_, score in _read(path, name, form, contest, images):
            scores[arm, id_] = score
    return comparing.scored(folder, contest, scores, form, emit)


def _form(folder: Path, contest: Contest) -> str:
    for choice in contest.evaluators:
        if choice.name == evaluators.SCORES and (folder / choice.model / NAME).exists():
            return choice.model
    raise UsageError(
        f"{folder} is laid out for no benchmark's scorer",
        f"draw it with gcr compare FILE --benchmark NAME: {', '.join(LAYOUTS)}",
    )


def _named(text: str, arms: Sequence[str]) -> tuple[str, Path]:
    """The arm that is named, or an empty one, and the file."""
    name, sign, rest = text.partition("=")
    return (name, Path(rest)) if sign and name in arms else ("", Path(text))


def _read(
    path: Path, named_arm: str, form: str, contest: Contest, images: Mapping[str, str]
) -> Iterator[tuple[str, str, float]]:
    """Arm, prompt id and score of each image that a file says anything of."""
    keys = {LAYOUTS[form].key(below): id_ for id_, below in images.items()}
    prompts = {job.id: job.prompt for job in contest.plan.jobs}
    seen: set[tuple[str, str]] = set()
    for row in _rows(path, form):
        arm = named_arm or _arm(path, row, contest.arms)
        if (written := _part(PurePosixPath(row.path).parts[:-1], contest.arms)) not in ("", arm):
            raise UsageError(
                f"{path} scores images of {written}, not of {arm}", f"--scores {written}={path}"
            )
        id_ = keys.get(row.key)
        if id_ is None or (row.prompt is not None and row.prompt.strip() != prompts[id_]):
            what = row.path or row.key
            raise UsageError(
                f"{path} scores {what!r}, which is not in {form} of this comparison",
                "name the file that its scorer wrote for this very layout",
            )
        if (arm, id_) in seen:
            raise UsageError(f"{path} scores prompt {id_} of {arm} twice", "remove one of the two")
        seen.add((arm, id_))
        if row.score is not None:
            yield arm, id_, row.score
    if LAYOUTS[form].every and len(seen) % len(images):
        raise UsageError(
            f"{path} scores {len(seen)} images of {len(images)} prompts",
            "let its scorer run to the end, on the prompt file that was drawn",
        )


def _arm(path: Path, row: Row, arms: Sequence[str]) -> str:
    """The arm whose folder the image, or else the file, is in, or whose name the file has."""
    for parts in (PurePosixPath(row.path).parts[:-1], (*path.absolute().parts[:-1], path.stem)):
        if arm := _part(parts, arms):
            return arm
    raise UsageError(f"which arm is {path} of?", f"--scores {arms[0]}={path}, if it is that one's")


def _part(parts: Sequence[str], arms: Sequence[str]) -> str:
    """The last part of a path that is an arm's name; empty where none is."""
    return next((part for part in reversed(parts) if part in arms), "")


def _rows(path: Path, form: str) -> list[Row]:
    """What a file says, in its order. Raises UsageError where it is not its scorer's."""
    try:
        rows = list(LAYOUTS[form].scores(structured.decoded(structured.content(path))))
        if odd := [row.score for row in rows if row.score and not 0 <= row.score <= 1]:
            raise ValueError(f"a score of {odd[0]}")  # noqa: TRY301 - as for any other
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "check it") from error
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        message = f"{path} is not what the scorer of {form} writes: {error!r}"
        raise UsageError(message, "name the file with a result for each image") from error
    return rows
