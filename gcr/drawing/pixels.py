"""Images for a critic, made of the pixels that pipelines and trainers have.

Tensors of torch are (channels, height, width), arrays of NumPy (height, width, channels), where
their shape allows both; floating point numbers are 0-1, bytes 0-255.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gcr.core.records import Drawing
from gcr.errors import UsageError
from gcr.inputs import source

if TYPE_CHECKING:
    import numpy as np

BLANK_RANGE = 2 / 255
"""An image in which no channel varies by more than this shows nothing."""

ROUNDING = 1e-3
"""By how much a value may be outside 0-1."""

CHANNELS = (1, 3)  # of an image; four would be latents or transparency


def drawing(pixels: np.ndarray, batch: int = 1) -> Drawing:
    """A drawing, marked where it is blank or not finite. What is transparent is shown on white.

    Arguments:
        pixels: (height, width, 3), or 4 with transparency (Qwen-Image-2.1), float, 0-1; NaN where
            the pipeline computed nonsense.
        batch: images drawn in the same call.
    """
    import numpy as np
    from PIL import Image

    fault = ""
    if not np.isfinite(pixels).all():
        fault, pixels = "non-finite", np.nan_to_num(pixels)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:]
        pixels = pixels[..., :3] * alpha + (1 - alpha)
    scaled = pixels * 255
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    image = Image.fromarray(scaled.astype("uint8"))
    # Channel by channel: NumPy takes fifty times as long over both axes at once.
    ranges = [pixels[..., channel].max() - pixels[..., channel].min() for channel in range(3)]
    if not fault and max(ranges) <= BLANK_RANGE:
        fault = "blank"
    return Drawing(image, fault=fault, batch=batch)


def drawings(images: Any) -> list[Drawing]:
    """The images of a batch.

    images: a tensor or an array of four dimensions, or a list of single images, each of Pillow, a
        path, or a tensor or an array of three dimensions.

    Raises UsageError for anything else, for values out of range, and for a tensor that requires a
    gradient, which a critic's score does not have.
    """
    import numpy as np
    import torch
    from PIL import Image

    if isinstance(images, torch.Tensor | np.ndarray):
        if images.ndim != 4:
            raise UsageError(f"images of shape {tuple(images.shape)}", "give a batch of them")
    elif isinstance(images, str | Image.Image) or not hasattr(images, "__iter__"):
        raise UsageError(f"images cannot be one {type(images).__name__}", "give a list of images")
    return [drawing(_pixels(image, number)) for number, image in enumerate(images)]


def _pixels(image: Any, number: int) -> np.ndarray:
    """(height, width, 3), float, 0-1. number: of the image, for messages."""
    import numpy as np
    import torch

    name = f"image {number}"
    if isinstance(image, torch.Tensor):
        if image.requires_grad:
            raise UsageError(
                f"{name} expects a gradient, and a critic's reward has none",
                "train with policy gradients (DDPO, GRPO), or detach the images",
            )
        tensor = image.float() if image.is_floating_point() else image
        return _scaled(_channels_last(tensor.cpu().numpy(), name, first=True), name)
    if isinstance(image, np.ndarray):
        return _scaled(_channels_last(image, name, first=False), name)
    return np.asarray(source.read(image)) / np.float32(255)


def _channels_last(pixels: np.ndarray, name: str, *, first: bool) -> np.ndarray:
    """(height, width, 3). first: whether channels come first where the shape allows both."""
    import numpy as np

    places = (0, 2) if first else (2, 0)
    fitting = [p for p in places if pixels.ndim == 3 and pixels.shape[p] in CHANNELS]
    if not fitting:
        raise UsageError(
            f"{name} has the shape {pixels.shape}, which is no picture",
            "give images in RGB, decoded and not as latents",
        )
    last = np.moveaxis(pixels, fitting[0], 2)
    return last if last.shape[2] == 3 else last.repeat(3, axis=2)


def _scaled(pixels: np.ndarray, name: str) -> np.ndarray:
    import numpy as np

    if pixels.dtype == np.uint8:
        return pixels / np.float32(255)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UsageError(f"{name} is of {pixels.dtype}", "give bytes 0-255, or floats 0-1")
    finite = pixels[np.isfinite(pixels)]
    if finite.size and (finite.min() < -ROUNDING or finite.max() > 1 + ROUNDING):
        raise UsageError(
            f"{name} has values from {finite.min():g} to {finite.max():g}",
            "give floats 0-1: (images / 2 + 0.5).clamp(0, 1), if they are -1 to 1",
        )
    return pixels.astype(np.float32, copy=False)
