"""What a critic's scores are worth: how much of them is chance, and how far they agree with labels.

The noise: a few images are drawn and each is judged several times. The spread of the scores of one
image, pooled over the images, is the critic's noise: differences within it mean nothing.

The report card: images that people or a program have labelled are scored one by one, under each way
that scores come about, and compared two by two in both orders. What came of each pair is kept, so
that two critics, rubrics or precisions can be held against each other pair by pair.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gcr.comparison import statistics
from gcr.core.ranking import pooled
from gcr.core.records import Candidate, Critique, Preference, Request
from gcr.critic import limits, reply
from gcr.critic import rubric as rubrics
from gcr.critic.pairwise import SWAPPED
from gcr.engine import models
from gcr.errors import GcrError, UsageError
from gcr.inputs import labels
from gcr.settings.address import is_address
from gcr.settings.measurements import SPREADS, Store, spread_key

if TYPE_CHECKING:
    from pathlib import Path

    from gcr.core.events import Consumer
    from gcr.core.records import Critic, Generator, Tokens
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.inputs.labels import Labelled, Labels, Picture
    from gcr.settings.schema import Settings

SHAPES = (
    "two red circles and a blue star above a green square",
    "a yellow square left of a pink heart",
    "three blue crosses on a black canvas",
    "an orange star, a purple circle and a red triangle",
)
SCENES = (
    "two red apples to the left of a glass jug on a wooden table",
    'a shop window at night with a neon sign that says "OPEN"',
    "a child in a yellow raincoat holding three balloons",
    "a portrait of an old woman with folded hands, oil on canvas",
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A critic's noise.

    Attributes:
        spread: standard deviation of the score of one judgement, 0-1.
        images: how many were judged.
        judges: how many judgements each had.
    """

    spread: float
    images: int
    judges: int


def prompts(settings: Settings) -> tuple[str, ...]:
    """The prompts that are drawn by default."""
    return SHAPES if any(map(limits.is_limited, (settings.generator, settings.critic))) else SCENES


def measure_noise(
    texts: Sequence[str], images: int, generator: Generator, critic: Critic, settings: Settings
) -> Calibration:
    """Draw each prompt with several seeds and measure how far the judges of one image disagree.

    Arguments:
        texts: the prompts.
        images: of each prompt.
        generator: draws.
        critic: judges.
        settings: seed, negative prompt and number of judges.

    Raises GcrError when fewer than two images could be judged twice.
    """
    wave = [
        Candidate(prompt, settings.seed + i, settings.negative)
        for prompt in texts
        for i in range(images)
    ]
    drawn = [
        (Request(candidate.prompt, candidate.negative), drawing.image)
        for candidate, drawing in zip(wave, generator.draw(wave), strict=True)
        if not drawing.fault
    ]
    critiques = critic.judge([request for request, _ in drawn], [image for _, image in drawn])
    errors = [critique.spread for critique in critiques if critique.spread is not None]
    if len(errors) < 2:
        raise GcrError(
            "the critic's replies could not be read often enough to compare them",
            "gcr refine -v shows what it replies; another --rubric may be read better",
        )
    return Calibration(_of_one(errors, settings.judges), len(errors), settings.judges)


def _of_one(errors: Sequence[float], judges: int) -> float:
    """The spread of one judgement: of several, a critique has the error of their mean."""
    return pooled(errors) * math.sqrt(judges)


# The report card

AT_ONCE = 64
"""Images in memory."""
PAIRWISE = "pairwise"
WAYS = ("reply", "soft", "checklist", PAIRWISE)
RIGHT, HALF, WRONG, UNREAD = "1", "h", "0", "-"
"""What became of a pair: ordered as its label, tied, the other way round, or not read."""
_WORTH = {RIGHT: 1.0, HALF: 0.5, WRONG: 0.0}


