"""The image that a request edits: read from whatever file it is in, and checked again later.

A run keeps its own copy, so that it can go on when the user's file is gone or changed. The copy
is what pipeline and critic see: upright, in RGB of 8 bits, without transparency, and not larger
than what they can make use of.
"""

from __future__ import annotations

import hashlib
import logging
import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.errors import GcrError, UsageError
from gcr.files import imagefile, paths
from gcr.files.imagefile import DAMAGE, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

logger = logging.getLogger(__name__)

NAME = "source.png"
"""Of the copy in a run folder."""

MOST_PIXELS = 2048 * 2048
"""A larger source is scaled down. Editing pipelines draw one megapixel, few of them four, and most
scale the source to that themselves; a critic reads a token for every 28 or 32 pixels squared, so
a photo of twelve megapixels would cost it more than 10,000."""

MOST_RATIO = 64
"""Of the longer side to the shorter: critics' processors fail beyond 200."""

BAND = 512
"""Rows that are laid on white at a time."""

LEAST_SIDE = 16  # pixels: less is not a picture, and some processors fail on it


def read(image_or_path: Path | str | Image, *, option: str = "--image") -> Image:
    """The image to edit, ready for every pipeline.

    Turned upright as its EXIF data say; transparency becomes white; 16 bits become 8; of an
    animation the first picture is taken; colour profiles are not applied. Nothing else changes a
    pixel, unless there are more than MOST_PIXELS, which is a warning.
    Raises UsageError for a file that is missing or not a picture, and for pixels without a known
    range (32 bits, floating point).
    """
    from PIL import Image, ImageOps

    if isinstance(image_or_path, Image.Image):
        name = "the image given"
        with readable(name, option):
            imagefile.check_size(image_or_path)
            _check_shape(image_or_path, name)
            return _ready(ImageOps.exif_transpose(image_or_path), name)
    if isinstance(image_or_path, str) and not image_or_path.strip():  # to Path: the working folder
        raise UsageError("the name of the image is empty", "give a path or an image of Pillow")
    if isinstance(image_or_path, str | Path):
        path = paths.expanded(image_or_path)
        name = str(path)
        with readable(name, option), imagefile.opened(path) as opened:
            _check_shape(opened, name)
            opened.load()
            if opened.mode in ("P", "PA") and opened.palette is None:
                raise ValueError("its colours are numbers, and it has no palette")
            ImageOps.exif_transpose(opened, in_place=True)
            return _ready(opened, name)
    raise UsageError(
        f"an image cannot be a {type(image_or_path).__name__}",
        "give a path or an image of Pillow",
    )


def digest(image: Image) -> str:
    """sha256 of the size in ASCII and the RGB pixels row by row: the same in any format."""
    sha256 = hashlib.sha256(f"{image.width}x{image.height} ".encode())
    sha256.update(image.tobytes())
    return sha256.hexdigest()


def check(path: Path, expected: str) -> None:
    """Raise GcrError unless the file holds the pixels of the digest `expected`."""
    hint = "put the file back, or start a new run"
    try:
        with imagefile.opened(path) as image:
            actual = digest(image.convert("RGB"))
    except (OSError, *DAMAGE) as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise GcrError(f"{path} {problem}", hint) from error
    if actual != expected:
        raise GcrError(f"{path} was changed since it was written", hint)


@contextmanager
def readable(name: str, option: str = "") -> Iterator[None]:
    """Turn what goes wrong while an image file is read into a message with a hint.

    option: of the command line, that names the file; empty for none.
    """
    from PIL import UnidentifiedImageError

    hint = "name a PNG, JPEG or WebP file" + (f" with {option}" if option else "")
    try:
        yield
    except TooLargeError as error:
        raise UsageError(f"{name} has {error}", "scale it down first") from error
    except UnidentifiedImageError as error:
        raise UsageError(f"{name} is not an image", hint) from error
    except MemoryError as error:
        raise UsageError(f"no memory is left to read {name} in", "scale it down first") from error
    except (OSError, *DAMAGE) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UsageError(f"cannot read {name}: {reason}", hint) from error


def _check_shape(image: Image, name: str) -> None:
    """Raise UsageError for what is no picture, before it is decoded."""
    size, least, most = f"{image.width}×{image.height} pixels", min(image.size), max(image.size)
    if least < LEAST_SIDE:
        raise UsageError(
            f"{name} has only {size}", f"give an image of at least {LEAST_SIDE}×{LEAST_SIDE}"
        )
    if most > MOST_RATIO * least:
        raise UsageError(
            f"{name} has {size}: one side is more than {MOST_RATIO} times the other",
            "crop it first",
        )


def _ready(image: Image, name: str) -> Image:
    return _bounded(_opaque(_in_8_bits(image, name)), name)


def _in_8_bits(image: Image, name: str) -> Image:
    """The image with at most 8 bits in each channel. Pillow itself would clip what is above."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype("uint16") >> 8).astype("uint8"))
    if image.mode in ("I", "F"):
        raise UsageError(
            f"{name} has pixels of 32 bits, of which nobody says how bright they are",
            "save it with 8 or 16 bits a channel",
        )
    return image


def _opaque(image: Image) -> Image:
    """The image in RGB, laid on white where it is transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, BAND):  # a large image is not to be there five times over
        band = image.crop((0, top, image.width, min(top + BAND, image.height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        opaque.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return opaque


def _bounded(image: Image, name: str) -> Image:
    from PIL import Image

    pixels = image.width * image.height
    if pixels <= MOST_PIXELS:
        return image.copy()  # of pixels alone: the file is closed
    scale = math.sqrt(MOST_PIXELS / pixels)
    width, height = (max(LEAST_SIDE, int(side * scale)) for side in image.size)
    logger.warning(
        "%s was scaled from %d×%d to %d×%d pixels", name, image.width, image.height, width, height
    )
    return image.resize((width, height), Image.Resampling.LANCZOS)
