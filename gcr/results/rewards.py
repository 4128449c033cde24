"""The critic as a reward function for trainers of diffusion models.

    reward_fn = gcr.Reward(profile="24gb", score="soft")
    rewards, info = reward_fn(images, prompts, metadata)

This is the call of DDPO (`trl`, ddpo-pytorch) and of the score functions of flow_grpo. Only the
critic is loaded, once. A reward is the score of an image, 0-1, against its own prompt.

An image without a score has no reward: that is an error, unless the trainer says which reward such
an image gets. Any number would teach something that was not judged, and NaN spreads through the
mean of its whole batch.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gcr.core.events import ignore
from gcr.core.phrases import count
from gcr.core.records import Critique, Request
from gcr.critic import limits, rubric
from gcr.device.loading import imported
from gcr.drawing import pixels
from gcr.engine.machine import ThisMachine
from gcr.engine.models import load_critic
from gcr.errors import GcrError, UsageError
from gcr.settings.resolving import resolve
from gcr.settings.schema import CriticOptions, Settings

if TYPE_CHECKING:
    from typing import Unpack

    from gcr.core.records import Critic

FLAGS = tuple(CriticOptions.__annotations__)


class Reward:
    """A critic that is loaded, as a function of images and prompts.

    Arguments:
        unscored: the reward of an image that has no score, because it is blank or not finite or
            the critic's reply could not be read twice; None: it is an error.
        device: as torch spells it, such as `cuda:1`; None: the current GPU of this process, where
            there is one.
        flags: settings by the names of their options: profile, critic, rubric, score, judges,
            quantize_critic, trust_endpoint.

    May be called from several threads, which take turns. Raises GcrError.
    """

    def __init__(
        self,
        *,
        unscored: float | None = None,
        device: str | None = None,
        **flags: Unpack[CriticOptions],
    ) -> None:
        settings = _resolved(flags)
        self.unscored = unscored
        self._settings = settings
        questions = rubric.load(settings.rubric)
        self._critic: Critic = load_critic(settings, questions, ignore, device or _current_device())
        self._turn = threading.Lock()

    def __call__(
        self,
        images: Any,
        prompts: Sequence[str],
        metadata: object = None,  # noqa: ARG002 - of the trainers' call
    ) -> tuple[list[float], dict[str, object]]:
        """The rewards, and {"critiques": a gcr.core.records.Critique for each image}.

        Arguments:
            images: (batch, 3, height, width) in 0-1, or as `gcr.drawing.pixels.drawings` has it.
            prompts: one for each image.
            metadata: what the trainer knows of the prompts; never shown to the critic.
        """
        critiques = self.judge(images, prompts)
        return _rewards(critiques, self.unscored), {"critiques": critiques}

    def judge(self, images: Any, prompts: Sequence[str]) -> list[Critique]:
        """The critique of each image; a faulty image has one without a score."""
        drawings = pixels.drawings(images)
        requests = [Request(prompt) for prompt in _checked(prompts, len(drawings))]
        for request in requests:
            limits.check(request.prompt, self._settings)
        critiques = [Critique(problem=f"{drawing.fault} image") for drawing in drawings]
        fit = [i for i, drawing in enumerate(drawings) if not drawing.fault]
        if not fit:
            return critiques
        with self._turn:
            judged = self._critic.judge(
                [requests[i] for i in fit], [drawings[i].image for i in fit]
            )
        for i, critique in zip(fit, judged, strict=True):
            critiques[i] = critique
        return critiques


def reward(
    images: Any,
    prompts: Sequence[str],
    *,
    unscored: float | None = None,
    **flags: Unpack[CriticOptions],
) -> list[float]:
    """The rewards of images, as `Reward(unscored=…, **flags)(images, prompts)[0]`.

    The critic stays loaded until a call has other settings.
    """
    key = json.dumps(_resolved(flags).decisive(), sort_keys=True)
    with _turn:
        if key not in _loaded:
            _loaded.clear()  # frees memory before the next critic is loaded
            _loaded[key] = Reward(**flags)
        loaded = _loaded[key]
    return _rewards(loaded.judge(images, prompts), unscored)


_loaded: dict[str, Reward] = {}
_turn = threading.Lock()


def _current_device() -> str:
    """The current device with its number: in other threads `cuda` alone means the first GPU."""
    imported("torch")
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def _resolved(flags: Mapping[str, object]) -> Settings:
    for name in flags:
        if name not in FLAGS:
            raise UsageError(f"a reward has no setting {name!r}", f"known: {', '.join(FLAGS)}")
    return resolve(flags, ThisMachine()).settings


def _checked(prompts: Sequence[str], images: int) -> list[str]:
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if len(texts) != images:
        counts = f"{count(images, 'image')} and {count(len(texts), 'prompt')}"
        raise UsageError(counts, "give one prompt for each")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"prompt {number} says nothing: {text!r}", "give the words of it")
    return texts


def _rewards(critiques: Sequence[Critique], unscored: float | None) -> list[float]:
    """The scores. Raises GcrError for an image without one, where `unscored` is None."""
    missing = [f"image {i}: {c.problem}" for i, c in enumerate(critiques) if c.overall is None]
    if missing and unscored is None:
        more = f"; and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise GcrError(
            f"{len(missing)} of {count(len(critiques), 'image')} unscored ({missing[0]}{more})",
            "give unscored=, the reward that such an image is to have, or another rubric",
        )
    substitute = float("nan") if unscored is None else float(unscored)
    return [substitute if c.overall is None else c.overall for c in critiques]
