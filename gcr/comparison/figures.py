"""What a comparison came to: records, and how they follow from arms and scores.

The evaluator decides; the critic's own scores stand beside it. Where the critic says that an arm
is better and the evaluator does not, the arm may have learnt to please the critic.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from gcr.comparison import statistics
from gcr.comparison.evaluators import SCORES
from gcr.comparison.statistics import Concord, Finding, Verdict
from gcr.core.phrases import count
from gcr.errors import UsageError

if TYPE_CHECKING:
    from gcr.comparison.arms import Arm
    from gcr.comparison.cost import Cost
    from gcr.comparison.evaluators import Choice

RAW = "raw"
"""The strategy of one image for each prompt."""
UNREFINED = (RAW, "best-of-n")
DOING = {"refine": "refining", "rewrite": "rewriting", "best-of-n": "choosing the best of several"}
"""What a strategy does, as a sentence names it."""
CATEGORIES = ("tag", "Category", "category")
UNFINISHED = "not finished"


class Asked(NamedTuple):
    """A prompt that arms are compared on. columns: the others of its row."""

    id: str
    prompt: str
    category: str | None
    columns: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Shown:
    """What an arm made of a prompt.

    run: its folder, image: its best image, from the comparison's folder; empty where there is none.
    score: the evaluator's; critic: the one it was chosen by; None where there is none.
    images: drawn. seconds: of drawing and judging. failure: why there is no good end, or empty.
    untrusted: phrases of the prompt that the critic's score says nothing of, or empty.
    """

    run: str
    image: str
    score: float | None
    critic: float | None
    images: int
    seconds: float
    failure: str
    untrusted: str = ""


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """A prompt, and what each arm made of it, by the arm's name."""

    id: str
    prompt: str
    category: str | None
    arms: Mapping[str, Shown]


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """An arm over all prompts. mean, critic_mean: of the scores there are; None without any.

    images, seconds: used for a prompt, on average. failed: prompts without a good end.
    cost: what that took; None where there is no run to look at.
    """

    name: str
    folder: str
    strategy: str
    mean: float | None
    critic_mean: float | None
    images: float
    seconds: float
    failed: int
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Pair(Finding):
    """How one arm did against another, over all prompts or those of a category."""

    arm: str
    against: str
    category: str | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A prompt on which the critic prefers an arm to another and the evaluator does not."""

    id: str
    arm: str
    against: str
    critic_gain: float
    evaluator_gain: float


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What suspects of one pair of arms come to.

    prompts: that critic and evaluator have both scored. suspects: on how many of them the critic
        prefers `arm` and the evaluator does not. opposite: on how many it is the other way round.
    p: how often a critic that errs either way alike has as many suspects, of all these.
    founded: whether that is too seldom to be chance.
    """

    arm: str
    against: str
    prompts: int
    suspects: int
    opposite: int
    p: float
    founded: bool


@dataclass(frozen=True, slots=True)
class Opinion:
    """What an evaluator says that does not decide.

    Attributes:
        evaluator: as `Choice.as_json` has it.
        label: what it is called beside the others.
        means: of its scores, by the arm's name; None without any.
        pairs: how the arms did against each other.
        scores: by the prompt's id and the arm's name.
    """

    evaluator: Mapping[str, str | None]
    label: str
    means: Mapping[str, float | None]
    pairs: tuple[Pair, ...]
    scores: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Agreement(Concord):
    """How far two evaluators agree about the arms, prompt by prompt.

    Attributes:
        first: label of an evaluator.
        second: label of the other.
    """

    first: str
    second: str


class Figures(NamedTuple):
    """All of it. Prompts under suspicion come first; the others in the order they were asked."""

    arms: tuple[ArmFigures, ...]
    pairs: tuple[Pair, ...]
    prompts: tuple[PromptFigures, ...]
    suspects: tuple[Suspect, ...]
    suspicions: tuple[Suspicion, ...]


Scored = Mapping[tuple[str, str], float]
"""The evaluator's scores, by the arm's name and the prompt's id."""


def category_column(columns: Sequence[Mapping[str, object]], by: str) -> str:
    """The column that categories are in; empty where there is none.

    columns: of each prompt. by: the column that was asked for; else the first of `CATEGORIES`.
    Raises UsageError for one that no prompt has.
    """
    names = dict.fromkeys(name for one in columns for name in one)
    if by and by not in names:
        there = f"there are: {', '.join(names)}" if names else "there is none beside the prompt"
        raise UsageError(f"--by {by!r} is no column of the prompts", there)
    return by or next((name for name in CATEGORIES if name in names), "")


