"""Drawing from an image rather than from noise alone: it is noised, and denoised again.

After SDEdit (Meng et al., 2022): of the steps of a drawing from noise only the last
int(steps x strength) are run, from the image with as much noise as the first of them expects. So
a step takes as long as in any other drawing, and a low strength is fast.

Where diffusers has an image-to-image pipeline for the family, it is made of the parts of the
text-to-image pipeline. For families without one that have plain latents, the text-to-image
pipeline begins at a later step.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gcr.drawing import pipelines
from gcr.drawing.pipelines import Sampling, replaced
from gcr.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from PIL.Image import Image

LATENTS_ARE_ENCODINGS = frozenset({"PixArtAlphaPipeline", "PixArtSigmaPipeline", "SanaPipeline"})
"""Families whose latents are the VAE's encoding times its scaling factor: not shifted, packed or
normalized. diffusers has no image-to-image pipeline for them."""


class Start(Protocol):
    """A pipeline that draws from images."""

    steps: int
    """Inference steps of a drawing from noise."""

    def __call__(self, images: Sequence[Image], strength: float, **call: object) -> Any:
        """Draw from images.

        Arguments:
            images: of one size, one for each prompt in `call`.
            strength: share of the steps that are run, 0-1.
            call: arguments of the pipeline's call.
        """
        ...


def load(pipeline: Any, sampling: Sampling, encode_once: Callable[[Any], None]) -> Start:
    """A pipeline that draws from images, made of a text-to-image pipeline's parts without copying.

    encode_once: has a pipeline read prompts as that one does.

    Raises ModelError where the family cannot, UsageError for settings that only drawing from
    noise takes.
    """
    if type(pipeline).__name__ in LATENTS_ARE_ENCODINGS:
        return LateStart(pipeline, sampling)
    return ImageToImage(pipeline, sampling, encode_once)


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

    def __init__(
        self, pipeline: Any, sampling: Sampling, encode_once: Callable[[Any], None]
    ) -> None:
        from diffusers import AutoPipelineForImage2Image

        name = type(pipeline).__name__
        try:
            self._pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        except ValueError as error:
            reason = "diffusers makes no image-to-image pipeline of its parts"
            raise _cannot(name, reason) from error
        self._parameters = pipelines.parameters_of(type(self._pipeline))
        if (
            "strength" not in self._parameters
        ):  # for editing: it looks at images and starts from noise
            raise _cannot(name, f"{type(self._pipeline).__name__} takes no strength")
        self._pipeline.progress_bar = pipeline.progress_bar
        encode_once(self._pipeline)
        # Where the two have different defaults, as in Flux, those of drawing from noise hold.
        defaults = {
            argument: parameter.default
            for argument, parameter in pipelines.parameters_of(type(pipeline)).items()
            if argument in self._parameters and isinstance(parameter.default, int | float)
        }
        arguments = pipelines.arguments(self._pipeline, replace(sampling, width=None, height=None))
        self._arguments = {**defaults, **arguments}
        self.steps = _steps(self._arguments)

    def __call__(self, images: Sequence[Image], strength: float, **call: object) -> Any:
        size = {"width": images[0].width, "height": images[0].height}
        size = {side: pixels for side, pixels in size.items() if side in self._parameters}
        arguments = {**self._arguments, **size, **call}
        return self._pipeline(image=list(images), strength=strength, **arguments)


class LateStart:
    """A text-to-image pipeline that begins at a later step of its schedule.

    Its VAE encodes the images; its scheduler adds the noise that this step expects.
    """

    def __init__(self, pipeline: Any, sampling: Sampling) -> None:
        self._pipeline = pipeline
        self._arguments = pipelines.arguments(pipeline, sampling)
        default = pipelines.parameters_of(type(pipeline))["num_inference_steps"].default
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
            if hasattr(scheduler, "scale_noise"):  # flow matching has no alphas
                return scheduler.scale_noise(encoded, first.repeat(len(noise)), noise)
            return scheduler.add_noise(encoded, noise, first.repeat(len(noise)))

        def progress_bar(*_: object, **__: object) -> Any:
            return bar(total=int(self.steps * strength))

        whole = scheduler.set_timesteps
        with ExitStack() as stack:
            stack.enter_context(replaced(scheduler, "set_timesteps", set_timesteps))
            stack.enter_context(replaced(pipeline, "prepare_latents", prepare_latents))
            stack.enter_context(replaced(pipeline, "progress_bar", progress_bar))
            return pipeline(**self._arguments, **call)

    def _encoded(self, images: Sequence[Image], like: torch.Tensor) -> Any:
        """The images as latents, (batch, channels, height, width), like those in `like`."""
        pipeline, vae = self._pipeline, self._pipeline.vae
        height, width = (int(side) * pipeline.vae_scale_factor for side in like.shape[-2:])
        pixels = pipeline.image_processor.preprocess(list(images), height, width)
        encoding = vae.encode(pixels.to(like.device, vae.dtype))
        latents = (
            encoding.latent_dist.mode() if hasattr(encoding, "latent_dist") else encoding.latent
        )
        return latents.to(like.dtype) * vae.config.scaling_factor


def _steps(arguments: Mapping[str, Any]) -> int:
    """Inference steps of a call: the length of its schedule, or the number that it names."""
    for schedule in ("sigmas", "timesteps"):
        if arguments.get(schedule):
            return len(arguments[schedule])
    return int(arguments["num_inference_steps"])


def _cannot(name: str, reason: str) -> ModelError:
    return ModelError(
        f"{name} cannot start from an image: {reason}",
        "take a strategy that starts from noise, or another generator",
    )