@dataclass(frozen=True, slots=True)
class Grade:
    """How a critic did in one way.

    Attributes:
        accuracy: share of the pairs that it read which it orders as their label does, a tie being
            half; None where it read none.
        interval: of the accuracy, 95%, by the bootstrap over prompts; None where nothing varies.
        ties: share of these pairs that it does not order.
        unread: pairs, or images without a pair, of which it said nothing that could be read.
        seconds: for each image; for each pair in both orders where two are compared.
        tokens: written for each of these; None: a server does not tell.
        tau: Kendall's tau-b of scores and labels over all images, where labels are scores.
        tau_interval: its 95% interval, by the bootstrap over images.
        spread: standard deviation of one judgement's score; None with a single judge.
        first: share of the answers that prefer either image which prefer the one shown first: 0.5
            is without bias. first_interval: 95%. split: share of pairs whose answer changes with
            the order. Both only where two are compared.
        outcomes: of each pair, in order: RIGHT, HALF, WRONG or UNREAD.
    """

    accuracy: float | None
    interval: tuple[float, float] | None
    ties: float | None
    unread: int
    seconds: float
    tokens: float | None = None
    tau: float | None = None
    tau_interval: tuple[float, float] | None = None
    spread: float | None = None
    first: float | None = None
    first_interval: tuple[float, float] | None = None
    split: float | None = None
    outcomes: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """What a critic is worth on a set of labels.

    Attributes:
        critic, rubric, precision, judges: what was measured; precision is empty for a server.
        labels: where they are. sha256: of prompts, images and labels, in order.
        rows, prompts, images, pairs: how many. Of images with scores, pairs are those of one prompt
            whose scores differ.
        label_ties: pairs that the labels call equal, which have no part in the accuracy.
        unlabelled, skipped: rows that were left out.
        grades: by WAYS, those that could be measured.
    """

    critic: str
    rubric: str
    precision: str
    judges: int
    labels: str
    sha256: str
    rows: int
    prompts: int
    images: int
    pairs: int
    label_ties: int
    unlabelled: int
    skipped: tuple[str, ...] = ()
    grades: Mapping[str, Grade] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What a kept card is found by."""
        how = f"{self.precision or 'served'} judges={self.judges}"
        return f"{self.critic} {self.rubric} {how} on {self.labels}"

    def with_others(self, before: Card) -> Card:
        """The card with the grades of one that was kept, in ways that it has none itself."""
        return replace(self, grades={**before.grades, **self.grades})

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images by their numbers, and which of them the label prefers."""

    first: int
    second: int
    better: Preference


@dataclass(frozen=True, slots=True)
class _Set:
    """Labels as they are measured. pictures: each once for its prompt. pairs: that are scored.
    compared: those of them that are shown two by two.
    """

    requests: list[Request]
    pictures: list[Picture]
    edited: list[Picture | None]
    scores: list[float | None]
    pairs: list[Pair]
    compared: list[Pair]


def report(
    read: Labels, place: str, settings: Settings, ways: Sequence[str], emit: Consumer
) -> Card:
    """Measure the critic of the settings against labels.

    ways: of WAYS. place: where the labels are, in words.
    Raises UsageError for prompts that the critic understands nothing of, GcrError where none of its
    replies can be read; and what `load_critic` does.
    """
    alone = replace(settings, generator=settings.critic)
    for prompt in labels.prompts_of(read.rows):
        limits.check(prompt, alone, edit=is_edits(read))
    questions = rubrics.load(settings.rubric)
    examined = _gathered(read.rows)
    critic = models.load_critic(settings, questions, emit)
    possible = [way for way in ways if way not in _lacking(critic)]
    pointwise = [way for way in possible if way != PAIRWISE]
    grades = _scored(critic, examined, pointwise)
    if PAIRWISE in possible and examined.compared:
        grades[PAIRWISE] = _compared(critic, examined)
    if all(grade.accuracy is None and grade.tau is None for grade in grades.values()):
        raise GcrError(
            "the critic's replies could not be read, so there is nothing to measure",
            "gcr critique -v shows what it replies; another --rubric may be read better",
        )
    ties = sum(pair.better is Preference.TIE for pair in examined.pairs)
    return Card(
        critic=settings.critic,
        rubric=settings.rubric,
        precision="" if is_address(settings.critic) else settings.quantize_critic,
        judges=settings.judges,
        labels=place,
        sha256=_sha256(read.rows),
        rows=len(read.rows),
        prompts=len(labels.prompts_of(read.rows)),
        images=len(examined.pictures),
        pairs=len(examined.pairs),
        label_ties=ties,
        unlabelled=read.unlabelled,
        skipped=tuple(f"{bad.place}: {bad.reason}" for bad in read.skipped),
        grades={way: grades[way] for way in WAYS if way in grades},
    )


