"""Files that are there whole or not at all, whatever happens while they are written.

A folder may come from elsewhere, with anything in it. So nothing is written through a link,
temporary names cannot be guessed, and only regular files are read: reading a pipe could block.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gcr.errors import GcrError

if TYPE_CHECKING:
    from collections.abc import Iterator

IRREGULAR = "it is not a regular file"
LINKED = "it is a link, and gcr writes through none"
# Windows has only the last of these, and only Windows has it.
SAFELY = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@contextmanager
def writing(
    path: Path, hint: str = "free space or name another folder with --output"
) -> Iterator[None]:
    """Turn an OSError while writing into a GcrError with a hint."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ELOOP:
            reason, hint = LINKED, "remove the link, unless you made it yourself"
        raise GcrError(f"cannot write {path}: {reason}", hint) from error


def read(path: Path) -> bytes:
    """All of a regular file. Raises OSError for any other kind."""
    with reading(path) as file:
        return file.read()


@contextmanager
def reading(path: Path) -> Iterator[io.BufferedReader]:
    """A regular file, open for reading; links are followed. Raises OSError for any other kind."""
    flags = os.O_RDONLY | SAFELY & ~getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(_regular(path, flags), "rb") as file:
        yield file


def write(path: Path, content: bytes) -> None:
    """All of the file or none of it, also after a crash. Raises GcrError."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, record: object, *, indent: int) -> None:
    """A JSON file of ours, as `write` does it. Raises GcrError, and ValueError for NaN."""
    content = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=indent)
    write(path, content.encode() + b"\n")


@contextmanager
def replacing(path: Path, *, near: Path | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, which takes its place at `path` when all of it is on the disk.

    A file at `path` is replaced; so is a link, and not the file that it names.

    Arguments:
        path: where the file will be.
        near: folder of the temporary file, on the same file system; None: that of `path`.
        durable: whether it must outlive a crash of the machine, which takes longer.

    Raises GcrError.
    """
    temporary = _temporary(path, near or path.parent)
    with writing(path):
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, IRREGULAR)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file, _removed(temporary):
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            file.close()  # Windows renames no open file
            temporary.replace(path)
        if durable:
            sync_folder(path.parent)


def duplicate(source: Path, path: Path, *, near: Path) -> None:
    """Put a copy of a file at `path`, as a hard link where the file system has them.

    near: as in `replacing`. Raises GcrError.
    """
    temporary = _temporary(path, near)
    if not source.is_symlink():  # a hard link to a link would be a link
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            pass
        else:
            with writing(path), _removed(temporary):
                temporary.replace(path)
            return
    with replacing(path, near=near) as file:
        file.write(read(source))


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file; it is on the disk when this returns.

    Raises GcrError, also for a link.
    """
    with writing(path), opened(path, os.O_WRONLY | os.O_APPEND) as file:
        is_new = not os.fstat(file.fileno()).st_size
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if is_new:
            sync_folder(path.parent)


def cut(path: Path, size: int) -> None:
    """Leave only the first `size` bytes of a file. Raises GcrError, also for a link."""
    with writing(path), opened(path, os.O_WRONLY) as file:
        os.ftruncate(file.fileno(), size)
        os.fsync(file.fileno())


def opened(path: Path, flags: int = os.O_WRONLY) -> IO[bytes]:
    """A regular file, made if it is not there, to be written in place. Raises OSError, also for a
    link.
    """
    return os.fdopen(_regular(path, flags | os.O_CREAT | SAFELY), "wb")


def sweep(folder: Path, names: str) -> None:
    """Remove the temporary files of writers that died.

    names: a pattern of the files that they wrote, which no other process may be writing now.
    """
    temporary = re.compile(rf"\.(?:{names})\.(?:[0-9a-f]{{16}}\.)?tmp")
    with writing(folder):
        for path in folder.iterdir():
            if temporary.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def check_inside(folder: Path, path: Path) -> None:
    """Raise GcrError where a link below `folder` would lead a writer of `path` out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise GcrError(
            f"{path} leads out of {folder}",
            "gcr writes nothing there: put a folder in the place of the link",
        )


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk; does nothing on Windows, which cannot.

    Raises GcrError.
    """
    if os.name == "nt":
        return
    with writing(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _temporary(path: Path, folder: Path) -> Path:
    name = path.name.encode()[:200].decode(errors="ignore")  # file systems take 255 bytes
    return folder / f".{name}.{secrets.token_hex(8)}.tmp"


@contextmanager
def _removed(temporary: Path) -> Iterator[None]:
    """Remove a temporary file where an error kept it from its place."""
    try:
        yield
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _regular(path: Path, flags: int) -> int:
    """The handle of a regular file. Raises OSError for any other kind."""
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe without a reader
            raise OSError(errno.EINVAL, IRREGULAR, str(path)) from error
        raise
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, IRREGULAR, str(path))
