"""Measures what arms drew, and writes down what came of the comparison.

Each image is measured once by each evaluator, whatever stops this in between.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.comparison import cost, evaluators, scores
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
from gcr.comparison.scores import Key, Scores
from gcr.core.events import Notice, Progress, WorkFinished
from gcr.core.phrases import count
from gcr.core.plaintext import cell
from gcr.core.records import Sample
from gcr.errors import GcrError
from gcr.files.atomic import write, write_json

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
    scored: Mapping[tuple[str, str], float], arms: Sequence[Arm], choice: Choice, folder: Path
) -> list[str]:
    """Write down scores that somebody else gave, by arm and prompt id, for `measured` to find.

    Returns the ids of prompts for which one picture, that several arms chose, was given several
    scores: of these the last counts.
    """
    known = Scores(folder)
    by_name = {arm.name: arm for arm in arms}
    given: dict[Key, float] = {}
    contradicted: dict[str, None] = {}
    for (name, id_), score in scored.items():
        arm = by_name[name]
        if (image := arm.image(id_)) is not None:
            key = _key(choice, Sample(id_, arm.results[id_].prompt, image))
            if given.setdefault(key, score) != score:
                contradicted[id_] = None
            if known.all.get(key) != score:
                known.add(key, score)
    return list(contradicted)


def _key(choice: Choice, sample: Sample) -> Key:
    columns = json.dumps(sample.columns, ensure_ascii=False) if sample.columns else ""
    return Key(str(choice), sample.prompt, scores.pixels(sample.image), columns)


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
