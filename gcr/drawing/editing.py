"""What of diffusers edits an image, and how it is handed the one to edit.

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

    Takes = Mapping[str, inspect.Parameter]
    Size = tuple[int | None, int | None]

logger = logging.getLogger(__name__)

MOST_STRETCHED = 1.1
"""By how much an edit may be wider or higher than its source before that is worth a warning:
pipelines round to multiples of 64 and less, or take the nearest of a list of sizes."""

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
        "layers",  # draws several images of one
        "text_to_image_strength",  # mixes an image with a text
        "data_type",  # of UniDiffuser, which draws from an image or from text
        "prior_token_ids",  # of GLM-Image, which wants sizes in a notation of its own in the prompt
    }
)
"""Arguments of pipelines that take an image to do something else with it than to edit it."""

NEEDS_IMAGE = ("Edit", "Pix2Pix", "I2I", "Refiner")
"""In the name of a class that draws nothing without an image, though its arguments allow it."""

ONE_EACH = frozenset(
    {
        "FluxKontextPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    }
)
"""Pipelines that read a list of images as one for each prompt. To others a list means several
images for one prompt (Flux 2, Qwen-Image-Edit-Plus), or its images are read otherwise than a
single one (Qwen-Image-Edit scales only a single one for its text encoder)."""


def edits(name: str, taken: Takes) -> bool:
    """Whether the pipeline of this name and these arguments edits an image as a prompt says."""
    needed = {"image", "prompt", "num_images_per_prompt"}
    other = any(word in name for word in ("Refiner", "Upscale"))
    return needed <= taken.keys() and not (ANOTHER_USE & taken.keys() or other)


def needs_image(name: str, taken: Takes) -> bool:
    """Whether a pipeline that takes an image draws nothing from text alone."""
    if "image" not in taken:
        return False
    must = "strength" in taken or "height" not in taken or "noise_level" in taken
    return must or any(word in name for word in NEEDS_IMAGE)


class Editor:
    """How one pipeline is handed what it is to edit.

    name, taken: of its class, and of its call.
    size: width and height that are asked for, in pixels; None leaves a side to the pipeline, and
        most of them then draw in the shape of the source.
    """

    def __init__(self, name: str, taken: Takes, size: Size) -> None:
        self._name = name
        self._taken = taken
        self._size = size
        self._told = False

    def arguments(self, source: Image | None, count: int) -> dict[str, object]:
        """What the pipeline is given beside its other arguments to edit by `count` prompts."""
        if source is None:
            return {}
        asked = any(self._size)
        if asked and "height" not in self._taken:
            # InstructPix2Pix draws in the size of what it edits.
            source = source.resize(self._whole(source))
        image = [source] * count if self._name in ONE_EACH else source
        if not asked and "max_area" in self._taken:
            # Kontext scales this to its area. Without it, it would draw a square.
            return {"image": image, "width": source.width, "height": source.height}
        return {"image": image}

    def most(self, source: Image | None, batch: int) -> int:
        """How many images are drawn in one call, where `batch` is the most."""
        return batch if source is None or self._name in ONE_EACH else 1

    def check_shape(self, source: Image | None, drawn: Image) -> None:
        """Warn, once, when a pipeline does not draw in the shape of the source, or as asked."""
        if source is None or self._told:
            return
        width, height = self._whole(source)
        stretched = (drawn.width / drawn.height) / (width / height)
        if not 1 / MOST_STRETCHED <= stretched <= MOST_STRETCHED:
            self._told = True
            logger.warning(
                "%s drew %d×%d pixels, another shape than %d×%d; give both width and height",
                *(self._name, drawn.width, drawn.height, width, height),
            )

    def _whole(self, source: Image) -> tuple[int, int]:
        """The size that is asked for; a side that is left open follows the shape of the source."""
        width, height = self._size
        if width and height:
            return width, height
        if width:
            return width, max(1, round(width * source.height / source.width))
        if height:
            return max(1, round(height * source.width / source.height)), height
        return source.size
