"""The user's own aspects, such as `mood: calm, muted`: a bonus on top of the rubric's score.

Each has a name, what is wanted, and a weight: `mood: calm, muted:0.5`. The critic is asked whether
an image has it, and the probability of its "yes" is the aspect's score, so that no critic has to
write a form that it was not trained on. The whole score is then

    base × (1 + Σ weight × yes) / (1 + Σ weight)

where base is what the rubric's aspects or the checklist come to. As it multiplies, what is not what
was asked for gains little by being to one's taste, and an image whose first aspect, faithfulness,
is below FLOOR gains nothing. This is the idea of rewards in FIRM (Zhao et al., 2026), a base that
must be earned and a bonus that depends on it; the weights are the user's, as people differ in what
they like (PAMELA).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gcr.core.records import AspectScore
from gcr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gcr.core.records import Critique

WEIGHT = 0.5
"""Of an aspect for which none is given: of three parts of a score two are the rubric's."""
MOST_WEIGHT = 10.0
FLOOR = 2.5
"""The middle of the scale of 1 to 4: below it most of what was asked for is missing or wrong."""
_FORM = re.compile(r"(?P<name>[^:]+):(?P<wanted>.*?)(?::\s*(?P<weight>\d+(?:\.\d+)?)\s*)?")


@dataclass(frozen=True, slots=True)
class Taste:
    """An aspect of the user's own.

    Attributes:
        name: such as `mood`.
        wanted: what it is to be, such as `calm, muted`.
        weight: against 1 for all of the rubric.
    """

    name: str
    wanted: str
    weight: float = WEIGHT

    @property
    def question(self) -> str:
        """What the critic is asked about an image."""
        return f'Is the {self.name} of this image "{self.wanted}"? Answer yes or no.'

    def __str__(self) -> str:
        return f"{self.name}: {self.wanted}"


def parse(texts: Iterable[str], taken: Iterable[str] = ()) -> tuple[Taste, ...]:
    """Aspects as they are written; of two of one name the later counts. taken: names that the
    rubric's own aspects have.

    Raises UsageError for what has no name, nothing that is wanted, or a weight out of range.
    """
    tastes: dict[str, Taste] = {}
    names = {name.casefold() for name in taken}
    for text in texts:
        match = _FORM.fullmatch(" ".join(text.split()))
        name, wanted = (match[part].strip() for part in ("name", "wanted")) if match else ("", "")
        if match is None or not name or not wanted:
            raise UsageError(
                f"{text!r} is no aspect", 'write its name and what it is to be: "mood: calm, muted"'
            )
        if _is_number(wanted.rpartition(":")[2]):  # one that the form does not take as a weight
            raise UsageError(
                f"the aspect {name!r} has a weight of {wanted.rpartition(':')[2].strip()}",
                f"give one above 0, {MOST_WEIGHT:g} at most, such as 0.5",
            )
        if name.casefold() in names:
            raise UsageError(f"the rubric has an aspect {name!r} already", "take another name")
        weight = float(match["weight"] or WEIGHT)
        if not 0 < weight <= MOST_WEIGHT:
            raise UsageError(
                f"the aspect {name!r} has a weight of {weight:g}",
                f"give one above 0, {MOST_WEIGHT:g} at most; the rubric as a whole has 1",
            )
        tastes[name.casefold()] = Taste(name, wanted, weight)
    return tuple(tastes.values())


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def wishes(tastes: Sequence[Taste]) -> str:
    """What whoever words the next prompt is told of them; empty for none."""
    return f"The user also likes, where the request leaves it open: {'; '.join(map(str, tastes))}"


def with_taste(critique: Critique, tastes: Sequence[Taste], chances: Sequence[float]) -> Critique:
    """A scored critique with the user's aspects. chances: of "yes" to each."""
    if critique.overall is None or not tastes:
        return critique
    first = next((a for a in critique.aspects if a.score is not None), None)
    low = first.aspect if first and (first.score or 0.0) < FLOOR else ""
    total = sum(taste.weight for taste in tastes)
    bonus = sum(t.weight * chance for t, chance in zip(tastes, chances, strict=True))
    remark = f"; no bonus, as {low} is below {FLOOR:g}" if low else ""
    aspects = [
        AspectScore(t.name, 1 + 3 * chance, f"wanted: {t.wanted}; yes: {chance:.0%}{remark}")
        for t, chance in zip(tastes, chances, strict=True)
    ]
    score = critique.overall * (1 + (0.0 if low else bonus)) / (1 + total)
    return replace(critique, aspects=(*critique.aspects, *aspects), overall=score)


def chances(critique: Critique, tastes: Sequence[Taste]) -> tuple[float, ...]:
    """The chances of "yes" that a scored critique `with_taste` was made with."""
    scores = {aspect.aspect: aspect.score for aspect in critique.aspects}
    given = (scores.get(taste.name) for taste in tastes)
    return tuple((score - 1) / 3 for score in given if score is not None)
