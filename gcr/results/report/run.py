"""The page of one run: first against best, then each round with what the critic said."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gcr.core import ranking
from gcr.core.history import MET, never_met
from gcr.core.phrases import (
    COMPARED,
    STOPPED,
    branched,
    chance,
    closeness,
    count,
    dated,
    described,
    distrust,
    extended,
    origin,
    settlement,
    since_branch,
)
from gcr.core.plaintext import UNSEEN
from gcr.core.ranking import best_scored, margin
from gcr.core.records import (
    Attempt,
    Branch,
    EditedPrompt,
    Extension,
    Remark,
    Round,
    Run,
    StopReason,
    Wording,
)
from gcr.engine.machine import ThisMachine
from gcr.results.report import charts
from gcr.results.report.page import number, render
from gcr.results.report.pictures import Picture, Pictures
from gcr.settings.resolving import respelt
from gcr.settings.schema import LOOP, OPTIONS, spelt
from gcr.storage import ratings, runfolder
from gcr.storage.batchfolder import holds
from gcr.storage.ratings import Rating

NOT_OF_LOOP = tuple(name for name, option in OPTIONS.items() if option.panel != LOOP)
"""Settings that decide how one image is drawn and judged."""

_SHOWN_OTHERWISE = re.compile(f"{UNSEEN.pattern}|[\udc80-\udcff]")
"""What pages show as a sign, and bytes of a path that are no UTF-8."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An attempt as the page shows it.

    Attributes:
        attempt: the attempt.
        picture: its image.
        origin: how its image was started.
        won: whether it is the best.
        command: that draws it again; empty where none does.
        rating: the user's; None: there is none.
        name: its caption beside the other images at the top.
    """

    attempt: Attempt
    picture: Picture
    origin: str
    won: bool
    command: str
    rating: Rating | None = None
    name: str = ""

    @property
    def stars(self) -> int:
        """Of the rating; 0 for none."""
        return self.rating.stars if self.rating else 0


@dataclass(frozen=True, slots=True)
class Before:
    """An image that the best one can be compared with."""

    name: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Drawn:
    """A prompt as a round drew it.

    Attributes:
        prompt: the prompt.
        negative: what was to be avoided.
        before: the round that drew it first; None: this one.
        attempts: its images.
    """

    prompt: str
    negative: str
    before: int | None
    attempts: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class ShownRound:
    """A round as the page shows it.

    Attributes:
        index: of the round.
        drawn: its prompts, with their images.
        drawing: seconds.
        judging: seconds.
        wording: how the critic wrote the next prompt with all images in view, if it did.
    """

    index: int
    drawn: Sequence[Drawn]
    drawing: float
    judging: float
    wording: Wording | None


def page(folder: Path, pictures: Pictures, back: str = "", *, live: bool = False) -> bytes:
    """The page of the run in a folder, which may be in progress.

    Arguments:
        folder: of the run.
        pictures: of the page.
        back: link to a gallery; empty for none.
        live: have a browser load it again every few seconds, as somebody is at work in the folder.
    """
    return render("run.html", {**shown(folder, pictures), "back": back, "live": live})


def shown(folder: Path, pictures: Pictures, *, ui: bool = False) -> dict[str, Any]:
    """What templates show of the run in a folder. ui: with buttons, for `gcr ui`."""
    run, story = runfolder.load_with_story(folder)
    best, raw = best_scored(run), ranking.raw(run) if run.rounds else None
    first = best or ranking.best(run)  # to look at, scored or not
    again = Again(run, folder, pictures)
    rounds = _Rounds(run, folder, pictures, best, again).shown()
    by_image = {
        item.attempt.image: item
        for round_ in rounds
        for drawn in round_.drawn
        for item in drawn.attempts
    }
    source = pictures.whole(folder / run.request.source) if run.request.source else None
    bests, noise = _bests(run), margin(run.attempts)
    return {
        "context": {
            "run": run,
            "met": MET,
            "ui": ui,
            "single": not holds(folder),
            "folder": shlex.quote(folder.absolute().name),
        },
        "run": run,
        "name": folder.absolute().name,
        "command": again.whole,
        "not_in_command": again.left_out if again.whole else "",
        "started": story.get("started"),
        "described": described(run.settings),
        "best": best,
        "raw": raw,
        "after": first and replace(by_image[first.image], name=_name(run, first, best)),
        "befores": _befores(run, first, source, by_image),
        "source": source,
        "rounds": rounds,
        "verdict": _verdict(run, best, raw),
        "stopped": _stopped(run),
        "compared": run.comparison and COMPARED[run.comparison],
        "unmet": never_met(run),
        **_reservations(run, best),
        "chart": charts.scores(run, bests, best.score if best else None, noise),
        "chart_name": "Score by round; best so far: " + ", ".join(map(number, bests)),
        "tokens": _tokens(run),
        "seconds": {
            "drawing": run.draw_seconds,
            "judging": run.judge_seconds,
        },
        "groups": {
            "Settings": run.settings,
            "Budget": _decided([(e.after, extended(e)) for e in run.extensions]),
            "Branches": _decided([(b.after, branched(run, b)) for b in run.branches]),
            "Your prompts": _decided([(e.after, _written(e)) for e in run.edited_prompts]),
            "Versions": story.get("versions"),
            "Revisions of models": story.get("revisions"),
        },
    }


class Again:
    """Commands that do a run, or draw one of its images, again."""

    def __init__(self, run: Run, folder: Path, pictures: Pictures) -> None:
        self._run = run
        # A page that stands alone is for others, who have the files elsewhere.
        self._place = None if pictures.embed else folder.absolute()

    @property
    def whole(self) -> str:
        """The run as it was begun; empty where no command does that."""
        request = self._run.request
        settings = dict(self._run.settings)
        return self._command(request.prompt, settings, tuple(OPTIONS), {}, request.source)

    @property
    def left_out(self) -> str:
        """What the command for the whole run does not do again, in words; empty for nothing.

        A person decided by what they saw: that is no setting.
        """
        run = self._run
        decided: list[Extension | Branch | Remark | EditedPrompt]
        decided = [*run.extensions, *run.branches, *run.remarks, *run.edited_prompts]
        ends = [decision.after for decision in decided]
        if run.stop is StopReason.CHOSEN:
            ends.append(len(run.rounds))
        if not ends:
            return ""
        last = min(ends) - 1
        upto = f"up to round {last}" if last >= 0 else "as it was begun"
        return f"the command draws this run {upto}; what you decided after that is not in it"

    def of(self, attempt: Attempt) -> str:
        """One image, in round 0 of a run of its own; empty where no command draws it, as where
        another image was its start.
        """
        drawn = attempt.candidate
        if drawn.start or drawn.mutations:
            return ""
        settings = {**self._run.settings, "seed": drawn.seed, "negative": drawn.negative}
        alone = {"rounds": 1, "images": 1}
        edited = drawn.edits or self._run.request.source
        return self._command(drawn.prompt, settings, NOT_OF_LOOP, alone, edited)

    def _command(
        self,
        prompt: str,
        settings: Mapping[str, Any],
        names: tuple[str, ...],
        besides: Mapping[str, object],
        edited: str,
    ) -> str:
        known = json.dumps({key: settings[key] for key in settings if key != "seed"})
        options = _options(known, names, edit=bool(edited))
        if options is None or "seed" not in settings:
            return ""
        words = spelt({**options, "seed": settings["seed"], **besides})
        if edited:
            words += ["--image", str(self._place / edited) if self._place else edited]
        words = [*words, "--", prompt] if prompt.startswith("-") else [prompt, *words]
        return " ".join(["gcr", "refine", *map(_word, words)])


def _word(text: str) -> str:
    """A word of any POSIX shell, in which bytes stand for what a page shows otherwise than it is.

    Not `$'…'`, which dash has not. A shell that is typed into takes ! for its history.
    """
    if not _SHOWN_OTHERWISE.search(text):
        return shlex.quote(text)
    words = text.rstrip("\n")  # which $(…) would drop
    ends = shlex.quote(text[len(words) :]) if words != text else ""
    words = words.replace("\\", r"\\").replace("%", "%%")
    words = re.sub(rf"^-|['!]|{_SHOWN_OTHERWISE.pattern}", _octal, words)
    return f"\"$(printf '{words}')\"{ends}"


def _octal(character: re.Match[str]) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character[0]))


@lru_cache(maxsize=256)
def _options(known: str, names: tuple[str, ...], *, edit: bool) -> dict[str, object] | None:
    """As `respelt`, for any seed: all runs of a batch have the same options."""
    return respelt({**json.loads(known), "seed": 0}, ThisMachine(), names=names, edit=edit)


class _Rounds:
    """The rounds of a run, as its page shows them."""

    def __init__(
        self, run: Run, folder: Path, pictures: Pictures, best: Attempt | None, again: Again
    ) -> None:
        self._run = run
        self._folder = folder
        self._pictures = pictures
        self._best = best
        self._again = again
        self._ratings = ratings.read(folder)
        self._first: dict[str, int] = {}  # the round that drew a prompt first
        for round_ in run.rounds:
            for attempt in round_.attempts:
                self._first.setdefault(attempt.candidate.prompt, round_.index)

    def shown(self) -> list[ShownRound]:
        return [self._round(finished) for finished in self._run.rounds]

    def _round(self, finished: Round) -> ShownRound:
        by_prompt: dict[tuple[str, str], list[Shown]] = {}
        for attempt in finished.attempts:
            drawn = attempt.candidate.prompt, attempt.candidate.negative
            by_prompt.setdefault(drawn, []).append(self._attempt(attempt))
        return ShownRound(
            finished.index,
            [
                Drawn(
                    prompt,
                    negative,
                    None if self._first[prompt] == finished.index else self._first[prompt],
                    attempts,
                )
                for (prompt, negative), attempts in by_prompt.items()
            ],
            finished.draw_seconds,
            finished.judge_seconds,
            finished.wording,
        )

    def _attempt(self, attempt: Attempt) -> Shown:
        return Shown(
            attempt,
            self._pictures.whole(self._folder / attempt.image),
            origin(attempt.candidate),
            self._best is not None and attempt.image == self._best.image,
            self._again.of(attempt),
            self._ratings.get(attempt.image),
        )


def _decided(decisions: Sequence[tuple[int, str]]) -> dict[str, str]:
    """What a person decided, by when: of several decisions at one time the last one counts.

    decisions: how many rounds there were, and the words for what was decided.
    """
    decided: dict[str, str] = {}
    for after, words in decisions:
        when = f"after round {after - 1}" if after else "at the beginning"
        decided[when] = f"{decided[when]}; then {words}" if when in decided else words
    return decided


def _written(edited: EditedPrompt) -> str:
    return f"“{edited.prompt}”{dated(edited.when)}"


def _tokens(run: Run) -> str:
    """What the critic's model read and wrote; empty where that was not counted."""
    whole = run.tokens
    if whole is None or whole.uncounted or not whole.read:
        return ""
    return f"{whole.read:,} read, {whole.written:,} written"


