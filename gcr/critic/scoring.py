"""Where a reply, as `gcr.critic.reply` reads it, becomes a score.

`--score` says which way:

    reply      the mean of the aspects' scores as the critic wrote them    `overall`
    soft       the same, of the numbers it was expected to write           `expected`
    checklist  how surely the critic answers yes to each requirement       `by_checklist`

An image that is judged several times has the mean of its scores (`mean_of_judges`). What a program
checked (`--verify`) counts instead of the critic's opinion of it (`verified`, `checklist_score`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from gcr.core.phrases import fact
from gcr.core.records import AspectScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gcr.core.records import Critique, Fact, Requirement
    from gcr.critic.speaker import Number, Reply


def overall(scores: Sequence[float]) -> float:
    """The overall score, 0-1, of one or more aspect scores, each 1-4."""
    return min(1.0, max(0.0, (fmean(scores) - 1) / 3))


def expected(critique: Critique, reply: Reply, places: Mapping[str, int]) -> Critique:
    """The critique with expected scores in place of those that are written.

    A critic that writes 3 where it might nearly as well have written 4 says more than 3. The score
    is the mean of all numbers in that place, weighted with their probabilities (as G-Eval does, Liu
    et al., 2023), so that images which share a written score can still be told apart.

    places: where in the reply each aspect's score was read. One for which the model told no
        chances there stays as written.
    """
    if critique.overall is None:
        return critique
    numbers = {number.at: number for number in reply.numbers}
    aspects = [
        replace(aspect, score=_mean(aspect.score, numbers[places[aspect.aspect]]))
        if aspect.score is not None and places.get(aspect.aspect) in numbers
        else aspect
        for aspect in critique.aspects
    ]
    scores = [aspect.score for aspect in aspects if aspect.score is not None]
    return replace(critique, aspects=tuple(aspects), overall=overall(scores))


def _mean(written: float, number: Number) -> float:
    """The mean score, 1-4. Of numbers with several tokens only the one that is written is known
    whole; another counts as the number it begins with.
    """
    total = sum(number.chances.values())
    begun = max((v for v in number.chances if v <= written), default=written)
    return (
        sum(
            chance * (written if value == begun else value)
            for value, chance in number.chances.items()
        )
        / total
    )


TEXT_RENDERING = "Text Rendering"
"""The aspect that OCR settles; a rubric that has none gets it for that."""
LEAST = 0.01
"""What a text of which nothing can be read counts as in a checklist: a factor of 0 would make all
such images alike, whatever else they show."""


def verified(critique: Critique, facts: Sequence[Fact]) -> Critique:
    """The critique with its text rendering as a program found it, 1-4, and the score that follows.

    4 where every text is as it was asked for. Otherwise 1 and up to 2 points for how near they
    come, so that no wrong letter has more than a 3, as little of the image as it may be. What is
    unscored stays so.
    """
    if not facts:
        return critique
    critique = replace(critique, facts=tuple(facts))
    if critique.overall is None:
        return critique
    score = 4.0 if not critique.refuted else 1 + 2 * fmean(fact.nearness for fact in facts)
    settled = AspectScore(TEXT_RENDERING, score, "; ".join(map(fact, facts)))
    others = [a for a in critique.aspects if a.aspect.casefold() != TEXT_RENDERING.casefold()]
    place = next((i for i, a in enumerate(critique.aspects) if a not in others), len(others))
    aspects = (*others[:place], settled, *others[place:])
    scores = [aspect.score for aspect in aspects if aspect.score is not None]
    return replace(critique, aspects=aspects, overall=overall(scores))


def by_checklist(critique: Critique, requirements: Sequence[Requirement]) -> Critique:
    """The critique with the score that the answered requirements of its image come to; its words
    stay. Unscored where there are none.
    """
    if not requirements:
        problem = "the critic could not take the request apart into questions"
        return replace(critique, overall=None, problem=problem)
    return replace(
        critique,
        overall=checklist_score(requirements, critique.facts),
        problem="",
        requirements=tuple(requirements),
    )


def checklist_score(requirements: Sequence[Requirement], facts: Sequence[Fact] = ()) -> float:
    """The geometric mean of the chances that each requirement is met, 0-1, and of how near each
    text comes that a program looked for.

    One that needs others is met at most as far as they are. The geometric mean follows people's
    judgement of a whole image more closely than the plain one, under which many small things make
    up for one that is wrong (Soft-TIFA in GenEval 2, Kamath et al., 2025).
    """
    met: list[float] = []
    for requirement in requirements:
        met.append(
            (requirement.chance or 0.0) * min((met[i] for i in requirement.needs), default=1)
        )
    met += [max(LEAST, fact.nearness) for fact in facts]
    return math.prod(met) ** (1 / len(met))


def mean_of_judges(critiques: Sequence[Critique]) -> Critique:
    """Several judgements of one image as one.

    The score is the mean of those that could be read, its spread their standard error. An aspect
    has the mean of those who scored it; where most hold that it does not apply, it has none. All
    else is from the judge who came closest to the mean, so that words and score agree.
    """
    read = [critique for critique in critiques if critique.overall is not None]
    if len(read) < 2:
        return read[0] if read else critiques[0]
    scores = [critique.overall for critique in read if critique.overall is not None]
    mean = fmean(scores)
    nearest = read[min(range(len(read)), key=lambda i: abs(scores[i] - mean))]
    given: dict[str, list[float]] = {}
    for aspect in (aspect for critique in read for aspect in critique.aspects):
        if aspect.score is not None:
            given.setdefault(aspect.aspect, []).append(aspect.score)
    aspects = tuple(
        replace(aspect, score=fmean(found) if 2 * len(found) >= len(read) else None)
        for aspect in nearest.aspects
        for found in [given.get(aspect.aspect, [])]
    )
    spread = stdev(scores) / math.sqrt(len(scores))
    return replace(nearest, aspects=aspects, overall=mean, spread=spread)
