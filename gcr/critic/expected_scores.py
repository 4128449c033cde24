"""Soft scores: not the number a critic wrote, but the one it was expected to write.

A critic that writes 3 where it might nearly as well have written 4 says more than 3. The score is
the mean of all numbers in that place, weighted with their probabilities (as G-Eval does, Liu et
al., 2023), so that images which share a written score can still be told apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.critic.reply import overall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.core.records import Critique
    from gcr.critic.speaker import Number, Reply


def expected(critique: Critique, reply: Reply, places: Mapping[str, int]) -> Critique:
    """The critique with expected scores in place of those that are written.

    places: where in the reply each aspect's score was read. One for which the model told no
    chances there stays as written.
    """
    if critique.overall is None:
        return critique
    told = {number.at: number for number in reply.numbers}
    aspects = [
        replace(aspect, score=_mean(aspect.score, told[places[aspect.aspect]]))
        if aspect.score is not None and places.get(aspect.aspect) in told
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
