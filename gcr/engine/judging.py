"""The critic alone: pictures from anywhere, judged against one prompt and ranked.

No generator is loaded, and nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import pocket
from gcr.core import guards, ranking
from gcr.core.events import Notice, ignore
from gcr.core.phrases import count
from gcr.core.records import Critique, Request
from gcr.critic import limits, rubric
from gcr.engine import cautions, models
from gcr.engine.requests import checked_prompt
from gcr.errors import UsageError
from gcr.inputs import source

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.core.events import Consumer
    from gcr.engine.parts import Warm
    from gcr.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the critic says of one picture.

    image: the path as it was given; `image 2` for the second of pictures that have no path.
    """

    image: str
    critique: Critique

    @property
    def score(self) -> float | None:
        """The overall score, 0-1; None: unscored, and `critique.problem` says why."""
        return self.critique.overall


@dataclass(frozen=True, slots=True)
class Ranking:
    """Pictures that were judged against one request.

    judgements: best first; of equal scores the one given first; unscored ones last.
    settings: the critic, its rubric, and where scores come from.
    seconds: wall time of judging, with the time that loading took.
    """

    request: Request
    judgements: tuple[Judgement, ...]
    settings: Settings
    seconds: float

    @property
    def best(self) -> Judgement | None:
        """The one with the highest score; None where nothing could be scored."""
        first = self.judgements[0]
        return first if first.score is not None else None

    @property
    def unscored(self) -> tuple[Judgement, ...]:
        return tuple(judged for judged in self.judgements if judged.score is None)

    @property
    def near(self) -> list[Judgement]:
        """Those whose scores differ from the best by no more than chance, where that is known."""
        return ranking.near(self.judgements, self.best) if self.best else []

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it; what `gcr critique --json` prints."""
        settings = self.settings
        return {
            "prompt": self.request.prompt,
            "negative": self.request.negative,
            **{key: getattr(settings, key) for key in ("critic", "rubric", "score", "judges")},
            "verify": settings.verify,
            "best": self.best and self.best.image,
            "noise": ranking.margin(self.judgements) or None,
            "within_chance_of": [judged.image for judged in self.near],
            "images": [_as_json(judged) for judged in self.judgements],
            "seconds": round(self.seconds, 3),
        }


def _as_json(judged: Judgement) -> dict[str, object]:
    critique = asdict(judged.critique)
    return {"image": judged.image, "score": critique.pop("overall"), **critique}


def critique(
    images: Path | str | Image | Sequence[Path | str | Image],
    prompt: str,
    settings: Settings,
    *,
    emit: Consumer = ignore,
    warm: Warm | None = None,
) -> Ranking:
    """Judge pictures against a prompt, best first.

    images: paths of files or images of Pillow, each as `gcr.inputs.source.read` takes it.
    warm: models of earlier runs, of which the critic judges if it will do, and stays loaded.
    Raises UsageError for a picture that cannot be read, and for a prompt of which the critic
    understands nothing; ModelError as the critic's loader does.
    """
    started = time.perf_counter()
    given: list[Path | str | Image] = (
        list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    )
    if not given:
        raise UsageError("no images", "name the files to be judged")
    request = Request(checked_prompt(prompt), settings.negative)
    # No generator takes part, so what the embedded one cannot do is of no account.
    alone = replace(settings, generator=settings.critic)
    limits.check(request.prompt, alone)
    questions = rubric.load(settings.rubric)
    models.tastes(settings, questions)
    cautions.of_verifier([request.prompt], settings, emit)
    pictures = [source.read(image, option="") for image in given]
    cautions.of_pocket(request, alone, emit)
    _caution_of_pictures(pictures, settings, emit)
    load = warm.load_critic if warm else models.load_critic
    critic = load(settings, questions, emit)
    requests = [request] * len(pictures)
    critiques = critic.judge(requests, pictures)
    unedited = [None] * len(pictures)
    critiques = guards.check_critiques(
        critic,
        requests,
        pictures,
        unedited,
        critiques,
        lambda _: "",  # nobody knows what will draw a prompt, and how much of it
        tell=True,
    )
    names = [
        str(image) if isinstance(image, str | Path) else f"image {number}"
        for number, image in enumerate(given, 1)
    ]
    judged = [Judgement(*both) for both in zip(names, critiques, strict=True)]
    seconds = time.perf_counter() - started
    return Ranking(request, tuple(ranking.ranked(judged)), settings, seconds)


def _caution_of_pictures(pictures: Sequence[Image], settings: Settings, emit: Consumer) -> None:
    """Say that the embedded critic knows no pictures but those of its own world."""
    side = pocket.side()
    foreign = [picture for picture in pictures if picture.size != (side, side)]
    if foreign and limits.is_limited(settings.critic):
        emit(
            Notice(
                f"{len(foreign)} of {count(len(pictures), 'image')} cannot be of the embedded "
                f"generator, which draws {side}×{side} pixels: their scores mean little",
                "the embedded critic knows drawings of coloured shapes only; name a --critic for "
                "photos and the like, or a larger --profile",
            )
        )
