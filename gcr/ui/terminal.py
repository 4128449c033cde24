"""What a person sees on stderr while a run goes on.

Words of users and models never reach the terminal as they came: they lose their control
characters and are printed as plain text, so that neither markup nor an escape sequence in a
prompt can do anything.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from gcr.core import stopping
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
from gcr.core.history import failed, never_met
from gcr.core.phrases import (
    COMPARED,
    STOPPED,
    branched,
    chance,
    closeness,
    count,
    described,
    distrust,
    extended,
    fact,
    finding,
    origin,
    settlement,
    since_branch,
)
from gcr.core.plaintext import plain, shortened
from gcr.core.promptdiff import left_out, pieces
from gcr.core.ranking import best_scored, margin
from gcr.files import imagefile
from gcr.results.report.page import NAME, moment
from gcr.storage import ratings, timings
from gcr.ui.livelines import LiveLines, clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.progress import Task

    from gcr.core.ranking import Judged
    from gcr.core.records import AspectScore, Attempt, Critique, Rejected, Request, Round, Run
    from gcr.engine.judging import Ranking
    from gcr.results.listing import Entry
    from gcr.storage.ratings import Rating

BAR_LENGTH = 12
PICTURE = 28  # columns of a picture
LONGEST = 300  # characters of a title, a problem, or what a critic found; --json has all
CHANGES = {"ins": "cyan", "moved": "cyan underline"}
"""How words of a prompt are shown that the request has not, or has elsewhere."""
PHASES = {"draw": "drawing", "judge": "judging", "evaluate": "evaluating"}


class _Work:
    """A round that is drawn and judged, and what is left of its run.

    Attributes:
        pace: seconds for an image in earlier runs; None: there were none like this.
    """

    def __init__(self, run: Run, best: Attempt | None = None, *, pace: float | None) -> None:
        self._run = run
        self._best = best
        self.pace = pace
        self._rule = stopping.rule_of(run)
        self._began: float | None = None  # when a model began with it, which may be long after

    def described(self, words: str, part: float) -> str:
        """What is going on: `round 1 of 3 · drawing 2 of 2 · best 0.83`.

        words: what is done to an image. part: of the round's images that have been through it.
        """
        self._began = self._began or time.monotonic()
        images = min(self._images, self._rule.room(self._run) or self._images)
        shown = [f"round {len(self._run.rounds)}"]
        if self._rule.rounds < stopping.MOST_ROUNDS:  # else a budget is the limit
            shown[0] += f" of {self._rule.rounds - 1}"
        shown.append(f"{words} {min(images, int(part * images) + 1)} of {images}")
        if self._best is not None and self._best.score is not None:
            shown.append(f"best {self._best.score:.2f}")
        return " · ".join(shown)

    def seconds_left(self) -> float | None:
        """Until the run has used up what it may, at the pace so far; None: unknown."""
        run, rule = self._run, self._rule
        pace = run.seconds / len(run.attempts) if run.attempts else self.pace
        if pace is None:
            return None
        images = (rule.rounds - len(run.rounds)) * self._images
        room = rule.room(run)
        seconds = pace * (images if room is None else min(images, room))
        if rule.seconds is not None:
            seconds = min(seconds, rule.seconds - run.seconds)
        return max(0.0, seconds - (time.monotonic() - self._began if self._began else 0.0))

    @property
    def _images(self) -> int:
        """Of each round."""
        images = self._run.settings.get("images")
        return images if isinstance(images, int) else 1


def _pace(output: Path, run: Run) -> float | None:
    """Seconds for an image in earlier runs like this one; None: there were none."""
    past = timings.past_runs(output, run.settings)
    return None if past.draw is None or past.judge is None else past.draw + past.judge


class Terminal:
    """Shows a run on stderr: rounds as they finish, and a live line while a model works."""

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.verbose = verbose
        self._lines = LiveLines(self.console, self._left)
        self._folder: Path | None = None  # of the run that is shown
        self._work: _Work | None = None  # what is going on in it
        self._ratings: Mapping[str, Rating] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Notice(message, hint):
                self.warn(message, hint)
            case Loading(what):
                self.loading(what)
            case Progress(phase, done, total):
                self.progress(phase, done, total)
            case RunStarted(run, folder):
                self.begin(run, folder)
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

    def begin(self, run: Run, folder: Path | None = None) -> None:
        """Show a run that begins. folder: where its page follows along; None: it is over."""
        self._folder = folder or self._folder
        self.close()
        self._work = None
        if folder and self.console.is_terminal:
            pace = None if run.rounds else _pace(folder.parent.parent, run)
            self._work = _Work(run, best_scored(run), pace=pace)
        self._print(Text())
        self._request(run.request)
        self._print(Text(plain(described(run.settings)), "dim"))
        if folder and self.console.is_terminal and (page := folder / NAME).exists():
            shown = Text(plain(str(page)), linked(page))
            line = Text("follow along: ", "dim").append_text(shown)
            self.console.print(line, soft_wrap=True)  # whole, however narrow: it is to be copied

    def progress(self, phase: str, done: int, total: int) -> None:
        self._lines.hide("loading")
        self._lines.sweep()
        words = PHASES.get(phase, phase)
        if self._work is not None and phase in PHASES:
            words = self._work.described(words, done / total if total else 0.0)
        self._lines.show(phase, words, done, total)

    def round(self, run: Run, best: Attempt | None) -> None:
        """Show the run's last round."""
        self.close()
        if self._work is not None:
            self._work = _Work(run, best, pace=self._work.pace)
        finished = run.rounds[-1]
        changes = [(e.after, extended(e)) for e in run.extensions]
        changes += [(branch.after, branched(run, branch)) for branch in run.branches]
        for after, words in changes:
            if after == finished.index:
                self._print(Text())
                self._print(Text(plain(words), "dim"))
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
        self._work = None
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
            for words in filter(None, (settlement(run), closeness(run, best), since_branch(run))):
                self._indented(Text(words, "yellow"), 6)
            for each in best.critique.refuted:
                self._indented(Text(plain(fact(each)), "red"), 6)
        if run.untrusted:
            self._untrusted(run.untrusted)
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
            page = folder / NAME
            saved = Text.assemble(("saved in ", "dim"), (plain(str(folder)), linked(folder)))
            if page.exists():
                saved.append(", where ", "dim").append(NAME, linked(page))
                saved.append(" shows it", "dim")
            self._print(saved)

    def ranking(self, ranking: Ranking) -> None:
        """Show pictures that were judged, best first, and what to change in the prompt."""
        self._request(ranking.request)
        settings = ranking.settings
        how = f"judged by {settings.critic}, rubric {settings.rubric}, score {settings.score}"
        self._print(Text(plain(how), "dim"))
        for place, judged in enumerate(ranking.judgements, 1):
            self._print(Text())
            number = f"{place}. " if len(ranking.judgements) > 1 else ""
            self._print(Text.assemble((number, "dim"), (plain(judged.image), "bold")))
            self._indented(_score(judged).append_text(_mark(judged)), 3)
            self._critique(judged.critique, 3, at_length=True)
            if refined := judged.critique.refined:
                prompt = _prompt(ranking.request.prompt, refined)
                self._indented(Text("try: ", "bold").append_text(prompt), 3)
        if near := ranking.near:
            self._print(Text())
            words = f"{chance(margin(ranking.judgements))} of the best: "
            listed = ", ".join(plain(judged.image) for judged in near)
            self._print(Text(words + listed, "yellow"))
        if untrusted := ranking.judgements[0].critique.untrusted:
            self._print(Text())
            self._untrusted(untrusted)

    def again(self, run: Run, folder: Path) -> None:
        """Show a run that was shown before, as far as it is, with the user's ratings."""
        self._folder, self._ratings = folder, ratings.read(folder)
        self.begin(run)
        for end in range(1, len(run.rounds) + 1):
            so_far = run.after(run.rounds[:end])
            self.round(so_far, best_scored(so_far))
        self.end(run, best_scored(run), folder)

    def pictures(self, names: Sequence[str]) -> None:
        """Show images of the run where the terminal can: those of textual-image, if it is here."""
        if self._folder is None or not (self.console.is_terminal and _draws_pictures()):
            return
        from rich.columns import Columns
        from rich.console import Group
        from textual_image import renderable

        shown = []
        for number, name in enumerate(names, 1):
            with imagefile.opened(self._folder / name) as image:
                picture = renderable.Image(image.convert("RGB"), width=PICTURE, height="auto")
            shown.append(Group(picture, Text(f"{number}: {name}", "dim")))
        self._print(Text())
        if renderable.Image is renderable.SixelImage:  # which stands beside nothing
            for each in shown:
                self.console.print(Padding(each, (0, 0, 0, 4)))
        else:
            self.console.print(Padding(Columns(shown, padding=(0, 2)), (0, 0, 0, 4)))

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

    def _left(self, task: Task) -> str:
        """How much time is left: of the run that goes on, or else of what one line is about."""
        run = self._work.seconds_left() if self._work else None
        if run is not None:
            return f"at most {clock(run)} left"
        own = None if self._work or task.finished else task.time_remaining
        return "" if own is None else f"{clock(own)} left"

    def _untrusted(self, phrases: Sequence[str]) -> None:
        words = plain(distrust(phrases))
        self._print(Text.assemble(("untrusted: ", "bold yellow"), words))

    def _request(self, request: Request) -> None:
        self._print(Text(plain(request.prompt), "bold"))
        if request.negative:
            self._print(Text(f"without: {plain(request.negative)}"))

    def _attempt(self, attempt: Attempt, *, is_best: bool) -> None:
        link = linked(self._folder / attempt.image) if self._folder else Style()
        line = Text.assemble((origin(attempt.candidate), Style(dim=True) + link))
        line.append(" " * max(1, 11 - len(line))).append_text(_score(attempt))
        line.append_text(_mark(attempt))
        if is_best:
            line.append("  ◂ best so far", "green")
        if rating := self._ratings.get(attempt.image):
            line.append(f"  you: {rating}", "cyan")
        self._indented(line, 4)
        self._critique(attempt.critique, 15)

    def _critique(self, critique: Critique, left: int, *, at_length: bool = False) -> None:
        """What was said of an image, beside its score: in one line, what each aspect came to and
        what was found.

        left: columns before it. at_length: the reason for the score of each aspect, and advice.
        """
        checked = "; ".join(map(fact, critique.facts))  # which has a line of its own below
        if critique.is_score_alone:
            self._indented(Text("scored, no critique written", "dim"), left)
        elif critique.overall is not None:
            lines = [(_aspects(critique.aspects), finding(critique, LONGEST))]
            if at_length:
                lines = [(_aspects([one]), one.justification) for one in critique.aspects]
                lines += [(Text(), words) for words in (critique.summary, critique.advice)]
            for line, words in lines:
                if words and words != checked:
                    line.append("  " if line else "").append(plain(words))
                if line:
                    self._indented(line, left)
        for requirement in failed(critique):
            words = f"not met: {plain(requirement.question)} (yes: {requirement.chance or 0:.0%})"
            self._indented(Text(words, "red"), left)
        for each in critique.facts:
            words = f"checked by {plain(each.by)}: {plain(fact(each))}"
            self._indented(Text(words, "green" if each.met else "red"), left)
        self._rejected(critique.rejected, left)
        self._raw(critique.raw, left)

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