def _bests(run: Run) -> list[float | None]:
    """The score of the best image after each round, as the loop saw it."""
    ends = range(1, len(run.rounds) + 1)
    so_far = (best_scored(run.after(run.rounds[:end])) for end in ends)
    return [best.score if best else None for best in so_far]


def _befores(
    run: Run, first: Attempt | None, source: Picture | None, shown: dict[str, Shown]
) -> list[Before]:
    """The images that the best one can be compared with: the source, and the first image."""
    befores = [Before("the source", source)] if source else []
    if first is not None and first.image != (raw := ranking.raw(run)).image:
        name = "the request as it is" + (f", {number(raw.score)}" if raw.score is not None else "")
        befores.append(Before(name, shown[raw.image].picture))
    return [before for before in befores if before.picture.src]


def _name(run: Run, first: Attempt, best: Attempt | None) -> str:
    if best is None:
        return "an image that could not be scored"
    index = next(round_.index for round_ in run.rounds if best in round_.attempts)
    return f"{'kept' if run.kept else 'best'}: round {index}, {number(first.score)}"


def _verdict(run: Run, best: Attempt | None, raw: Attempt | None) -> str:
    if best is None:
        return "no image could be scored"
    if best == raw and not run.kept:
        return "the first image, of the request as it is, was not surpassed"
    reached = "the one you kept, of" if run.kept else "the best of"
    return f"from the request as it is to {reached} {count(len(run.attempts), 'image')}"


def _reservations(run: Run, best: Attempt | None) -> dict[str, str]:
    """What limits the meaning of the best score, in words; empty texts where nothing does."""
    return {
        "close": closeness(run, best) if best else "",
        "settled": settlement(run),
        "since": since_branch(run),
        "distrust": distrust(run.untrusted) if run.untrusted else "",
        "chance": chance(margin(run.attempts)),
    }


def _stopped(run: Run) -> str:
    if run.stop is None:
        return "not yet: the run is in progress, or was cut off"
    if run.stop is StopReason.TARGET:
        return f"{STOPPED[run.stop]} ({run.settings.get('target')})"
    return STOPPED[run.stop]
