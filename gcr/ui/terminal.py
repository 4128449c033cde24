"""What a person sees on stderr while a run goes on.

Words of users and models never reach the terminal as they came: they lose their control
characters and are printed as plain text, so that neither markup nor an escape sequence in a
prompt can do anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gcr.core.events import (
    Event,
    Loading,
    Notice,
    Progress,
    RoundFinished,
    RunFinished,
    RunStarted,
    WorkFinished,
)
from gcr.core.phrases import (
    COMPARED,
    STOPPED,
    closeness,
    count,
    described,
    distrust,
    origin,
    settlement,
)
from gcr.core.plaintext import plain
from gcr.core.requirements import failed, never_met
from gcr.core.worddiff import changed
from gcr.ui.livelines import LiveLines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gcr.core.records import AspectScore, Attempt, Rejected, Round, Run

BAR_LENGTH = 12
PHASES = {"draw": "drawing", "judge": "judging", "evaluate": "evaluating"}


class Terminal:
    """Shows a run on stderr: rounds as they finish, and a live line while a model works."""

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.verbose = verbose
        self._lines = LiveLines(self.console, timed=True)

    def __call__(self, event: Event) -> None:
        match event:
            case Notice(message, hint):
                self.warn(message, hint)
            case Loading(what):
                self.loading(what)
            case Progress(phase, done, total):
                self.progress(phase, done, total)
            case RunStarted(run):
                self.begin(run)
            case RoundFinished(run, best):
                self.round(run, best)
            case RunFinished(run, best, folder):
                self.end(run, best, folder)
            case WorkFinished():
                self.close()

    def warn(self, message: str, hint: str) -> None:
        self._print(Text.assemble(("warning: ", "bold yellow"), plain(message)))
        if hint:
            self._print(Text(f"         {plain(hint)}", "dim"))

    def loading(self, what: str) -> None:
        self._lines.clear()
        if what and self.console.is_terminal:
            self._lines.show("loading", f"loading {plain(what)}", 0, None)
        elif what:
            self.say(f"loading {what}")

    def begin(self, run: Run) -> None:
        self.close()
        self._print(Text())
        self._print(Text(plain(run.request.prompt), "bold"))
        if run.request.negative:
            self._print(Text(f"without: {plain(run.request.negative)}"))
        self._print(Text(plain(described(run.settings)), "dim"))

    def progress(self, phase: str, done: int, total: int) -> None:
        self._lines.hide("loading")
        self._lines.sweep()
        self._lines.show(phase, PHASES.get(phase, phase), done, total)

    def round(self, run: Run, best: Attempt | None) -> None:
        """Show the run's last round."""
        self.close()
        finished = run.rounds[-1]
        self._print(Text())
        self._print(_heading(finished).append(_left(run), "dim"))
        shown = ""
        for attempt in finished.attempts:
            if attempt.candidate.prompt != shown:
                shown = attempt.candidate.prompt
                self._indented(_prompt(run.request.prompt, shown), 2)
                if attempt.candidate.negative != run.request.negative:
                    self._indented(Text(f"without: {plain(attempt.candidate.negative)}", "dim"), 2)
            self._attempt(attempt, is_best=best is not None and attempt.image == best.image)
        if finished.wording:
            self._rejected(finished.wording.rejected, 2)
            self._raw(finished.wording.raw, 2)

    def end(self, run: Run, best: Attempt | None, folder: Path) -> None:
        self.close()
        self._print(Text())
        why = STOPPED[run.stop] if run.stop else "not finished"
        images = len(run.attempts)
        self._print(
            Text.assemble(
                ("stopped: ", "bold"), f"{why} · {count(len(run.rounds), 'round')}, "
            ).append(count(images, "image"))
        )
        if best is not None:
            self._print(_result(run, best))
            for words in filter(None, (settlement(run), closeness(run, best))):
                self._indented(Text(words, "yellow"), 6)
        if run.untrusted:
            distrusted = plain(distrust(run.untrusted))
            self._print(Text.assemble(("untrusted: ", "bold yellow"), distrusted))
        if run.comparison is not None:
            self._print(Text.assemble(("side by side: ", "bold"), COMPARED[run.comparison]))
        for requirement in never_met(run):
            self._print(
                Text.assemble(
                    ("never met: ", "bold red"),
                    plain(requirement.question),
                    (f"  (yes: {requirement.chance or 0:.0%} at most)", "dim"),
                )
            )
        if run.rounds:
            saved = Text.assemble(("saved in ", "dim"), plain(str(folder)))
            shown = (folder / "index.html").exists()
            self._print(saved.append(", where index.html shows it" if shown else "", "dim"))

    def next(self, request: str, prompts: Sequence[str]) -> None:
        """Show what would be drawn next."""
        self._print(Text())
        for prompt in prompts:
            self._indented(Text("next: ", "bold").append_text(_prompt(request, prompt)), 2)

    def say(self, words: str) -> None:
        self._print(Text(plain(words), "dim"))

    def close(self) -> None:
        """Take the live lines away."""
        self._lines.clear()

    def _attempt(self, attempt: Attempt, *, is_best: bool) -> None:
        critique = attempt.critique
        line = Text(f"{origin(attempt.candidate):<10} ", "dim").append_text(_score(attempt))
        line.append_text(_mark(attempt))
        if is_best:
            line.append("  ◂ best so far", "green")
        self._indented(line, 4)
        if critique.overall is not None:
            self._indented(_aspects(critique.aspects), 15)
            for words, style in ((critique.summary, ""), (critique.advice, "italic")):
                if words:
                    self._indented(Text(plain(words), style), 15)
        for requirement in failed(critique):
            words = f"not met: {plain(requirement.question)} (yes: {requirement.chance or 0:.0%})"
            self._indented(Text(words, "red"), 15)
        self._rejected(critique.rejected, 15)
        self._raw(critique.raw, 15)

    def _raw(self, reply: str, left: int) -> None:
        if self.verbose and reply:
            self._indented(Text(plain(reply, keep_lines=True), "dim"), left)

    def _rejected(self, turned_down: Sequence[Rejected], left: int) -> None:
        for one in turned_down:
            words = f"not drawn: {plain(one.prompt)} ({plain(one.complaint)})"
            self._indented(Text(words, "yellow"), left)

    def _print(self, text: Text) -> None:
        # A pipe or a file gets whole lines: what reads them can wrap them as it likes.
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def _indented(self, text: Text, columns: int) -> None:
        if self.console.is_terminal:
            self.console.print(Padding(text, (0, 0, 0, columns)))
        else:
            for line in text.split():
                self._print(Text(" " * columns).append_text(line))