def ways_for(settings: Settings, *, chosen: bool) -> tuple[str, ...]:
    """What is measured by default. chosen: whether the user named the way of scoring."""
    # A checklist is not sampled, and a server may tell no probabilities.
    if chosen or is_address(settings.critic):
        return (settings.score, PAIRWISE)
    return tuple(way for way in WAYS if settings.judges == 1 or way != "checklist")


def is_edits(read: Labels) -> bool:
    """Whether the images are edits. Raises UsageError where only some are."""
    edits = [row.edited is not None for row in read.rows]
    if any(edits) and not all(edits):
        at = read.rows[edits.index(False)].place
        raise UsageError(f"{at} is no edit, and others are", "give both apart")
    return any(edits)


def from_json(value: Mapping[str, Any]) -> Card:
    """A card as `as_json` gave it. Raises ValueError, TypeError or AttributeError for any other."""
    card = Card(**_tupled({**value, "grades": {}}))
    grades = {way: Grade(**_tupled(grade)) for way, grade in value.get("grades", {}).items()}
    if any(set(grade.outcomes) - {*_WORTH, UNREAD} for grade in grades.values()):
        raise ValueError("outcomes that there are not")
    return replace(card, grades=grades)


def _tupled(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}


def _plain(card: Card) -> object:
    """A card as YAML has it."""
    return json.loads(json.dumps(card.as_json()))


CARDS = Store("reportcards.yaml", from_json, _plain, "report cards", "gcr calibrate --pairs")
"""Report cards, by their keys."""


def keep(card: Card, settings: Settings) -> tuple[Path, list[Card]]:
    """Keep a card, and the spreads that it tells, for later runs.

    Returns the file, and the cards of other critics on the same labels that were in it.
    """
    kept = CARDS.read(os.environ)
    before = [each for each in kept.values() if each.sha256 == card.sha256 and each.key != card.key]
    own = kept.get(card.key)
    whole = card.with_others(own) if own and own.sha256 == card.sha256 else card
    path = CARDS.keep(os.environ, {card.key: whole})
    spreads = {
        spread_key(settings.critic_measured, settings.rubric, way): grade.spread
        for way, grade in card.grades.items()
        if grade.spread is not None
    }
    if spreads:
        SPREADS.keep(os.environ, spreads)
    return path, before


def against(card: Card, before: Card) -> dict[str, statistics.Finding]:
    """How a card did against another one on the same labels, pair by pair, in each way that both
    have; empty where the labels differ.
    """
    if card.sha256 != before.sha256:
        return {}
    ways = [way for way in card.grades if way in before.grades]
    differences = [
        [
            _WORTH[now] - _WORTH[then]
            for now, then in zip(
                card.grades[way].outcomes, before.grades[way].outcomes, strict=True
            )
            if UNREAD not in (now, then)
        ]
        for way in ways
    ]
    return dict(zip(ways, statistics.judge(differences), strict=True))


def _sha256(rows: Sequence[Labelled]) -> str:
    whole = hashlib.sha256()
    for row in rows:
        images = [hashlib.sha256(picture.file_bytes()).hexdigest() for picture in row.pictures]
        whole.update(repr((row.prompt, images, str(row.preference), row.score)).encode())
    return whole.hexdigest()


