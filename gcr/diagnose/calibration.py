"""Measures how much of a critic's score is chance.

A few images are drawn and each is judged several times. The spread of the scores of one image,
pooled over the images, is the critic's noise: differences within it mean nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcr.core.ranking import pooled
from gcr.core.records import Candidate, Request
from gcr.critic import limits
from gcr.errors import GcrError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.records import Critic, Generator
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


def measure(
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
    # A panel reports the error of its mean.
    return Calibration(pooled(errors) * math.sqrt(settings.judges), len(errors), settings.judges)
