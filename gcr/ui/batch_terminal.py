"""What a person sees on stderr while a batch goes on: a line for each prompt that is done.

On a terminal live lines stand below: how far the batch is, and what each model is doing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from gcr.core.events import (
    Event,
    Loading,
    Notice,
    Progress,
    PromptFinished,
    WorkFinished,
    WorkStarted,
)
from gcr.core.phrases import chance, count, duration
from gcr.core.plaintext import plain, shortened
from gcr.ui.livelines import LiveLines
from gcr.ui.terminal import PHASES, Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.records import Result

LONGEST = 60  # characters of a prompt that are shown


class BatchTerminal:
    """Shows a batch on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._terminal = Terminal(console=self.console)  # for what is not of the batch alone
        self._lines = LiveLines(self.console)
        self._total = self._done = self._failed = self._new = 0
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case Notice(message, hint):
                self.warn(message, hint)
            case Loading(what):
                self.loading(what)
            case Progress(phase, done, total):
                self.progress(phase, done, total)
            case WorkStarted(total, done):
                self.begin(total, done)
            case PromptFinished(result):
                self.result(result)
            case WorkFinished():
                self.end()

    def warn(self, message: str, hint: str) -> None:
        self._terminal.warn(message, hint)

    def say(self, words: str) -> None:
        self._terminal.say(words)

    def loading(self, what: str) -> None:
        self._lines.open()
        if not what:
            self._lines.hide("loading")
        elif self.console.is_terminal:
            self._lines.show("loading", f"loading {plain(what)}", 0, None)
        else:
            self.say(f"loading {what}")

    def begin(self, total: int, done: int) -> None:
        self._lines.open()
        self._total, self._done, self._began = total, done, time.monotonic()
        before = f", {done} of them done before" if done else ""
        self.say(f"{count(total, 'prompt')}{before}")
        self._lines.hide("loading")

    def progress(self, phase: str, done: int, total: int) -> None:
        known = phase in PHASES
        self._lines.show(phase if known else "other", PHASES.get(phase, phase), done, total)
        if known and done == total:
            self._lines.hide(phase)
        self._update()

    def result(self, result: Result) -> None:
        self._done += 1
        self._new += 1
        self._failed += bool(result.failure)
        counted = f"{self._done:>{len(str(self._total))}}/{self._total} "
        line = Text(counted, "dim").append(f"{plain(result.id)}: ").append_text(_came_of(result))
        line.append(f"  {shortened(plain(result.prompt), LONGEST)}", "dim")
        self.console.print(line, soft_wrap=not self.console.is_terminal)
        self._update()

    def again(self, results: Sequence[Result], total: int) -> None:
        """Show what came of a batch of so many prompts, as far as it is done."""
        self.end()  # no live lines: nothing is at work
        self._total = total
        for result in results:
            self.result(result)
        self.say(f"{len(results)} of {count(total, 'prompt')} done")

    def end(self) -> None:
        """Take the live lines away, for good: a model may be at work yet, though nobody waits."""
        self._lines.shut()

    def _update(self) -> None:
        """Show how far the batch is."""
        failed = f" · {self._failed} failed" if self._failed else ""
        words = f"{self._done} of {count(self._total, 'prompt')}{failed}{self._remaining()}"
        if self._total:
            self._lines.show("batch", words, self._done, self._total)

    def _remaining(self) -> str:
        """At the pace of the prompts so far."""
        left = self._total - self._done
        if not (self._new and left):
            return ""
        return f" · {duration((time.monotonic() - self._began) / self._new * left)} left"


def _came_of(result: Result) -> Text:
    if result.failure:
        return Text(f"failed: {plain(result.failure)}", "red")
    raw = "–" if result.raw is None else f"{result.raw:.2f}"
    best = "–" if result.best is None else f"{result.best:.2f}"
    marks = " untrusted" if result.untrusted else ""
    if result.raw is not None and result.best is not None:
        gain = result.best - result.raw
        marks += f" {chance(result.noise)}" if 0 < gain <= result.noise else ""
    details = (
        f" · {count(result.images, 'image')}, {plain(result.stop)}, {duration(result.seconds)}"
    )
    gained = "" if raw == best else f"{raw} → "
    return Text.assemble(gained, (best, "bold"), (marks, "yellow"), (details, "dim"))