def failure(message: str, hint: str) -> None:
    """Say on stderr what went wrong, and what to do."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), plain(message)), soft_wrap=True)
    if hint:
        console.print(Text(f"hint:  {plain(hint)}", "dim"), soft_wrap=True)


def _prompt(request: str, prompt: str) -> Text:
    if prompt == request:
        return Text("the request as it is", "dim")
    text = Text("")
    for word, is_new in changed(plain(request), plain(prompt)):
        text.append(" " if text else "").append(word, "cyan" if is_new else "")
    return text


def _heading(finished: Round) -> Text:
    drawn, judged = finished.draw_seconds, finished.judge_seconds
    seconds = f"  drawn in {drawn:.1f} s, judged in {judged:.1f} s"
    return Text.assemble((f"round {finished.index}", "bold"), (seconds, "dim"))


def _left(run: Run) -> str:
    """What is left of a run's budgets."""
    seconds, images = run.settings.get("max_seconds"), run.settings.get("max_images")
    left = []
    if isinstance(seconds, int | float):
        spent = sum(round_.seconds for round_ in run.rounds)
        left.append(f"{max(0.0, seconds - spent):.0f} s left")
    if isinstance(images, int):
        left.append(f"{count(max(0, images - len(run.attempts)), 'image')} left")
    return "".join(f" · {words}" for words in left)


def _score(attempt: Attempt) -> Text:
    """The overall score as a bar and a number, or why there is none."""
    if attempt.score is None:
        return Text(f"unscored: {plain(attempt.critique.problem) or 'no score'}", "yellow")
    style = _colour(attempt.score)
    filled = round(attempt.score * BAR_LENGTH)
    bar = Text("━" * filled, style).append("─" * (BAR_LENGTH - filled), "dim")
    return bar.append(" ").append_text(_number(attempt.score))


def _mark(attempt: Attempt) -> Text:
    """What is to be known wherever a score is read."""
    return Text(" untrusted" if attempt.critique.untrusted else "", "yellow")


def _number(score: float | None) -> Text:
    """An overall score, 0-1."""
    return Text("–") if score is None else Text(f"{score:.2f}", f"bold {_colour(score)}")


def _aspects(aspects: Sequence[AspectScore]) -> Text:
    text = Text()
    for aspect in aspects:
        text.append(" · " if text else "", "dim").append(plain(aspect.aspect).lower() + " ", "dim")
        if aspect.score is None:
            text.append("n/a", "dim")
        else:
            text.append(f"{round(aspect.score, 2):g}", _colour((aspect.score - 1) / 3))
    return text


def _result(run: Run, best: Attempt) -> Text:
    index = next(round_.index for round_ in run.rounds if best in round_.attempts)
    text = Text.assemble(("best: ", "bold")).append_text(_number(best.score))
    text.append_text(_mark(best))
    text.append(f" in round {index}, {best.image}")
    raw = run.rounds[0].attempts[0].score
    if index > 0 and raw is not None:
        text.append(f"  (the request as it is: {raw:.2f})", "dim")
    return text


def _colour(score: float) -> str:
    """score: 0-1."""
    return "green" if score >= 0.8 else "yellow" if score >= 0.5 else "red"