def _draws_pictures() -> bool:
    """Whether there is something to draw pictures with, and stdout is the terminal, which that asks
    what it can do.
    """
    is_there = importlib.util.find_spec("textual_image") is not None
    return is_there and sys.__stdout__ is not None and sys.__stdout__.isatty()


def entries(listed: Sequence[Entry], console: Console | None = None) -> None:
    """Print what there is below the output folder, in its order, on stdout: blocks on a terminal,
    whose folders are links to their pages, and elsewhere lines with tabs.
    """
    console = console or Console(highlight=False)
    for entry in listed:
        if console.is_terminal:
            _entry_block(entry, console)
        else:
            console.file.write(f"{_entry_line(entry)}\n")  # Rich would make spaces of tabs


def _entry_line(entry: Entry) -> str:
    score = "" if entry.score is None else f"{entry.score:.2f}"
    cells = (entry.began, entry.kind, score, str(entry.images))
    words = (_short(entry.problem or entry.end), plain(str(entry.folder)), _short(entry.title))
    return "\t".join((*map(plain, cells), *words))


def _short(text: str) -> str:
    return shortened(plain(text), LONGEST)


def _entry_block(entry: Entry, console: Console) -> None:
    score = Text("   –")
    if entry.score is not None:
        score = Text(f"{entry.score:.2f}", f"bold {colour(entry.score)}")
    head = Text(f"{plain(moment(entry.began)):<16}  ", "dim").append_text(score)
    if entry.untrusted:
        head.append(" untrusted", "yellow")
    if entry.stars:
        head.append(f" {'★' * entry.stars}", "cyan")
    kind = "" if entry.kind == "run" else f"{entry.kind}, "
    head.append(f"  {kind}{count(entry.images, 'image')}, {entry.end}", "dim")
    console.print(head)
    console.print(Padding(Text(_short(entry.title)), (0, 0, 0, 2)))
    if entry.problem:
        console.print(Padding(Text(_short(entry.problem), "red"), (0, 0, 0, 2)))
    # Whole, however narrow the terminal: it is to be copied.
    page = entry.folder / NAME
    link = Style(dim=True) + linked(page if page.exists() else entry.folder)
    folder = Text("  ").append(plain(str(entry.folder)), link)
    console.print(folder, soft_wrap=True)


