"""A benchmark's own scorer: a comparison's arms laid out for it, and its results taken back.

What each scorer writes:

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
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean, geometric_mean
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.comparison import comparing, evaluators
from gcr.comparison import folder as comparefolder
from gcr.comparison.arms import Arm
from gcr.core.events import Consumer, ignore
from gcr.core.phrases import count
from gcr.errors import GcrError, UsageError
from gcr.files import structured
from gcr.files.atomic import check_inside, writing
from gcr.files.locks import turn
from gcr.results.benchmarks import LAYOUTS, NAME, check_ours, fill
from gcr.storage.runfolder import damaged

if TYPE_CHECKING:
    from gcr.comparison.folder import Contest
    from gcr.comparison.measuring import Comparison


# Out


@dataclass(frozen=True, slots=True)
class LaidOut:
    """The layout of a comparison.

    Attributes:
        form: whose it is, one of LAYOUTS.
        comparison: the comparison's folder.
        folder: the layout's, with a subfolder for each arm.
        arms: their names.
        prompts: how many are there.
        left_out: why other prompts are not there, by their ids.
    """

    form: str
    comparison: Path
    folder: Path
    arms: Sequence[str]
    prompts: int
    left_out: Mapping[str, str]

    def said(self) -> list[str]:
        """What came of it and what to do next, in lines for a person."""
        whole = count(self.prompts + len(self.left_out), "prompt")
        lines = [f"{self.form}: {self.prompts} of {whole} for each arm in {self.folder}"]
        if self.left_out:
            id_, reason = next(iter(self.left_out.items()))
            fails = ", on which its scorer fails" if LAYOUTS[self.form].every else ""
            lines.append(f"left out{fails}: {id_} ({reason})")
        each = " ".join(f"--scores {arm}=FILE" for arm in self.arms)
        lines.append(
            f"run its scorer on each of {', '.join(self.arms)} there, and then: "
            f"gcr compare {self.comparison} {each}"
        )
        return lines


def lay_out(comparison: Path, form: str) -> LaidOut:
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
    check_ours(folder, form, names)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with turn(folder):
        _clear(folder, contest.arms, set(below.values()))
        fill(folder, form, places, sides, record)
    return LaidOut(form, comparison, folder, contest.arms, len(places), left_out)


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


def laid_out(comparison: Comparison) -> list[LaidOut]:
    """The layouts that a comparison was to have."""
    return [
        lay_out(comparison.about.folder, choice.model)
        for choice in comparison.about.evaluators
        if choice.name == evaluators.SCORES
    ]


# And back


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


def take(
    folders: Sequence[Path],
    given: Sequence[str],
    options: Mapping[str, object],
    *,
    evaluator: str | Sequence[str] | None = None,
    emit: Consumer = ignore,
) -> Comparison:
    """What came of a comparison by its benchmark's own scorer.

    Arguments:
        folders: the comparison's, alone.
        given: the scorer's files, each as `FILE`, or as `ARM=FILE` where the file's path and those
            in it do not say which arm it is of.
        options: of `gcr compare`, of which none has a use here.
        evaluator: as `comparing.resume` has it.
        emit: told what happens.

    Raises UsageError for files that are not of this comparison.
    """
    if len(folders) != 1:
        raise UsageError("--scores is for one comparison", "name its folder alone")
    if useless := [name for name, value in options.items() if value]:
        option = f"--{useless[0].replace('_', '-')}"
        raise UsageError(f"{option}: nothing is drawn here", "leave it out, or leave out --scores")
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
    keys = {_KEYS[form](below): id_ for id_, below in images.items()}
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
        rows = list(_READERS[form](structured.decoded(structured.content(path))))
        if odd := [row.score for row in rows if row.score and not 0 <= row.score <= 1]:
            raise ValueError(f"a score of {odd[0]}")  # noqa: TRY301 - as for any other
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "check it") from error
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        message = f"{path} is not what the scorer of {form} writes: {error!r}"
        raise UsageError(message, "name the file with a result for each image") from error
    return rows


def _geneval(text: str) -> Iterator[Row]:
    for line in filter(str.strip, structured.lines_of(text)):
        result = structured.parse_json(line)
        if not isinstance(result["correct"], bool):
            raise TypeError("correct is neither true nor false")
        path = str(result["filename"])
        key = "/".join(PurePosixPath(path).parts[-3:])
        yield Row(key, float(result["correct"]), path, str(result["prompt"]))


def _geneval2(text: str) -> Iterator[Row]:
    for place, answers in enumerate(_list(text)):
        chances = [float(chance) for chance in answers]
        # A question that was answered wrongly for certain makes the whole wrong.
        yield Row(place, 0.0 if 0 in chances else geometric_mean(chances))


def _unigenbench(text: str) -> Iterator[Row]:
    for cells in csv.DictReader(io.StringIO(text), strict=True):
        path = cells["img_path"]
        result = structured.parse_json(cells["result_json"] or "null")
        score = None if result is None else fmean(point == 1 for point in result["score"])
        yield Row(PurePosixPath(path).name, score, path, cells["prompt"])


def _t2i_compbench(text: str) -> Iterator[Row]:
    for result in _list(text):
        yield Row(int(result["question_id"]), float(result["answer"]))


def _dpg(text: str) -> Iterator[Row]:
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


_READERS: Mapping[str, Callable[[str], Iterator[Row]]] = {
    "geneval": _geneval,
    "geneval2": _geneval2,
    "unigenbench": _unigenbench,
    "t2i-compbench": _t2i_compbench,
    "dpg": _dpg,
}
_KEYS: Mapping[str, Callable[[str], str | int]] = {
    "geneval": str,
    "geneval2": _number,
    "unigenbench": str,
    "t2i-compbench": _number,
    "dpg": str,
}
