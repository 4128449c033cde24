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

    src: of the img element; empty where there is nothing to show, and `problem` says why.
    link: where the whole file is; empty in a page that stands alone.
    width, height: in pixels.
    """

    src: str = ""
    link: str = ""
    width: int = 1
    height: int = 1
    problem: str = ""

    @property
    def tiny(self) -> bool:
        return max(self.width, self.height) <= TINY


class Pictures:
    """The pictures of one page.

    page: where the page will be. embed: whether it has to stand alone.
    """

    def __init__(self, page: Path, *, embed: bool) -> None:
        self._folder = page.absolute().parent
        self._embed = embed

    def whole(self, path: Path) -> Picture:
        """The image as it is."""
        try:
            with imagefile.opened(path) as image:
                size = image.size
            src = _embedded(read(path)) if self._embed else self.link(path)
        except (*DAMAGE, OSError) as error:
            return Picture(problem=_problem(path, error))
        return Picture(src, self.link(path), *size)

    def small(self, paths: Iterable[Path]) -> dict[Path, Picture]:
        """The images, each no larger than a thumbnail has to be.

        Thumbnails are made once, in a folder beside the page, unless the page stands alone. An
        image that is as small already is shown itself.
        """
        wanted = list(dict.fromkeys(paths))
        # Pillow decodes outside of the interpreter's lock.
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(wanted, pool.map(self._small, wanted), strict=True))

    def link(self, path: Path) -> str:
        """A file as the page links to it; a page that stands alone links to none."""
        if self._embed:
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
                if self._embed:
                    return Picture(_embedded(_thumbnail(path)), "", *size)
                made = self._made(path)
        except (*DAMAGE, OSError) as error:
            return Picture(problem=_problem(path, error))
        return Picture(self.link(made), self.link(path), *size)

    def _made(self, path: Path) -> Path:
        """The thumbnail of an image, made now unless there is one that is not older."""
        name = hashlib.sha256(self.link(path).encode()).hexdigest()[:20]
        made = self._folder / FOLDER / f"{name}.jpg"
        if not made.exists() or made.stat().st_mtime < path.stat().st_mtime:
            content = _thumbnail(path)
            check_inside(self._folder, made)
            with writing(made):
                made.parent.mkdir(parents=True, exist_ok=True)
            with replacing(made, durable=False) as file:
                file.write(content)
        return made


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
