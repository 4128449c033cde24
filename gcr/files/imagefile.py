"""Image files, opened so that none of them can do harm: they may come from anywhere.

Only regular files are opened, in formats whose readers run no other program, and the size in the
header is checked before a pixel is decoded.
"""

from __future__ import annotations

import io
import os
import struct
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from gcr.files.atomic import reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image

MOST_PIXELS = 89_478_485
"""Pillow's own limit: 256 MiB in RGB."""

# What Pillow's readers raise about damaged files, besides OSError; that of AVIF, RuntimeError.
DAMAGE = (EOFError, IndexError, RuntimeError, SyntaxError, ValueError, struct.error)

# Without EPS and WMF, for which Pillow runs other programs, and formats that are not pictures.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM", "TGA"),
    *("QOI", "PSD", "ICO", "PCX", "SGI", "HEIF"),
)


class TooLargeError(ValueError):
    """An image with more pixels than are decoded."""


class _Bounded(io.BufferedReader):
    """A file that makes no room for more than it holds: Pillow reads as many bytes as a file says
    that a part of it has, and Python would first take the memory for them, up to 16 EiB.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """The image in a file, as Pillow opens it: not decoded yet.

    Raises OSError for anything but an image in a regular file, TooLargeError, and the errors in
    DAMAGE, here or while the image is decoded.
    """
    with reading(path) as file, _Bounded(file.raw) as bounded, decoded(bounded) as image:
        yield image


@contextmanager
def decoded(file: IO[bytes]) -> Iterator[Image]:
    """The image in a file that is open, or in memory, as `opened` has it."""
    from PIL import Image

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError(f"more than {MOST_PIXELS / 1e6:.0f} megapixels") from error
    with image:
        check_size(image)
        yield image


def check_size(image: Image) -> None:
    """Raise TooLargeError for an image with more than MOST_PIXELS."""
    if image.width * image.height > MOST_PIXELS:
        raise TooLargeError(f"more than {MOST_PIXELS / 1e6:.0f} megapixels")
