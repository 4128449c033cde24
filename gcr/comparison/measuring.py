"""Measures what arms drew, and writes down what came of the comparison.

Each image is measured once by each evaluator, whatever stops this in between: every score is on
disk, in scores.jsonl, as soon as it is known. An image is known by its pixels, so that one that
several arms share is measured once.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gcr.comparison import cost, evaluators
from gcr.comparison.cost import Courses, Curves
from gcr.comparison.evaluators import labels
from gcr.comparison.figures import (
    Agreement,
    ArmFigures,
    Asked,
    Opinion,
    Pair,
    PromptFigures,
    Shown,
    Suspect,
    Suspicion,
    agreements,
    answer,
    figures,
    opinion,
)
from gcr.core.events import Notice, Progress, WorkFinished
from gcr.core.phrases import count
from gcr.core.plaintext import cell, shortened
from gcr.core.records import Sample
from gcr.errors import GcrError
from gcr.files import imagefile, structured
from gcr.files.atomic import write, write_json
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.inputs import source

if TYPE_CHECKING:
    from gcr.comparison.arms import Arm
    from gcr.comparison.evaluators import Choice
    from gcr.core.events import Consumer


@dataclass(frozen=True, slots=True)
class About:
    """What a comparison was, beside what came of it.

    folder: that paths of arms, runs and images start from.
    started: when, in ISO 8601. files: that prompts were read from, or folders that were compared.
    settings: that all arms have in common. versions: of the libraries that decide what is drawn.
    evaluators: the one that decides, and others. critic: the model that steered.
    equal: what the arms had as much of, `images` or `seconds`.
    budget: how much, for a prompt.
    """

    folder: Path
    id: str
    started: str
    files: tuple[str, ...]
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    evaluators: tuple[Choice, ...]
    critic: str
    equal: str
    budget: float

    @property
    def evaluator(self) -> Choice:
        """The one that decides."""
        return self.evaluators[0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a comparison, by the evaluator that decides, and what others say of it.

    seconds: wall time of the call that wrote it. agreement: of each two evaluators.
    curves: what the arms had come to after so many images and seconds, by the evaluator that
        decides; None where it has not measured what was the best image for a while.
    """

    about: About
    seconds: float
    arms: tuple[ArmFigures, ...]
    pairs: tuple[Pair, ...]
    prompts: tuple[PromptFigures, ...]
    suspects: tuple[Suspect, ...]
    suspicions: tuple[Suspicion, ...]
    others: tuple[Opinion, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    curves: Curves | None = None

    @property
    def answer(self) -> str:
        """What it came to, in one sentence."""
        return answer(
            self.pairs,
            {arm.name: arm.strategy for arm in self.arms},
            [{name: shown.score for name, shown in p.arms.items()} for p in self.prompts],
            self.about.evaluator.as_json(),
        )

    @property
    def path(self) -> Path:
        return self.about.folder / "compare.json"

    @property
    def table(self) -> Path:
        return self.about.folder / "compare.csv"

    def as_json(self) -> dict[str, Any]:
        """JSON values of all of it; what compare.json holds and `gcr compare --json` prints."""
        told = asdict(self)
        about = told.pop("about")
        del about["folder"], about["evaluators"]
        if not self.others:
            del told["others"], told["agreement"]
        return {
            **about,
            "evaluator": self.about.evaluator.as_json(),
            "answer": self.answer,
            **told,
        }

    def write(self) -> None:
        write_json(self.path, self.as_json(), indent=1)
        write(self.table, _table(self.prompts, self.others))


COLUMNS = ("id", "prompt", "category", "arm", *Shown.__slots__)


def _table(prompts: Sequence[PromptFigures], others: Sequence[Opinion]) -> bytes:
    """As CSV: a row for each prompt and arm, with a column for each evaluator but the first."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, *(other.label for other in others)])
    for prompt in prompts:
        for name, shown in prompt.arms.items():
            row = [prompt.id, prompt.prompt, prompt.category, name, *asdict(shown).values()]
            row += [other.scores[prompt.id][name] for other in others]
            rows.writerow(map(cell, row))
    return text.getvalue().encode()


def conclude(
    about: About, asked: Sequence[Asked], arms: Sequence[Arm], emit: Consumer, began: float
) -> Comparison:
    """Measure what is not measured yet, and write down what came of it.

    began: of this call, by `time.perf_counter`. Raises GcrError where the evaluator fails;
    UsageError for one that has verified in an arm's loop, whoever named it, a folder included.
    """
    evaluators.check_apart(about.evaluators, {arm.setting("verify") for arm in arms})
    known = cost.courses([one.id for one in asked], arms)
    scored: dict[str, dict[tuple[str, str], float]] = {}
    picked: dict[Path, float | None] = {}
    try:
        for label, choice in zip(labels(about.evaluators), about.evaluators, strict=True):
            decides = choice == about.evaluator and choice.name != evaluators.SCORES
            scored[label], on_the_way = measured(
                asked, arms, choice, about.folder, emit, known if decides else {}
            )
            picked |= on_the_way
    finally:
        emit(WorkFinished())
    costs = cost.costs(arms, known)
    by_evaluator = [figures(asked, arms, scores, about.folder, costs) for scores in scored.values()]
    comparison = Comparison(
        about,
        round(time.perf_counter() - began, 3),
        *by_evaluator[0],
        others=tuple(map(opinion, about.evaluators[1:], list(scored)[1:], by_evaluator[1:])),
        agreement=tuple(agreements(scored)),
        curves=cost.curves([arm.name for arm in arms], known, picked),
    )
    comparison.write()
    return comparison


def measured(  # noqa: PLR0913, PLR0917 - each for itself
    asked: Sequence[Asked],
    arms: Sequence[Arm],
    choice: Choice,
    folder: Path,
    emit: Consumer,
    courses: Courses,
) -> tuple[dict[tuple[str, str], float], dict[Path, float | None]]:
    """The score of each arm's best image of each prompt, by arm and prompt id, where there is one;
    and those of all images that were the best one for a while, by their paths.

    courses: whose images these are. Raises GcrError where the evaluator fails; what it said
    before is on disk in `folder`.
    """
    measures = choice.name != evaluators.SCORES
    read = evaluators.kind_of(choice.name).columns if measures else ()
    samples = {
        (arm.name, one.id): Sample(
            f"{arm.name}/{one.id}",
            one.prompt,
            image,
            {name: one.columns[name] for name in read if name in one.columns},
        )
        for one in asked
        for arm in arms
        if (image := arm.image(one.id)) is not None
    }
    keys = {place: _key(choice, sample) for place, sample in samples.items()}
    passing = _passing(samples, courses)
    keys_of_passing = {path: _key(choice, sample) for path, sample in passing.items()}
    known = Scores(folder)
    left = {keys[place]: sample for place, sample in samples.items()}
    for path, sample in passing.items():  # last: an evaluator may fail before it comes to them
        left.setdefault(keys_of_passing[path], sample)
    if measures:
        left = {key: sample for key, sample in left.items() if key not in known.all}
        _measure(left, choice, known, emit)
    scored = {place: known.all.get(key) for place, key in keys.items()}
    if without := {id_ for (_, id_), score in scored.items() if score is None}:
        (label,) = labels([choice])
        lacks = f"{label} has nothing to measure in" if measures else f"no score by {label} for"
        prompts = f"{len(without)} of {count(len(asked), 'prompt')}"
        emit(Notice(f"{lacks} {prompts}, which count neither for nor against an arm"))
    return (
        {place: score for place, score in scored.items() if score is not None},
        {path: known.all.get(key) for path, key in keys_of_passing.items()},
    )


def _passing(samples: Mapping[tuple[str, str], Sample], courses: Courses) -> dict[Path, Sample]:
    """The images that were the best one for a while and are still there, by their paths."""
    return {
        image: replace(samples[place], id=f"{samples[place].id}/{image.name}", image=image)
        for place, course in courses.items()
        if place in samples
        for image in dict.fromkeys(pick.image for pick in course.picks)
        if image.exists()
    }


def take(
    scored: Mapping[tuple[str, str], float],
    arms: Sequence[Arm],
    choice: Choice,
    folder: Path,
    emit: Consumer,
) -> None:
    """Write down scores that somebody else gave, by arm and prompt id, for `measured` to find.

    One picture that several arms chose may have been given several scores: it has their mean, of
    which is warned.
    """
    known = Scores(folder)
    by_name = {arm.name: arm for arm in arms}
    given: dict[Key, list[float]] = {}
    contradicted: dict[str, None] = {}
    for (name, id_), score in scored.items():
        arm = by_name[name]
        if (image := arm.image(id_)) is not None:
            scores = given.setdefault(_key(choice, Sample(id_, arm.results[id_].prompt, image)), [])
            scores.append(score)
            if score != scores[0]:
                contradicted[id_] = None
    for key, scores in given.items():
        # The mean of equal numbers may differ from them in its last bit, and would be no tie.
        score = fmean(scores) if len(set(scores)) > 1 else scores[0]
        if known.all.get(key) != score:
            known.add(key, score)
    if contradicted:
        ids = shortened(", ".join(contradicted), 200)
        emit(
            Notice(
                f"{choice.model} scored the very same picture of several arms differently: {ids}",
                "the mean counts for each of them",
            )
        )


def _key(choice: Choice, sample: Sample) -> Key:
    columns = json.dumps(sample.columns, ensure_ascii=False) if sample.columns else ""
    return Key(str(choice), sample.prompt, pixels(sample.image), columns)


def _measure(left: Mapping[Key, Sample], choice: Choice, known: Scores, emit: Consumer) -> None:
    if not left:
        return
    evaluator = evaluators.load(choice, emit)
    places = {sample.id: key for key, sample in left.items()}
    for id_, score in evaluator.score(list(left.values())):
        if id_ not in places:
            raise GcrError(f"{choice} scored {id_!r}, which is not to be measured (any more)")
        known.add(places.pop(id_), score)
        emit(Progress("evaluate", len(left) - len(places), len(left)))
    if places:
        raise GcrError(f"{choice} scored {len(left) - len(places)} of {len(left)} images")


# scores.jsonl

MOST_SCORE = 1e15
"""Of an evaluator: beyond that, scores that are one apart can hardly be told apart, and far beyond
it their sums and squares are no numbers any more."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a score is of.

    Attributes:
        evaluator: its name, as the command line gives it.
        prompt: the words that the image was measured against.
        image: sha256 of its pixels.
        columns: those of the prompt's row that the evaluator reads, as JSON; empty: it reads none.
    """

    evaluator: str
    prompt: str
    image: str
    columns: str = ""


class Scores:
    """The scores in a folder.

    Attributes:
        all: those that are on disk; None where there was nothing to measure.

    Raises GcrError for a damaged line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = JsonLines(
            folder / "scores.jsonl", "remove the line: its image is then measured again"
        )
        self.all: dict[Key, float | None] = {}
        with turn(folder):
            self._log.read(self._take)

    def add(self, key: Key, score: float | None) -> None:
        """Write a score down. Raises GcrError for one that is no number, or beyond `MOST_SCORE`."""
        if score is not None and not abs(score) <= MOST_SCORE:  # nan neither
            raise GcrError(
                f"the evaluator {key.evaluator} scored an image {score}",
                f"the prompt was {key.prompt!r}; scores are from {-MOST_SCORE:g} to {MOST_SCORE:g}",
            )
        named = {name: value for name, value in asdict(key).items() if value or name != "columns"}
        line = json.dumps({**named, "score": score}, ensure_ascii=False)
        with turn(self._folder):
            self._log.append(line.encode())
        self.all[key] = score

    def _take(self, line: bytes, _number: int) -> None:
        record = structured.parse_record(line)
        score = record.pop("score")
        is_number = isinstance(score, int | float) and abs(score) <= MOST_SCORE
        if score is not None and not is_number:
            raise ValueError(f"a score of {shortened(str(score), 40)}")
        self.all[Key(**record)] = None if score is None else float(score)


def pixels(path: Path) -> str:
    """What an image is known by. Raises GcrError for a file that holds none."""
    try:
        with imagefile.opened(path) as image:
            return source.digest(image.convert("RGB"))
    except (OSError, *imagefile.DAMAGE) as error:
        message = f"{path} cannot be read: {error}"
        raise GcrError(message, "put the file back, or start a new comparison") from error
