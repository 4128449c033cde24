"""Image files, opened so that none of them can do harm: whoever made them may be a stranger.

Only regular files are opened, of formats whose readers run no other program, and the size that
they claim is checked before a pixel is decoded.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gcr.files.atomic import reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image

MOST_PIXELS = 89_478_485
"""Pillow's own limit: 256 MiB in RGB."""

# What Pillow's readers raise about damaged files, beside OSError.
DAMAGE = (EOFError, IndexError, SyntaxError, ValueError, struct.error)

# EPS and WMF, which Pillow hands to other programs, are left out, and so are formats of no picture.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "TGA"),
    *("QOI", "PSD", "ICO", "PCX", "SGI", "HEIF"),
)


class TooLargeError(ValueError):
    """An image with more pixels than are decoded."""


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The image in a file, as Pillow opens it: not decoded yet.

    Raises OSError for what is no image in a regular file, TooLargeError, and what is in DAMAGE,
    here or while it is decoded.
    """
    from PIL import Image

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with reading(path) as file:
        try:
            image = Image.open(file, formats=formats)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooLargeError(f"more than {MOST_PIXELS / 1e6:.0f} megapixels") from error
        with image:
            check_size(image)
            yield image


def check_size(image: Image) -> None:
    """Raise TooLargeError for an image that is not to be decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise TooLargeError(f"more than {MOST_PIXELS / 1e6:.0f} megapixels")
