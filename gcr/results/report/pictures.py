"""How pages show image files: by a relative path, or embedded; whole, or as a thumbnail."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gcr.errors import UsageError
from gcr.files import imagefile
from gcr.files.atomic import check_inside, read, replacing, writing
from gcr.files.imagefile import DAMAGE

FOLDER = "thumbnails"
SIDE = 384  # pixels of a thumbnail's longer side: sharp at 190 CSS pixels on a dense screen
TINY = 256  # pixels: up to this, an image is shown larger than it is, with its pixels kept square
THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a page shows it.

    Attributes:
        src: of the img element; empty where there is nothing to show.
        link: to the whole file; empty in a page that stands alone.
        width: of the whole image, in pixels.
        height: of the whole image, in pixels.
        problem: why there is nothing to show; else empty.
    """

    src: str = ""
    link: str = ""
    width: int = 1
    height: int = 1
    problem: str = ""

    @property
    def tiny(self) -> bool:
        """Whether it is shown enlarged, with square pixels."""
        return max(self.width, self.height) <= TINY


class Pictures:
    """The pictures of one page.

    Arguments:
        page: where the page will be.
        embed: whether it has to stand alone.

    Attributes:
        embed: that.
    """

    def __init__(self, page: Path, *, embed: bool) -> None:
        self._folder = page.absolute().parent
        self.embed = embed

    def whole(self, path: Path) -> Picture:
        """The image as it is."""
        try:
            with imagefile.opened(path) as image:
                size = image.size
            src = _embedded(read(path)) if self.embed else self.link(path)
        except (*DAMAGE, OSError) as error:
            return Picture(problem=_problem(path, error))
        return Picture(src, self.link(path), *size)

    def small(self, paths: Iterable[Path]) -> dict[Path, Picture]:
        """The images by their paths, as thumbnails where they are larger.

        Thumbnails are made once, in a folder beside the page, unless the page stands alone.
        """
        distinct = list(dict.fromkeys(paths))
        # Pillow decodes without the interpreter's lock.
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(distinct, pool.map(self._small, distinct), strict=True))

    def link(self, path: Path) -> str:
        """A file as the page links to it; a page that stands alone links to none."""
        if self.embed:
            return ""
        try:
            relative = os.path.relpath(path.absolute(), self._folder)
        except ValueError as error:  # another drive of Windows
            hint = "give --standalone, or write the page where the images are"
            raise UsageError(f"{self._folder} cannot link to {path}", hint) from error
        return quote(Path(relative).as_posix())

    def _small(self, path: Path) -> Picture:
        try:
            with imagefile.opened(path) as image:
                size = image.size
                if max(size) <= SIDE:
                    return self.whole(path)
                if self.embed:
                    return Picture(_embedded(_thumbnail(path)), "", *size)
                thumbnail = self._thumbnail(path)
        except (*DAMAGE, OSError) as error:
            return Picture(problem=_problem(path, error))
        return Picture(self.link(thumbnail), self.link(path), *size)

    def _thumbnail(self, path: Path) -> Path:
        """The thumbnail of an image, made now unless there is a newer one."""
        name = hashlib.sha256(self.link(path).encode()).hexdigest()[:20]
        thumbnail = self._folder / FOLDER / f"{name}.jpg"
        if not thumbnail.exists() or thumbnail.stat().st_mtime < path.stat().st_mtime:
            content = _thumbnail(path)
            check_inside(self._folder, thumbnail)
            with writing(thumbnail):
                thumbnail.parent.mkdir(parents=True, exist_ok=True)
            with replacing(thumbnail, durable=False) as file:
                file.write(content)
        return thumbnail


def _thumbnail(path: Path) -> bytes:
    with imagefile.opened(path) as image:
        small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()


def _embedded(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _problem(path: Path, error: Exception) -> str:
    return f"{path.name} {'is missing' if isinstance(error, FileNotFoundError) else 'is damaged'}"
