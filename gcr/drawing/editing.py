"""Which pipelines of diffusers edit an image, and how they are given it.

An editing pipeline takes an `image` and a `prompt` and decides by itself how much of the image
stays; one with a `strength` starts from the image instead and does not edit it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import inspect
    from collections.abc import Mapping

    from PIL.Image import Image

    Parameters = Mapping[str, inspect.Parameter]
    Size = tuple[int | None, int | None]

logger = logging.getLogger(__name__)

MOST_STRETCHED = 1.1
"""By how much an edit may be wider or higher than its source without a warning: pipelines round to
multiples of 64 and less, or take the nearest of a list of sizes."""

ANOTHER_USE = frozenset(
    {
        "strength",  # starts from the image
        "mask_image",
        "control_image",
        "controlnet_conditioning_scale",
        "adapter_conditioning_scale",
        "noise_level",  # upscalers and variations
        "num_frames",
        "num_videos_per_prompt",
        "layers",  # splits an image into several
        "text_to_image_strength",  # mixes an image with a text
        "data_type",  # of UniDiffuser, which draws from an image or from text
        "prior_token_ids",  # of GLM-Image, which reads sizes from its prompt
    }
)
"""Arguments of pipelines that take an image for something other than editing it."""

NEEDS_IMAGE = ("Edit", "Pix2Pix", "I2I", "Refiner")
"""In the names of classes that need an image, though their arguments do not say so."""

ONE_EACH = frozenset(
    {
        "FluxKontextPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    }
)
"""Pipelines that read a list of images as one for each prompt. For others a list is several images
for one prompt (Flux 2, Qwen-Image-Edit-Plus), or they treat a list differently from a single image
(Qwen-Image-Edit scales only the latter for its text encoder)."""


def edits(name: str, parameters: Parameters) -> bool:
    """Whether the pipeline with this class name and these parameters edits an image by a prompt."""
    needed = {"image", "prompt", "num_images_per_prompt"}
    other = any(word in name for word in ("Refiner", "Upscale"))
    return needed <= parameters.keys() and not (ANOTHER_USE & parameters.keys() or other)


def needs_image(name: str, parameters: Parameters) -> bool:
    """Whether a pipeline takes an image and cannot draw from text alone."""
    if "image" not in parameters:
        return False
    required = "strength" in parameters or "height" not in parameters or "noise_level" in parameters
    return required or any(word in name for word in NEEDS_IMAGE)


class Editor:
    """How one pipeline is given the image to edit.

    Arguments:
        name: of its class.
        parameters: of its call.
        size: the width and height that the user set, in pixels; None leaves a side to the
            pipeline, and most then draw in the shape of the source.
    """

    def __init__(self, name: str, parameters: Parameters, size: Size) -> None:
        self._name = name
        self._parameters = parameters
        self._size = size
        self._has_warned = False

    def arguments(self, source: Image | None, count: int) -> dict[str, object]:
        """The arguments by which the pipeline edits the source by `count` prompts."""
        if source is None:
            return {}
        has_size = any(self._size)
        if has_size and "height" not in self._parameters:
            # InstructPix2Pix draws in the size of the source.
            source = source.resize(self._full_size(source))
        image = [source] * count if self._name in ONE_EACH else source
        if not has_size and "max_area" in self._parameters:
            # Kontext scales this to its area; without a size it would draw a square.
            return {"image": image, "width": source.width, "height": source.height}
        return {"image": image}

    def most(self, source: Image | None, batch: int) -> int:
        """How many images can be drawn in one call, `batch` at most."""
        return batch if source is None or self._name in ONE_EACH else 1

    def check_shape(self, source: Image | None, drawn: Image) -> None:
        """Warn, once, when a pipeline does not draw in the requested shape."""
        if source is None or self._has_warned:
            return
        width, height = self._full_size(source)
        stretched = (drawn.width / drawn.height) / (width / height)
        if not 1 / MOST_STRETCHED <= stretched <= MOST_STRETCHED:
            self._has_warned = True
            logger.warning(
                "%s drew %d×%d pixels, another shape than %d×%d; give both width and height",
                *(self._name, drawn.width, drawn.height, width, height),
            )

    def _full_size(self, source: Image) -> tuple[int, int]:
        """The requested size; a side that was left open follows the shape of the source."""
        width, height = self._size
        if width and height:
            return width, height
        if width:
            return width, max(1, round(width * source.height / source.width))
        if height:
            return max(1, round(height * source.width / source.height)), height
        return source.size
