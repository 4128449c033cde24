"""Drawing from an image rather than from noise alone: it is noised, and denoised again.

After SDEdit (Meng et al., 2022): of the steps of a drawing from noise only the last
int(steps x strength) are run, from the image with as much noise as the first of them expects. So
a step is as long as in any other drawing, and a low strength is fast.

Where diffusers has an image-to-image pipeline for the family, that one draws, made of the very
parts of the text-to-image pipeline. For families that have none, but plain latents, the
text-to-image pipeline is begun at a later step.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gcr.drawing import faster, pipelines
from gcr.drawing.pipelines import Sampling, standing_in
from gcr.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from PIL.Image import Image

LATENTS_ARE_ENCODINGS = frozenset({"PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline"})
"""Families whose latents are what their VAE encodes, times its scaling factor: neither shifted
nor packed nor normalized. diffusers has no image-to-image pipeline for them."""


class Start(Protocol):
    """A pipeline that draws from images."""

    steps: int
    """Inference steps of a drawing from noise."""

    def __call__(self, images: Sequence[Image], strength: float, **call: object) -> Any:
        """images: of one size, one for each prompt in `call`, which the pipeline is called with."""
        ...


def load(pipeline: Any, sampling: Sampling) -> Start:
    """Draw from images with the parts of a text-to-image pipeline; nothing is loaded or copied.

    Raises ModelError where the family cannot, UsageError for settings that only drawing from
    noise takes.
    """
    if type(pipeline).__name__ in LATENTS_ARE_ENCODINGS:
        return LateStart(pipeline, sampling)
    return ImageToImage(pipeline, sampling)


def check_strength(strength: float, steps: int) -> None:
    """Raise UsageError where not even one step would be run."""
    if int(steps * strength) < 1:
        least = math.ceil(100 / steps) / 100
        raise UsageError(
            f"strength {strength:g} of {steps} steps is less than one step",
            f"give --strength {least:g} or more, or more --steps",
        )


class ImageToImage:
    """diffusers' own image-to-image pipeline of the family."""

    def __init__(self, pipeline: Any, sampling: Sampling) -> None:
        from diffusers import AutoPipelineForImage2Image

        name = type(pipeline).__name__
        try:
            self._pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        except ValueError as error:
            why = "diffusers makes no image-to-image pipeline of its parts"
            raise _cannot(name, why) from error
        self._takes = pipelines.takes(type(self._pipeline))
        if "strength" not in self._takes:  # for editing: it looks at images and starts from noise
            raise _cannot(name, f"{type(self._pipeline).__name__} takes no strength")
        self._pipeline.progress_bar = pipeline.progress_bar
        faster.encode_once(self._pipeline)
        # Where the two have defaults of their own, as Flux has, those of drawing from noise count.
        defaults = {
            argument: parameter.default
            for argument, parameter in pipelines.takes(type(pipeline)).items()
            if argument in self._takes and isinstance(parameter.default, int | float)
        }
        given = pipelines.arguments(self._pipeline, replace(sampling, width=None, height=None))
        self._arguments = {**defaults, **given}
        self.steps = _steps(self._arguments)

    def __call__(self, images: Sequence[Image], strength: float, **call: object) -> Any:
        size = {"width": images[0].width, "height": images[0].height}
        taken = {side: pixels for side, pixels in size.items() if side in self._takes}
        arguments = {**self._arguments, **taken, **call}
        return self._pipeline(image=list(images), strength=strength, **arguments)


class LateStart:
    """A text-to-image pipeline whose schedule has lost its first steps.

    Its VAE encodes the images; its scheduler noises them as the first step left expects.
    """

    def __init__(self, pipeline: Any, sampling: Sampling) -> None:
        self._pipeline = pipeline
        self._arguments = pipelines.arguments(pipeline, sampling)
        default = pipelines.takes(type(pipeline))["num_inference_steps"].default
        self.steps = _steps({"num_inference_steps": default, **self._arguments})

    def __call__(self, images: Sequence[Image], strength: float, **call: object) -> Any:
        pipeline, scheduler = self._pipeline, self._pipeline.scheduler
        bar, prepare = pipeline.progress_bar, pipeline.prepare_latents

        def set_timesteps(*args: object, **kwargs: object) -> None:
            whole(*args, **kwargs)
            begin = (self.steps - int(self.steps * strength)) * scheduler.order
            scheduler.timesteps = scheduler.timesteps[begin:]
            if hasattr(scheduler, "sigmas"):  # one for each step, and the last
                scheduler.sigmas = scheduler.sigmas[begin:]

        def prepare_latents(*args: object, **kwargs: object) -> Any:
            noise = prepare(*args, **kwargs) / getattr(scheduler, "init_noise_sigma", 1.0)
            encoded, first = self._encoded(images, noise), scheduler.timesteps[:1]
            if hasattr(scheduler, "scale_noise"):  # a flow has no schedule of alphas to add by
                return scheduler.scale_noise(encoded, first.repeat(len(noise)), noise)
            return scheduler.add_noise(encoded, noise, first.repeat(len(noise)))

        def progress_bar(*_: object, **__: object) -> Any:
            return bar(total=int(self.steps * strength))

        whole = scheduler.set_timesteps
        with ExitStack() as stack:
            stack.enter_context(standing_in(scheduler, "set_timesteps", set_timesteps))
            stack.enter_context(standing_in(pipeline, "prepare_latents", prepare_latents))
            stack.enter_context(standing_in(pipeline, "progress_bar", progress_bar))
            return pipeline(**self._arguments, **call)

    def _encoded(self, images: Sequence[Image], like: torch.Tensor) -> Any:
        """like: (batch, channels, height, width), latents of the size that is drawn."""
        pipeline, vae = self._pipeline, self._pipeline.vae
        height, width = (int(side) * pipeline.vae_scale_factor for side in like.shape[-2:])
        pixels = pipeline.image_processor.preprocess(list(images), height, width)
        encoding = vae.encode(pixels.to(like.device, vae.dtype))
        latents = (
            encoding.latent_dist.mode() if hasattr(encoding, "latent_dist") else encoding.latent
        )
        return latents.to(like.dtype) * vae.config.scaling_factor


def _steps(arguments: Mapping[str, Any]) -> int:
    """Inference steps of a call: of a schedule given in full, or by their number."""
    for schedule in ("sigmas", "timesteps"):
        if arguments.get(schedule):
            return len(arguments[schedule])
    return int(arguments["num_inference_steps"])


def _cannot(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} cannot start from an image: {why}",
        "take a strategy that starts from noise, or another generator",
    )
