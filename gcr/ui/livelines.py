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
    TimeElapsedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console


class LiveLines:
    """A line for each kind of work; nothing where the console is no terminal.

    timed: whether lines tell seconds and how many are left. May be called from several threads at
    once: two models may be at work.
    """

    def __init__(self, console: Console, *, timed: bool) -> None:
        self._console = console
        self._timed = timed
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
                self._progress = _progress(self._console, timed=self._timed)
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
    """The time that is left, where it can be told yet."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = None if task.finished else task.time_remaining
        if seconds is None:
            return Text()
        minutes, seconds = divmod(int(seconds), 60)
        return Text(f"{minutes}:{seconds:02d} left", "dim")


def _progress(console: Console, *, timed: bool) -> Progress:
    words = TextColumn("{task.description}", style="dim", markup=False)
    spinner, bar = SpinnerColumn(style="cyan"), BarColumn(bar_width=24)
    columns = (
        (spinner, words, bar, TimeElapsedColumn(), TimeLeft()) if timed else (spinner, bar, words)
    )
    return Progress(*columns, console=console, transient=True)


def _task(progress: Progress, row: TaskID) -> Task:
    return next(task for task in progress.tasks if task.id == row)
