"""Pixels as pipelines and trainers hold them, as images that a critic can be shown.

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

COLOURS = (1, 3)  # channels of an image; four are those of latents, or hide transparency


def drawing(pixels: np.ndarray, batch: int = 1) -> Drawing:
    """pixels: (height, width, 3), float, 0-1; NaN where the pipeline computed nonsense.

    batch: images drawn in the same call.
    """
    import numpy as np
    from PIL import Image

    finite = bool(np.isfinite(pixels).all())
    image = Image.fromarray((np.nan_to_num(pixels) * 255).round().clip(0, 255).astype("uint8"))
    if not finite:
        return Drawing(image, fault="non-finite", batch=batch)
    ranges = pixels.max(axis=(0, 1)) - pixels.min(axis=(0, 1))  # (3,)
    return Drawing(image, fault="blank" if bool((ranges <= BLANK_RANGE).all()) else "", batch=batch)


def drawings(given: Any) -> list[Drawing]:
    """The images of a batch: a tensor or an array of four dimensions, or a list of single images.

    A single image is one of Pillow, a path, or a tensor or an array of three dimensions.
    Raises UsageError for what is no such thing, for values out of range, and for a tensor that
    expects a gradient: nothing that a critic says has one.
    """
    import numpy as np
    import torch
    from PIL import Image

    if isinstance(given, torch.Tensor | np.ndarray):
        if given.ndim != 4:
            raise UsageError(f"images of shape {tuple(given.shape)}", "give a batch of them")
    elif isinstance(given, str | Image.Image) or not hasattr(given, "__iter__"):
        raise UsageError(f"images cannot be one {type(given).__name__}", "give a list of images")
    return [drawing(_pixels(one, number)) for number, one in enumerate(given)]


def _pixels(given: Any, number: int) -> np.ndarray:
    """(height, width, 3), float, 0-1. number: of the image, for messages."""
    import numpy as np
    import torch

    name = f"image {number}"
    if isinstance(given, torch.Tensor):
        if given.requires_grad:
            raise UsageError(
                f"{name} expects a gradient, and a critic's reward has none",
                "train with policy gradients (DDPO, GRPO), or detach the images",
            )
        plain = given.float() if given.is_floating_point() else given
        return _scaled(_channels_last(plain.cpu().numpy(), name, first=True), name)
    if isinstance(given, np.ndarray):
        return _scaled(_channels_last(given, name, first=False), name)
    return np.asarray(source.read(given)) / np.float32(255)


def _channels_last(pixels: np.ndarray, name: str, *, first: bool) -> np.ndarray:
    """(height, width, 3). first: whether channels come first where the shape allows both."""
    import numpy as np

    places = (0, 2) if first else (2, 0)
    fitting = [p for p in places if pixels.ndim == 3 and pixels.shape[p] in COLOURS]
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
