"""Draws candidates with any text-to-image pipeline of diffusers.

Every image is drawn from its own seed, in batches; one that shows nothing, or is not even made of
numbers, is marked so. What differs between pipelines is in `gcr.pipelines`; how noise is mutated
in `gcr.noise`, and how an image is started from in `gcr.starting`.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr import noise, pipelines, starting
from gcr.checkpoint import first_line, is_local, locate, named_errors, quiet_libraries
from gcr.errors import ModelError, UsageError
from gcr.pipelines import Sampling, StepBar
from gcr.records import Drawing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from PIL.Image import Image

    from gcr.memory import SharedDevice
    from gcr.records import Candidate, Progress

__all__ = ["DiffusersGenerator", "Sampling", "load"]

logger = logging.getLogger(__name__)

Asked = tuple["Candidate", "Image | None"]

BLANK_RANGE = 2 / 255
"""An image in which no channel varies by more than this shows nothing."""


def load(
    model: str, sampling: Sampling, device: SharedDevice, progress: Progress | None = None
) -> DiffusersGenerator:
    """Load a pipeline from a hub id, a folder or `pocket:generator`, and check the settings.

    Only safetensors are read, and no code of the checkpoint is run.
    Raises ModelError for what cannot be loaded or draws no images from text, UsageError for
    settings that the pipeline does not take.
    """
    place = locate(model)
    quiet_libraries()
    from diffusers import DiffusionPipeline

    if is_local(place) and not (Path(place) / "model_index.json").is_file():
        raise ModelError(
            f"{model} is not a diffusers pipeline: it has no model_index.json",
            "give the folder that save_pretrained wrote",
        )
    with named_errors(model):
        pipelines.check_kind(model, DiffusionPipeline.load_config(place))
        pipeline = DiffusionPipeline.from_pretrained(
            place, dtype=_dtype(sampling.dtype, device), use_safetensors=True
        )
    return DiffusersGenerator(pipeline, sampling, device, progress)


class DiffusersGenerator:
    """A pipeline with its settings. Its weights wait in the machine's memory until it draws."""

    def __init__(
        self,
        pipeline: Any,
        sampling: Sampling,
        device: SharedDevice,
        progress: Progress | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._sampling = sampling
        self._device = device
        self._progress = progress
        self._batch = (0, 1)  # which of how many is being drawn
        self._takes = pipelines.takes(type(pipeline))
        self._arguments = pipelines.arguments(pipeline, sampling)
        self._readers = pipelines.reading_limits(pipeline, sampling.call)
        self._start: starting.Start | None = None  # made when it is needed first
        # Every pipeline tells its steps to its progress bar; not all of them take a callback.
        pipeline.progress_bar = self._step_bar

    @property
    def takes_negative(self) -> bool:
        """Whether the pipeline can be told what not to draw."""
        return "negative_prompt" in self._takes

    def draw(
        self, candidates: Sequence[Candidate], starts: Sequence[Image | None] = ()
    ) -> list[Drawing]:
        """Draw each candidate from its own seed: an image does not depend on its batch.

        Raises UsageError when a candidate has a negative prompt and the pipeline takes none, or
        is of a kind that it cannot draw; ModelError when the pipeline fails.
        """
        if any(candidate.negative for candidate in candidates):
            self.check_negative()
        if obstacle := next(filter(None, map(self.obstacle, candidates)), ""):
            raise UsageError(obstacle, "take another strategy")
        asked = list(zip(candidates, starts or [None] * len(candidates), strict=True))
        if any(bool(candidate.start) != (start is not None) for candidate, start in asked):
            raise ValueError("a candidate that starts from an image needs it, and no other does")
        batches = list(_batches(asked, self._sampling.batch))
        drawings: list[Drawing] = []
        for index, batch in enumerate(batches):
            self._batch = (index, len(batches))
            drawings += self._device.run(self, partial(self._draw_batch, *zip(*batch, strict=True)))
        return drawings

    def obstacle(self, candidate: Candidate) -> str:
        """Why no candidate of this kind can be drawn; empty if it can.

        Raises UsageError where it could with other settings.
        """
        if candidate.start:
            if candidate.mutations:
                return "noise is not mutated where an image is started from"
            try:
                self._start = self._start or starting.load(self._pipeline, self._sampling)
            except ModelError as error:
                return error.message
            starting.check_strength(candidate.strength, self._start.steps)
        return noise.obstacle(self._pipeline) if candidate.mutations else ""

    @property
    def limit(self) -> int | None:
        """Tokens that the pipeline reads of a prompt, by the least of its tokenizers."""
        limits = [limit for _, _, limit in self._readers]
        return min(limits, default=None)

    def excess(self, prompt: str) -> str:
        """Which tokenizer a prompt is too long for, and by how much; empty if all read all of it.

        What is over the limit would be cut off, and not drawn.
        """
        for name, tokenizer, limit in self._readers:
            tokens = len(tokenizer(prompt, truncation=False).input_ids)
            if tokens > limit:
                return f"it has {tokens} tokens, and the pipeline's {name} reads {limit}"
        return ""

    def check_negative(self) -> None:
        """Raise UsageError when the pipeline takes no negative prompt."""
        if not self.takes_negative:
            raise UsageError(
                f"{self._name} takes no negative prompt",
                "leave it out, or say in the prompt what to draw instead",
            )
        name = "true_cfg_scale" if "true_cfg_scale" in self._takes else "guidance_scale"
        scale = self._arguments.get(name, self._takes[name].default)
        if isinstance(scale, int | float) and scale <= 1:
            logger.warning("the negative prompt does nothing at %s %g", name, scale)

    def weight_bytes(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size()
            for part in self._parts()
            for tensor in itertools.chain(part.parameters(), part.buffers())
        )

    def move(self, device: str) -> None:
        for part in self._parts():
            part.to(device)

    def _parts(self) -> list[Any]:
        import torch

        parts = self._pipeline.components.values()
        return [part for part in parts if isinstance(part, torch.nn.Module)]

    def _draw_batch(
        self, batch: Sequence[Candidate], starts: Sequence[Image | None]
    ) -> list[Drawing]:
        call = {
            "prompt": [candidate.prompt for candidate in batch],
            "generator": [noise.seeded(candidate.seed) for candidate in batch],
            **self._negative(batch),
            # Not as an image: one of 8 bits cannot show that a pixel was NaN.
            "output_type": "np",
        }
        images = [start for start in starts if start is not None]
        try:
            if self._start is not None and images:
                output = self._start(images, batch[0].strength, **call)
            else:
                with noise.mutated(self._pipeline, batch):
                    output = self._pipeline(**self._arguments, **call)
        except ValueError as error:
            raise ModelError(
                f"{self._name} cannot draw this: {first_line(error)}",
                "check the size, the steps and the guidance",
            ) from error
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            logger.warning("the safety checker of %s blacked out an image", self._name)
        return [_drawing(pixels) for pixels in output.images]

    def _negative(self, batch: Sequence[Candidate]) -> dict[str, list[str]]:
        if any(candidate.negative for candidate in batch):
            return {"negative_prompt": [candidate.negative for candidate in batch]}
        if pipelines.guidance_name(self._takes) == "true_cfg_scale":
            # This guidance is only switched on by a negative prompt, and an empty one is none.
            return {"negative_prompt": [" "] * len(batch)}
        return {}

    @property
    def _name(self) -> str:
        return type(self._pipeline).__name__

    def _step_bar(self, iterable: Sequence[object] = (), total: int | None = None) -> StepBar:
        steps = len(iterable) if total is None else total
        index, count = self._batch

        def tell(done: int) -> None:
            if self._progress is not None:
                self._progress("draw", index * steps + done, count * steps)

        return StepBar(tell, iterable)


def _batches(asked: Sequence[Asked], size: int) -> Iterator[Sequence[Asked]]:
    """Batches in order, of candidates and the images they start from.

    No batch mixes candidates with and without a negative prompt: some pipelines treat an empty one
    and none differently, and an image must not depend on its batch. Nor does any mix drawing from
    noise, and from images of one size at one strength.
    """
    for _, group in itertools.groupby(asked, key=_likeness):
        alike = list(group)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _likeness(asked: Asked) -> tuple[bool, object]:
    candidate, start = asked
    return bool(candidate.negative), start and (start.size, candidate.strength)


def _drawing(pixels: np.ndarray) -> Drawing:
    """pixels: (height, width, 3), float, 0-1; NaN where the pipeline computed nonsense."""
    import numpy as np
    from PIL import Image

    finite = bool(np.isfinite(pixels).all())
    image = Image.fromarray((np.nan_to_num(pixels) * 255).round().clip(0, 255).astype("uint8"))
    if not finite:
        return Drawing(image, fault="non-finite")
    ranges = pixels.max(axis=(0, 1)) - pixels.min(axis=(0, 1))  # (3,)
    return Drawing(image, fault="blank" if bool((ranges <= BLANK_RANGE).all()) else "")


def _dtype(name: str, device: SharedDevice) -> Any:
    import torch

    if device.name == "cpu":
        return torch.float32
    return torch.bfloat16 if name == "auto" else getattr(torch, name)