def category(columns: Mapping[str, object], column: str) -> str | None:
    value = columns.get(column)
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def figures(
    asked: Sequence[Asked],
    arms: Sequence[Arm],
    scores: Scored,
    folder: Path,
    costs: Mapping[str, Cost | None],
) -> Figures:
    """Put together what arms made of prompts. folder: that paths start from. costs: of the arms."""
    prompts = [
        PromptFigures(
            one.id,
            one.prompt,
            one.category,
            {arm.name: _shown(arm, one.id, scores, folder) for arm in arms},
        )
        for one in asked
    ]
    suspects, suspicions = _suspected(prompts, arms)
    order = {id_: rank for rank, id_ in enumerate(dict.fromkeys(s.id for s in suspects))}
    prompts.sort(key=lambda prompt: order.get(prompt.id, len(order)))
    told = tuple(_arm(arm, prompts, folder, costs[arm.name]) for arm in arms)
    pairs = tuple(_pairs(prompts, arms))
    return Figures(told, pairs, tuple(prompts), tuple(suspects), tuple(suspicions))


def opinion(choice: Choice, label: str, all_figures: Figures) -> Opinion:
    """What of an evaluator's figures is its own. all_figures: `figures` of its scores."""
    return Opinion(
        evaluator=choice.as_json(),
        label=label,
        means={arm.name: arm.mean for arm in all_figures.arms},
        pairs=all_figures.pairs,
        scores={
            prompt.id: {name: shown.score for name, shown in prompt.arms.items()}
            for prompt in all_figures.prompts
        },
    )


def agreements(scored: Mapping[str, Scored]) -> list[Agreement]:
    """How far each two evaluators agree. scored: their scores, by their labels."""
    agreements = []
    for (first, ours), (second, theirs) in combinations(scored.items(), 2):
        by_prompt: dict[str, list[tuple[float, float]]] = {}
        for place in ours.keys() & theirs.keys():
            by_prompt.setdefault(place[1], []).append((ours[place], theirs[place]))
        # In one order, so that the same scores have the same interval.
        concord = statistics.concord([by_prompt[id_] for id_ in sorted(by_prompt)])
        agreements.append(Agreement(**asdict(concord), first=first, second=second))
    return agreements


def agreed(agreement: Agreement) -> str:
    """How far two evaluators agree in plain words."""
    both = f"{agreement.first} and {agreement.second}"
    ordered = agreement.alike + agreement.opposite
    if agreement.tau is None or not ordered:
        return f"{both} order no two images of a prompt both"
    share = f"{agreement.alike} of {count(ordered, 'pair')} of images alike"
    interval = ", 95% interval {:+.2f} to {:+.2f}".format(*agreement.interval or (0, 0))
    numbers = f"tau {agreement.tau:+.2f}{interval if agreement.interval else ''}"
    return f"{both} order {share} ({numbers})"


def _shown(arm: Arm, id_: str, scores: Scored, folder: Path) -> Shown:
    result = arm.results.get(id_)
    if result is None:
        return Shown("", "", None, None, 0, 0.0, UNFINISHED)
    base = _from(arm.batch.path, folder)
    return Shown(
        run=f"{base}/{result.folder}",
        image=f"{base}/{result.best_image}" if result.best_image else "",
        score=scores.get((arm.name, id_)),
        critic=result.best,
        images=result.images,
        seconds=result.seconds,
        failure=result.failure,
        untrusted=result.untrusted,
    )