def failure(message: str, hint: str) -> None:
    """Say on stderr what went wrong, and what to do."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), plain(message)), soft_wrap=True)
    if hint:
        console.print(Text(f"hint:  {plain(hint)}", "dim"), soft_wrap=True)


def _prompt(request: str, prompt: str) -> Text:
    """A prompt with what is not as in the request marked; below it, what it leaves out."""
    if prompt == request:
        return Text("the request as it is", "dim")
    shown = pieces(plain(request), plain(prompt))
    text = Text()
    for piece in shown:
        if piece.kind != "del":
            text.append(piece.words, CHANGES.get(piece.kind, "")).append(piece.space)
    if gone := left_out(shown):
        text.append(f"\nleft out: {' · '.join(gone)}", "dim")
    return text


def _heading(finished: Round) -> Text:
    drawn, judged = finished.draw_seconds, finished.judge_seconds
    seconds = f"  drawn in {drawn:.1f} s, judged in {judged:.1f} s"
    return Text.assemble((f"round {finished.index}", "bold"), (seconds, "dim"))


def _left(run: Run) -> str:
    """What is left of a run's budgets."""
    rule = stopping.rule_of(run)
    seconds, images = rule.seconds, rule.images
    left = []
    if seconds is not None:
        left.append(f"{max(0.0, seconds - run.seconds):.0f} s left")
    if images is not None:
        left.append(f"{count(max(0, images - len(run.attempts)), 'image')} left")
    return "".join(f" · {words}" for words in left)


