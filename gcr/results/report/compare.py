"""The page of a comparison: the result, and every prompt with its arms side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcr.comparison.cost import Cost
from gcr.comparison.figures import Agreement, Pair, agreed, answer, contrast, judged_by
from gcr.comparison.statistics import Verdict
from gcr.core.phrases import count, duration
from gcr.errors import GcrError
from gcr.files import structured
from gcr.results.report.charts import Scale, plot
from gcr.results.report.page import NAME, names, number, render, signed
from gcr.results.report.pictures import Picture, Pictures

DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of values that are not what a comparison records."""
VERDICTS = {"better": "better", "worse": "worse"}  # those that have a colour


@dataclass(frozen=True, slots=True)
class Shown:
    """What one arm made of a prompt.

    Attributes:
        name: of the arm.
        picture: its best image.
        link: to the page of its run; empty where there is none.
        score: the evaluator's; None: unscored.
        critic: the critic's score, 0-1; None: unscored.
        images: how many were drawn.
        seconds: spent drawing and judging.
        failure: why the run did not end well; empty where it did.
        won: whether no other arm has as high a score.
        suspect: whether the critic prefers it and the evaluator does not.
        untrusted: phrases of the prompt that the critic does not understand.
        others: scores of evaluators that do not decide, by their labels.
    """

    name: str
    picture: Picture
    link: str
    score: float | None
    critic: float | None
    images: int
    seconds: float
    failure: str
    won: bool
    suspect: bool
    untrusted: str
    others: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the gallery shows it.

    Attributes:
        id: of the prompt.
        anchor: its place in the page.
        prompt: the words.
        category: its number among the page's categories; None: it has none.
        arms: what each arm made of it.
        gain: the difference of the two arms that the page contrasts.
        score: the highest of the evaluator's.
        kinds: what the gallery can be filtered by.
    """

    id: str
    anchor: str
    prompt: str
    category: int | None
    arms: Sequence[Shown]
    gain: float | None
    score: float | None
    kinds: Sequence[str]


def page(folder: Path, pictures: Pictures) -> bytes:
    """The page of the comparison in a folder. Raises GcrError where it cannot be read."""
    from jinja2 import UndefinedError

    record = _read(folder)
    try:
        return render("compare.html", _values(record, folder, pictures), ["gallery.js"])
    except (*DAMAGE, UndefinedError) as error:
        raise _damaged(folder, error) from error


def runs(folder: Path) -> list[Path]:
    """The folders of a comparison's runs that are there."""
    prompts = _read(folder)["prompts"]
    try:
        paths = [folder / arm["run"] for prompt in prompts for arm in prompt["arms"].values()]
    except DAMAGE as error:
        raise _damaged(folder, error) from error
    return [path for path in dict.fromkeys(paths) if (path / "run.json").exists()]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "compare.json"
    try:
        record = structured.record(path)
        return {**record, "prompts": list(record["prompts"])}
    except OSError as error:
        raise GcrError(f"cannot read {path}: {error.strerror or error}", "compare again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> GcrError:
    message = f"{folder / 'compare.json'} is not the record of a comparison: {error!r}"
    return GcrError(message, "compare again, or name a folder that gcr compare made")


def _values(record: dict[str, Any], folder: Path, pictures: Pictures) -> dict[str, Any]:
    pairs = record["pairs"]
    scale = _scale(pairs)
    strategies = {arm["name"]: arm["strategy"] for arm in record["arms"]}
    both = contrast(strategies)
    gallery = _Gallery(record, folder, pictures, both)
    prompts = {
        p["id"]: {"anchor": _anchor(place), "prompt": p["prompt"]}
        for place, p in enumerate(record["prompts"])
    }
    return {
        "id": record["id"],
        "started": record["started"],
        "seconds": record["seconds"],
        "name": folder.absolute().name,
        "files": names(record["files"]),
        "evaluator": judged_by(record["evaluator"]),
        "critic": record["critic"],
        "budget": _budget(record["equal"], record["budget"]),
        "arms": [
            {**arm, "link": _link(folder / arm["folder"], pictures)} for arm in record["arms"]
        ],
        "costs": _costs(record["arms"]),
        "curves": _curves(record.get("curves")),
        "answer": _answer(record, strategies),
        "pairs": [_pair(pair, scale) for pair in pairs if not pair["category"]],
        "categories": _by_category([_pair(pair, scale) for pair in pairs if pair["category"]]),
        "scale": scale,
        "others": [_other(other) for other in record.get("others", ())],
        "agreement": [
            agreed(Agreement(**both)) for both in record.get("agreement", ()) if both["prompts"]
        ],
        "suspicions": _suspicions(record),
        "suspects": [{**suspect, **prompts[suspect["id"]]} for suspect in record["suspects"]],
        "choices": gallery.categories,
        "contrast": " against ".join(both) if both else "",
        "prompts": gallery.prompts(),
        "groups": {"Settings": record["settings"], "Versions": record["versions"]},
    }


def _costs(arms: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What each arm took for a prompt, by its name. Older versions did not record it."""
    return {arm["name"]: Cost(**cost).in_words() for arm in arms if (cost := arm.get("cost"))}


def _curves(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the arms had come to, against what it took; None where that is not known."""
    if record is None:
        return None
    arms, equal = record["arms"], record["equal_seconds"]
    by_images = {name: list(enumerate(arm["images"], 1)) for name, arm in arms.items()}
    by_seconds = {name: [(x, y) for x, y in arm["seconds"]] for name, arm in arms.items()}
    ends = [f"{name} {number(points[-1][1])}" for name, points in by_images.items()]
    return {
        "plots": {
            "images": plot(by_images, dotted=True),
            "seconds": plot(by_seconds, dotted=False),
        },
        "prompts": record["prompts"],
        "ends": ", ".join(ends),
        "equal": None if equal is None else f"{equal:.1f} s",
        "at_equal": record["at_equal_seconds"],
    }


def _scale(pairs: Sequence[dict[str, Any]]) -> Scale:
    ends = [end for pair in pairs for end in (pair["difference"], *(pair["interval"] or ()))]
    return Scale.of([end for end in ends if end is not None])


def _other(record: dict[str, Any]) -> dict[str, Any]:
    """What an evaluator says that does not decide; its scores have a scale of their own."""
    whole = [pair for pair in record["pairs"] if not pair["category"]]
    scale = _scale(whole)
    measured = any(mean is not None for mean in record["means"].values())
    pairs = [_pair(pair, scale) for pair in whole]
    return {**record, "pairs": pairs, "scale": scale, "measured": measured}


def _budget(equal: str, budget: float) -> str:
    """What each arm may spend on a prompt."""
    return count(round(budget), "image") if equal == "images" else duration(budget)


def _pair(pair: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """A pair of arms as the page shows it; its p is corrected for all pairs tested together."""
    difference, interval = pair["difference"], pair["interval"]
    corrected = pair.get("adjusted")
    between = f", from {signed(interval[0])} to {signed(interval[1])}" if interval else ""
    return {
        **pair,
        "p": pair["p"] if corrected is None else corrected,
        "whisker": None if difference is None else scale.whisker(difference, interval),
        "spoken": f"{signed(difference)}{between}, {pair['verdict']}",
        "class": VERDICTS.get(pair["verdict"], "soft"),
    }


def _by_category(pairs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The results by category of each pair of arms, by the name of the pair."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        by_name.setdefault(f"{pair['arm']} against {pair['against']}", []).append(pair)
    return by_name


def _answer(record: dict[str, Any], strategies: Mapping[str, str]) -> str:
    """The result in one sentence. Older versions did not record it."""
    if "answer" in record:
        return str(record["answer"])
    pairs = [
        Pair(**{"adjusted": None, **pair, "verdict": Verdict(pair["verdict"])})
        for pair in record["pairs"]
    ]
    scores = [
        {name: arm["score"] for name, arm in prompt["arms"].items()} for prompt in record["prompts"]
    ]
    return answer(pairs, strategies, scores, record["evaluator"])


def _suspicions(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The pairs of arms with more suspects than chance explains.

    Older versions did not count suspects both ways, and recorded no such pairs.
    """
    return [pair for pair in record.get("suspicions", ()) if pair["founded"]]


class _Gallery:
    """The prompts of a comparison, as the page shows them.

    contrast: the two arms whose difference is shown for each prompt.
    """

    def __init__(
        self,
        record: dict[str, Any],
        folder: Path,
        pictures: Pictures,
        contrast: tuple[str, str] | None,
    ) -> None:
        self._contrast = contrast
        self._record = record
        self._folder = folder
        self._pictures = pictures
        arms = [arm for prompt in record["prompts"] for arm in prompt["arms"].values()]
        self._thumbnails = pictures.small(folder / arm["image"] for arm in arms if arm["image"])
        self._suspects = {(suspect["id"], suspect["arm"]) for suspect in record["suspects"]}
        self._names = [arm["name"] for arm in record["arms"]]
        self.categories = list(
            dict.fromkeys(p["category"] for p in record["prompts"] if p["category"])
        )

    def prompts(self) -> list[Prompt]:
        return [self._prompt(*item) for item in enumerate(self._record["prompts"])]

    def _prompt(self, place: int, prompt: dict[str, Any]) -> Prompt:
        arms = self._arms(prompt)
        scores = {arm.name: arm.score for arm in arms}
        category = prompt["category"]
        return Prompt(
            prompt["id"],
            _anchor(place),
            prompt["prompt"],
            self.categories.index(category) if category else None,
            arms,
            self._gain(scores),
            max((score for score in scores.values() if score is not None), default=None),
            _kinds(arms, self._names),
        )

    def _arms(self, prompt: dict[str, Any]) -> list[Shown]:
        arms: dict[str, dict[str, Any]] = prompt["arms"]
        scores = [arm["score"] for arm in arms.values() if arm["score"] is not None]
        highest = max(scores, default=None)
        return [
            Shown(
                name,
                self._picture(arm["image"]),
                _link(self._folder / arm["run"], self._pictures) if arm["run"] else "",
                arm["score"],
                arm["critic"],
                arm["images"],
                arm["seconds"],
                arm["failure"],
                won=arm["score"] == highest and scores.count(highest) == 1,
                suspect=(prompt["id"], name) in self._suspects,
                untrusted=arm.get("untrusted", ""),
                others={
                    other["label"]: other["scores"][prompt["id"]][name]
                    for other in self._record.get("others", ())
                },
            )
            for name in self._names
            if (arm := arms.get(name)) is not None
        ]

    def _picture(self, name: str) -> Picture:
        return self._thumbnails[self._folder / name] if name else Picture(problem="no image")

    def _gain(self, scores: Mapping[str, float | None]) -> float | None:
        """By how much the first of the two contrasted arms is ahead of the second."""
        arm, against = map(scores.get, self._contrast or ("", ""))
        return None if arm is None or against is None else arm - against


def _anchor(place: int) -> str:
    return f"prompt-{place}"


def _kinds(arms: Sequence[Shown], names: Sequence[str]) -> list[str]:
    kinds = [f"won-{names.index(arm.name)}" for arm in arms if arm.won]
    kinds += ["suspect"] if any(arm.suspect for arm in arms) else []
    return kinds + (["failed"] if any(arm.failure for arm in arms) else [])


def _link(folder: Path, pictures: Pictures) -> str:
    """To the page in a folder, if there is one."""
    return pictures.link(folder / NAME) if (folder / NAME).exists() else ""