def _from(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _arm(arm: Arm, prompts: Sequence[PromptFigures], folder: Path, cost: Cost | None) -> ArmFigures:
    shown = [prompt.arms[arm.name] for prompt in prompts]
    scores = [one.score for one in shown if one.score is not None]
    critic = [one.critic for one in shown if one.critic is not None]
    return ArmFigures(
        name=arm.name,
        folder=_from(arm.batch.path, folder),
        strategy=arm.strategy,
        mean=fmean(scores) if scores else None,
        critic_mean=fmean(critic) if critic else None,
        images=fmean(one.images for one in shown),
        seconds=fmean(one.seconds for one in shown),
        failed=sum(bool(one.failure) for one in shown),
        cost=cost,
    )


def _pairs(prompts: Sequence[PromptFigures], arms: Sequence[Arm]) -> list[Pair]:
    """Every arm against those before it: over all prompts, then within each category.

    What is said of all prompts is one family of tests, and what is said of categories another: a
    column of categories must not change the verdict on the whole.
    """
    couples = [(arm.name, against.name) for against, arm in combinations(arms, 2)]
    kinds = sorted({prompt.category for prompt in prompts if prompt.category is not None})
    whole = [(arm, against, None) for arm, against in couples]
    parts = [(arm, against, kind) for kind in kinds for arm, against in couples]
    return _family(prompts, whole) + _family(prompts, parts if len(kinds) > 1 else [])


def _family(
    prompts: Sequence[PromptFigures], compared: Sequence[tuple[str, str, str | None]]
) -> list[Pair]:
    differences = [
        [
            gain
            for prompt in prompts
            if kind in {None, prompt.category}
            and (gain := _gain(prompt.arms[arm].score, prompt.arms[against].score)) is not None
        ]
        for arm, against, kind in compared
    ]
    findings = statistics.judge(differences)
    return [
        Pair(**asdict(finding), arm=arm, against=against, category=kind)
        for finding, (arm, against, kind) in zip(findings, compared, strict=True)
    ]


def _gain(score: float | None, against: float | None) -> float | None:
    return None if score is None or against is None else score - against


def _suspected(
    prompts: Sequence[PromptFigures], arms: Sequence[Arm]
) -> tuple[list[Suspect], list[Suspicion]]:
    """The suspects of all pairs of arms, the worst first, and what those of each pair come to."""
    given = [one.score for prompt in prompts for one in prompt.arms.values()]
    highest = max((score for score in given if score is not None), default=0.0)
    suspects: list[Suspect] = []
    suspicions = []
    for against, arm in combinations(arms, 2):
        if arm.critic != against.critic:
            continue
        there = [p for p in prompts if _measured(p.arms[arm.name], p.arms[against.name])]
        found = _suspects(there, arm.name, against.name, highest)
        opposite = len(_suspects(there, against.name, arm.name, highest))
        p = statistics.leaning(len(found), opposite)
        suspects += found
        suspicions.append(
            Suspicion(
                arm.name, against.name, len(there), len(found), opposite, p, p < statistics.LEVEL
            )
        )
    return sorted(suspects, key=lambda one: (one.evaluator_gain, -one.critic_gain)), suspicions


def _measured(*shown: Shown) -> bool:
    return all(one.critic is not None and one.score is not None for one in shown)


def _suspects(
    prompts: Sequence[PromptFigures], arm: str, against: str, highest: float
) -> list[Suspect]:
    """Prompts on which the critic prefers an arm and the evaluator does not.

    Where both have the highest score that was given at all, an evaluator can say no better, and
    nothing is suspected.
    """
    found = []
    for prompt in prompts:
        mine, other = prompt.arms[arm], prompt.arms[against]
        gained, meant = _gain(mine.critic, other.critic), _gain(mine.score, other.score)
        if gained is None or meant is None or gained <= 0 or meant > 0:
            continue
        if meant < 0 or other.score != highest:
            found.append(Suspect(prompt.id, arm, against, gained, meant))
    return found


def said(pair: Pair) -> str:
    """The verdict on two arms in plain words."""
    if pair.verdict in {Verdict.BETTER, Verdict.WORSE}:
        return f"{pair.arm} is {pair.verdict} than {pair.against}"
    both = f"{pair.arm} and {pair.against}"
    more = f"about {pair.needed} more"
    if pair.verdict is Verdict.TOO_FEW:
        return f"too few prompts to tell {both} apart: {more}"
    hint = f"; one of this size would take {more} prompts" if pair.needed else ""
    return f"no difference shown between {both}{hint}"


def contrast(strategies: Mapping[str, str]) -> tuple[str, str] | None:
    """The two arms whose difference matters most; None where there are no two.

    The first that refines, or else the last, against the raw one, or else the first.

    strategies: of the arms, by their names.
    """
    against = next((name for name, strategy in strategies.items() if strategy == RAW), "")
    against = against or next(iter(strategies), "")
    others = {name: strategy for name, strategy in strategies.items() if name != against}
    refining = (name for name, strategy in others.items() if strategy not in UNREFINED)
    arm = next(refining, next(reversed(others), ""))
    return (arm, against) if arm else None


def answer(
    pairs: Iterable[Pair],
    strategies: Mapping[str, str],
    scores: Iterable[Mapping[str, float | None]],
    evaluator: Mapping[str, str | None],
) -> str:
    """What a comparison came to for the two arms that matter most, as a person would say it.

    strategies: of the arms, by their names. scores: of each prompt, by the arm's name.
    evaluator: that decides, as `Choice.as_json` has it.
    Empty where there are no two arms.
    """
    both = contrast(strategies)
    whole = {(pair.arm, pair.against): pair for pair in pairs if pair.category is None}
    pair = (whole.get(both) or _turned(whole.get(both[::-1]))) if both else None
    if pair is None:
        return ""
    arm, against = pair.arm, pair.against
    judge = judged_by(evaluator)
    if not pair.prompts:
        return (
            f"Nothing can be said yet: {judge} has scored no prompt for both {arm} and {against}."
        )
    raw = strategies[against] == RAW
    doing = DOING.get(strategies[arm], arm) if raw else arm
    told = (prompt.get(name) for prompt in scores for name in (arm, against))
    changed = _changed(pair, is_right=all(s in {0.0, 1.0, None} for s in told), raw=raw)
    chance = f"; you would see this difference by chance {_odds(pair)}"
    helps = f"{doing} helps" if raw else f"{arm} does better than {against}"
    needed = pair.needed or 0
    if pair.verdict is Verdict.TOO_FEW:
        said = f"Too few prompts to say whether {helps}"
        chance = f"; about {needed} more {'is' if needed == 1 else 'are'} needed"
    elif pair.verdict is Verdict.NO_DIFFERENCE:
        said = f"It is not shown that {helps}"
        chance = chance if pair.wins + pair.losses else ""
        chance += f", and it would take about {needed} more prompts to tell" if needed else ""
    else:
        did = {Verdict.BETTER: ("helped", "better"), Verdict.WORSE: ("did harm", "worse")}
        good, how = did[pair.verdict]
        said = f"{doing} {good}" if raw else f"{arm} did {how} than {against}"
    return f"{said[0].upper()}{said[1:]}: judged by {judge}, {changed}{chance}."


def judged_by(evaluator: Mapping[str, str | None]) -> str:
    """An evaluator as a sentence names it."""
    name, model = evaluator["name"], evaluator["model"]
    if name == "command":
        return "your own program"
    return f"{model}'s own scorer" if name == SCORES else " ".join(filter(None, (name, model)))


def _turned(pair: Pair | None) -> Pair | None:
    """The same, seen from the other arm."""
    if pair is None:
        return None
    other = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    return replace(
        pair,
        arm=pair.against,
        against=pair.arm,
        wins=pair.losses,
        losses=pair.wins,
        difference=None if pair.difference is None else -pair.difference,
        interval=None if pair.interval is None else (-pair.interval[1], -pair.interval[0]),
        verdict=other.get(pair.verdict, pair.verdict),
    )


def _changed(pair: Pair, *, is_right: bool, raw: bool) -> str:
    """On how many prompts an arm did better, and on how many worse."""
    kinds = [("better", "right", pair.wins), ("worse", "wrong", pair.losses)]
    if (pair.difference or 0.0) < 0:  # what it is about comes first
        kinds.reverse()
    numbers = [number or "none" for _, _, number in kinds]
    mean = ""
    if not is_right and pair.difference is not None:
        # A difference that two decimals would hide is no zero.
        digits = ".1g" if 0 < abs(pair.difference) < 0.005 else ".2f"
        mean = f", {pair.difference:+{digits}} on average"
    if raw:
        first, second = (right if is_right else better for better, right, _ in kinds)
        became = f"{numbers[0]} of {count(pair.prompts, 'picture')} became {first}"
        return f"{became} and {numbers[1]} became {second}{mean}"
    first, second = (better for better, _, _ in kinds)
    on = f"its picture is {first} on {numbers[0]} of {count(pair.prompts, 'prompt')}"
    return f"{on} and {second} on {numbers[1]}{mean}"


def _odds(pair: Pair) -> str:
    """How often chance alone makes such a difference, corrected for all that was tested."""
    p = pair.p if pair.adjusted is None else pair.adjusted
    if p is None or p > 0.95:
        return "nearly always"
    if p > 0.3:
        return f"about {round(10 * p)} times in 10"
    if p < 1e-4:
        return "less than 1 time in 10,000"
    times = 1 / p
    digits = max(0, len(str(round(times))) - 2)
    return f"about 1 time in {round(times, -digits):,.0f}"