def _score(attempt: Judged) -> Text:
    """The overall score as a bar and a number, or why there is none."""
    if attempt.score is None:
        return Text(f"unscored: {plain(attempt.critique.problem) or 'no score'}", "yellow")
    style = colour(attempt.score)
    filled = round(attempt.score * BAR_LENGTH)
    bar = Text("━" * filled, style).append("─" * (BAR_LENGTH - filled), "dim")
    return bar.append(" ").append_text(_number(attempt.score))


def _mark(attempt: Judged) -> Text:
    """What is to be known wherever a score is read."""
    return Text(" untrusted" if attempt.critique.untrusted else "", "yellow")


def _number(score: float | None) -> Text:
    """An overall score, 0-1."""
    return Text("–") if score is None else Text(f"{score:.2f}", f"bold {colour(score)}")


def _aspects(aspects: Sequence[AspectScore]) -> Text:
    """Aspects and their scores, without those that do not apply, unless there is no other."""
    text = Text()
    for aspect in [a for a in aspects if a.score is not None] or aspects:
        text.append(" · " if text else "", "dim").append(plain(aspect.aspect).lower() + " ", "dim")
        if aspect.score is None:
            text.append("n/a", "dim")
        else:
            text.append(f"{round(aspect.score, 2):g}", colour((aspect.score - 1) / 3))
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


def colour(score: float) -> str:
    """score: 0-1."""
    return "green" if score >= 0.8 else "yellow" if score >= 0.5 else "red"


def linked(path: Path) -> Style:
    """How a path is shown: as a link, where the terminal knows links."""
    return Style(link=path.absolute().as_uri())
