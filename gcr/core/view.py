"""What may watch a run while it goes on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from gcr.errors import GcrError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gcr.core.records import Attempt, Run


class Enough(Exception):  # noqa: N818 - not an error
    """Raised by a view after a round that is to be the last. kept: the image to keep; None: the
    best.
    """

    def __init__(self, kept: Attempt | None = None) -> None:
        super().__init__()
        self.kept = kept


@contextmanager
def after_an_error(view: Watcher) -> Iterator[None]:
    """What is left to do once something has failed: where that fails, too, it is a warning, so that
    the first error is the one that is shown.
    """
    try:
        yield
    except GcrError as later:
        view.warn(later.message, later.hint)


class Watcher(Protocol):
    """Told what the models do, whatever they do it for; each call returns at once.

    Where two models work at the same time, `progress` is called from two threads.
    """

    def warn(self, message: str, hint: str) -> None: ...
    def loading(self, what: str) -> None: ...
    def progress(self, phase: str, done: int, total: int) -> None: ...


class View(Watcher, Protocol):
    """Told what happens in a run; each call returns at once, but that after a round may ask."""

    def begin(self, run: Run) -> None: ...
    def round(self, run: Run, best: Attempt | None) -> None: ...
    def end(self, run: Run, best: Attempt | None, folder: Path) -> None: ...


class Silent:
    """A view that shows nothing."""

    def warn(self, message: str, hint: str) -> None: ...
    def loading(self, what: str) -> None: ...
    def begin(self, run: Run) -> None: ...
    def progress(self, phase: str, done: int, total: int) -> None: ...
    def round(self, run: Run, best: Attempt | None) -> None: ...
    def end(self, run: Run, best: Attempt | None, folder: Path) -> None: ...
