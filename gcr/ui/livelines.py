"""Lines at the foot of a terminal that show what is going on, and go away when it is over."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class LiveLines:
    """A line for each kind of work; nothing where the console is no terminal.

    left: says how much time is left of what a line is about, or nothing; without it lines tell no
        time. May be called from several threads at once: two models may be at work.
    """

    def __init__(self, console: Console, left: Callable[[Task], str] | None = None) -> None:
        self._console = console
        self._left = left
        self._lock = RLock()
        self._progress: Progress | None = None
        self._rows: dict[str, TaskID] = {}  # by kind of work
        self._shut = False

    def show(self, kind: str, words: str, done: int, total: int | None) -> None:
        """How far a kind of work is."""
        with self._lock:
            if self._shut or not self._console.is_terminal:
                return
            if self._progress is None:
                self._progress = _progress(self._console, self._left)
                self._progress.start()
            if kind not in self._rows:
                self._rows[kind] = self._progress.add_task(words, total=total)
            row = self._rows[kind]
            if done < _task(self._progress, row).completed:
                self._progress.reset(row)  # begun anew, and so are its seconds
            self._progress.update(row, description=words, completed=done, total=total)

    def hide(self, kind: str) -> None:
        with self._lock:
            row = self._rows.pop(kind, None)
            if row is not None and self._progress is not None:
                self._progress.remove_task(row)

    def sweep(self) -> None:
        """Take the lines of what is complete away."""
        with self._lock:
            progress = self._progress
            complete = [
                k for k, row in self._rows.items() if progress and _task(progress, row).finished
            ]
            for kind in complete:
                self.hide(kind)

    def clear(self) -> None:
        """Take all lines away, until there is something to show again."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
            self._progress = None
            self._rows.clear()

    def shut(self) -> None:
        """Take all lines away, and show none until `open`, though work may still go on."""
        with self._lock:
            self._shut = True
            self.clear()

    def open(self) -> None:
        with self._lock:
            self._shut = False


class TimeLeft(ProgressColumn):
    """The time that is left, or until that can be told, the time that it has taken."""

    max_refresh = 0.5

    def __init__(self, left: Callable[[Task], str]) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:
        return Text(self._left(task) or clock(task.elapsed or 0.0), "dim")


def clock(seconds: float) -> str:
    """Seconds as a clock shows them, such as 3:07."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _progress(console: Console, left: Callable[[Task], str] | None) -> Progress:
    words = TextColumn("{task.description}", style="dim", markup=False)
    spinner = SpinnerColumn(style="cyan")
    columns: tuple[ProgressColumn, ...] = (spinner, BarColumn(bar_width=24), words)
    if left is not None:  # with room for all of it on a terminal of 80 columns
        columns = (spinner, words, BarColumn(bar_width=10), TimeLeft(left))
    return Progress(*columns, console=console, transient=True)


def _task(progress: Progress, row: TaskID) -> Task:
    return next(task for task in progress.tasks if task.id == row)
