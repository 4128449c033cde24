"""Where the scorers of public benchmarks look for images, and for what belongs to them.

    geneval        00000/metadata.jsonl, 00000/samples/0000.png
    geneval2       image_paths.json: {prompt: path}, 00000.png
    unigenbench    0_0.png: the prompt's index and the image's number
    t2i-compbench  samples/a red cat_000000.png: the prompt itself and a running number

Knows names and columns only; `gcr.results.exporting` puts images there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcr.errors import UsageError
from gcr.inputs.jobs import Job

LONGEST_NAME = 255  # bytes of a file's name, on nearly every file system


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a benchmark's scorer looks for images, and for what belongs to them.

    check: raises UsageError for prompts that it cannot be made of.
    image: path of an image below `raw` or `refined`, of a job, its place in the batch (from 0),
        the image's number (from 0), and how many images each prompt has.
    texts: contents of the other files by their paths, of the folder and the jobs in it by place.
    images: how many of each prompt the scorer reads; 0: as many as there are.
    every: whether the scorer fails on a prompt of its own file that has no image.
    """

    check: Callable[[Sequence[Job]], None]
    image: Callable[[Job, int, int, int], str]
    texts: Callable[[Path, Mapping[int, Job]], Mapping[str, object]] = lambda _folder, _jobs: {}
    images: int = 0
    every: bool = False


def check(form: str, jobs: Sequence[Job]) -> None:
    """Raise UsageError unless there is such a layout, and it can be made of these prompts.

    Looks at words and columns only, so it can be asked before anything is drawn.
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
    """Its scorer takes an image without `include` for right, so a row must have it."""
    for job in jobs:
        tag, include = job.extra.get("tag"), job.extra.get("include")
        whole = isinstance(include, list) and all(
            isinstance(one, dict) and {"class", "count"} <= one.keys() for one in include
        )
        if not (isinstance(tag, str) and include and whole):
            raise UsageError(
                f"{job.place}: geneval needs the columns tag and include, a list of objects with "
                "class and count",
                "take its evaluation_metadata.jsonl",
            )


def _geneval_rows(_folder: Path, jobs: Mapping[int, Job]) -> Mapping[str, object]:
    """The rows themselves, as they were in the prompt file."""
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
    """Whole paths, because the scorer is run from a folder of its own."""
    found = {job.prompt: str((folder / f"{place:05}.png").resolve()) for place, job in jobs.items()}
    return {"image_paths.json": found}


def _check_unigenbench(jobs: Sequence[Job]) -> None:
    """Row numbers would do for an index, and be wrong by one: so it must be the benchmark's own."""
    seen: set[int] = set()
    for job in jobs:
        named = any(name.startswith("sub_dims") for name in job.extra)
        index = int(job.id) if job.id.isascii() and job.id.isdigit() else None
        if not named or index is None or index in seen:
            raise UsageError(
                f"{job.place}: unigenbench needs the columns index and sub_dims_en or sub_dims_zh, "
                "and one row for each index",
                "take one of its test_prompts files",
            )
        seen.add(index)


def _check_t2i_compbench(jobs: Sequence[Job]) -> None:
    for job in jobs:
        name = _t2i_compbench_image(job, 0, 0, 1).removeprefix("samples/")
        if len(name.encode()) > LONGEST_NAME:
            raise UsageError(
                f"{job.place}: t2i-compbench reads the prompt from the image's file name, and this "
                "one is too long for it",
                f"shorten it to {LONGEST_NAME - len('_000000.png')} bytes",
            )


def _t2i_compbench_image(job: Job, place: int, number: int, images: int) -> str:
    """Its scorers read the prompt up to the first "_", and no file name has a "/"."""
    words = " ".join(job.prompt.replace("/", " ").replace("_", " ").split())
    return f"samples/{words}_{place * images + number:06}.png"


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
    ),
    # github.com/CodeGoat24/UniGenBench, eval/*_eval.py --data_path
    "unigenbench": Layout(
        _check_unigenbench,
        lambda job, _place, number, _images: f"{int(job.id)}_{number}.png",
        images=4,
        every=True,
    ),
    # github.com/Karine-Huang/T2I-CompBench, BLIPvqa_eval, UniDet_eval, CLIPScore_eval
    "t2i-compbench": Layout(_check_t2i_compbench, _t2i_compbench_image),
}