def _gathered(rows: Sequence[Labelled]) -> _Set:
    gathered = _Set([], [], [], [], [], [])
    numbers: dict[tuple[str, str], int] = {}

    def number(row: Labelled, picture: Picture) -> int:
        key = (row.prompt, picture.name)
        if key not in numbers:
            numbers[key] = len(numbers)
            gathered.requests.append(
                Request(row.prompt, source=labels.EDITED if row.edited else "")
            )
            gathered.pictures.append(picture)
            gathered.edited.append(row.edited)
            gathered.scores.append(row.score)
        return numbers[key]

    for row in rows:
        places = [number(row, picture) for picture in row.pictures]
        if row.preference is not None:
            gathered.pairs.append(Pair(places[0], places[1], row.preference))
    if gathered.pairs:
        gathered.compared.extend(gathered.pairs)
        return gathered
    for places in _by_prompt(gathered):
        for a, b in combinations(places, 2):
            if (better := _better(gathered.scores, a, b)) is not Preference.TIE:
                gathered.pairs.append(Pair(a, b, better))
        # Of many images of one prompt the best and the worst, as given: all would be too many.
        ends = [f(places, key=lambda i: gathered.scores[i] or 0.0) for f in (max, min)]
        first, second = sorted(ends)
        if (better := _better(gathered.scores, first, second)) is not Preference.TIE:
            gathered.compared.append(Pair(first, second, better))
    return gathered


def _by_prompt(examined: _Set) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, request in enumerate(examined.requests):
        groups.setdefault(request.prompt, []).append(i)
    return list(groups.values())


def _better(scores: Sequence[float | None], a: int, b: int) -> Preference:
    """Which of two images has the higher score."""
    first, second = scores[a], scores[b]
    if first is None or second is None or first == second:
        return Preference.TIE
    return Preference.FIRST if first > second else Preference.SECOND


def _lacking(critic: VisionLanguageCritic) -> set[str]:
    """What the critic's rubric has no words for."""
    asked = {"checklist": critic.rubric.checklist, PAIRWISE: critic.rubric.comparison}
    return {way for way, words in asked.items() if not words}


def _scored(critic: VisionLanguageCritic, examined: _Set, ways: Sequence[str]) -> dict[str, Grade]:
    grades = {}
    ways = list(ways)
    if {"reply", "soft"} <= set(ways) and critic.judges == 1:
        # The number that is written stands in the reply whose expectation is taken.
        soft, cost = _judged(critic, examined, "soft")
        written = [reply.read(critique.raw, critic.rubric) for critique in soft]
        grades = {
            "reply": _grade(examined, written, critic.judges, *cost),
            "soft": _grade(examined, soft, critic.judges, *cost),
        }
        ways = [way for way in ways if way not in grades]
    for way in ways:
        critiques, cost = _judged(critic, examined, way)
        grades[way] = _grade(examined, critiques, critic.judges, *cost)
    return grades


def _judged(
    critic: VisionLanguageCritic, examined: _Set, way: Any
) -> tuple[list[Critique], tuple[float, float | None]]:
    """The critique of each image, and the seconds and tokens that one took."""
    critic.score = way
    critiques: list[Critique] = []
    began, before = time.perf_counter(), critic.tokens()
    for part in _parts(range(len(examined.pictures))):
        sources = [examined.edited[i] for i in part]
        critiques += critic.judge(
            [examined.requests[i] for i in part],
            [examined.pictures[i].read() for i in part],
            [source.read() if source else None for source in sources] if any(sources) else (),
        )
    return critiques, _cost(critic, began, before, len(critiques))


def _compared(critic: VisionLanguageCritic, examined: _Set) -> Grade:
    """How the critic does where it is shown two images, in both orders."""
    answers: list[tuple[Preference | None, Preference | None]] = []
    began, before = time.perf_counter(), critic.tokens()
    for part in _parts(examined.compared):
        requests = [examined.requests[pair.first] for pair in part]
        firsts = [examined.pictures[pair.first].read() for pair in part]
        seconds = [examined.pictures[pair.second].read() for pair in part]
        edited = [examined.edited[pair.first] for pair in part]
        sources = [source.read() if source else None for source in edited]
        told = critic.compare(
            [*requests, *requests],
            [*firsts, *seconds],
            [*seconds, *firsts],
            *([[*sources, *sources]] if any(edited) else []),
        )
        answers += zip(told[: len(part)], told[len(part) :], strict=True)
    seconds_each, tokens = _cost(critic, began, before, len(answers))
    pairs = [pair for pair in examined.compared if pair.better is not Preference.TIE]
    outcomes = "".join(
        _outcome(pair, *answer)
        for pair, answer in zip(examined.compared, answers, strict=True)
        if pair.better is not Preference.TIE
    )
    one_sided = [
        [
            float(answer is Preference.FIRST)
            for answer in both
            if answer not in (None, Preference.TIE)
        ]
        for both in answers
    ]
    leaning = [value for values in one_sided for value in values]
    whole = [both for both in answers if None not in both]
    grade = _with_accuracy(examined, pairs, outcomes, sum(None in both for both in answers))
    return replace(
        grade,
        seconds=seconds_each,
        tokens=tokens,
        first=fmean(leaning) if leaning else None,
        first_interval=statistics.clustered(one_sided),
        split=fmean(_splits(*both) for both in whole) if whole else None,
    )


def _splits(straight: Preference | None, swapped: Preference | None) -> bool:
    """Whether an answer changes with the order in which the images are shown."""
    return swapped is not None and straight is not SWAPPED[swapped]


def _outcome(pair: Pair, straight: Preference | None, swapped: Preference | None) -> str:
    if straight is None or swapped is None:
        return UNREAD
    if _splits(straight, swapped) or straight is Preference.TIE:
        return HALF
    return RIGHT if straight is pair.better else WRONG


def _grade(
    examined: _Set,
    critiques: Sequence[Critique],
    judges: int,
    seconds: float,
    tokens: float | None,
) -> Grade:
    scores = [critique.overall for critique in critiques]
    pairs = [pair for pair in examined.pairs if pair.better is not Preference.TIE]
    outcomes = "".join(
        UNREAD
        if scores[pair.first] is None or scores[pair.second] is None
        else _outcome(pair, better := _better(scores, pair.first, pair.second), SWAPPED[better])
        for pair in pairs
    )
    grade = _with_accuracy(examined, pairs, outcomes, sum(score is None for score in scores))
    both = [
        (label, score)
        for label, score in zip(examined.scores, scores, strict=True)
        if label is not None and score is not None
    ]
    tau, interval = statistics.kendall(both) if both else (None, None)
    spreads = [critique.spread for critique in critiques if critique.spread is not None]
    spread = _of_one(spreads, judges) if judges > 1 and spreads else None
    return replace(
        grade, seconds=seconds, tokens=tokens, tau=tau, tau_interval=interval, spread=spread
    )


def _with_accuracy(examined: _Set, pairs: Sequence[Pair], outcomes: str, unread: int) -> Grade:
    groups: dict[str, list[float]] = {}
    for pair, outcome in zip(pairs, outcomes, strict=True):
        if outcome != UNREAD:
            groups.setdefault(examined.requests[pair.first].prompt, []).append(_WORTH[outcome])
    values = [value for group in groups.values() for value in group]
    return Grade(
        accuracy=fmean(values) if values else None,
        interval=statistics.clustered(list(groups.values())),
        ties=fmean(value == _WORTH[HALF] for value in values) if values else None,
        unread=unread,
        seconds=0.0,
        outcomes=outcomes,
    )


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[i : i + AT_ONCE] for i in range(0, len(items), AT_ONCE))


def _cost(
    critic: VisionLanguageCritic, began: float, before: Tokens, count: int
) -> tuple[float, float | None]:
    """Seconds and tokens written for each of so many, since then. Tokens: None where a server does
    not tell of all.
    """
    used = critic.tokens() - before
    tokens = None if used.uncounted else used.written / count
    return (time.perf_counter() - began) / count, tokens
