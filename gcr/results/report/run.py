"""The page of one run: first against best, then each round with what the critic said."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gcr.core import ranking
from gcr.core.history import MET, never_met
from gcr.core.phrases import (
    COMPARED,
    STOPPED,
    chance,
    closeness,
    count,
    described,
    distrust,
    extended,
    origin,
    settlement,
)
from gcr.core.promptdiff import Piece, pieces
from gcr.core.ranking import best_scored, margin
from gcr.core.records import Attempt, Round, Run, StopReason, Wording, total
from gcr.results.report import charts
from gcr.results.report.page import number, render
from gcr.results.report.pictures import Picture, Pictures
from gcr.storage import ratings, runfolder
from gcr.storage.ratings import Rating


@dataclass(frozen=True, slots=True)
class Shown:
    """An attempt as the page shows it.

    Attributes:
        attempt: the attempt.
        picture: its image.
        diff: from the request to its prompt; empty where they are equal.
        rewrite: from the request to the prompt that its critique proposes; empty: to none.
        origin: how its image was started.
        won: whether it is the best.
        rating: the user's; None: there is none.
        name: its caption beside the other images at the top.
    """

    attempt: Attempt
    picture: Picture
    diff: Sequence[Piece]
    rewrite: Sequence[Piece]
    origin: str
    won: bool
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
class ShownRound:
    """A round as the page shows it.

    Attributes:
        index: of the round.
        attempts: the images.
        drawing: seconds.
        judging: seconds.
        wording: how the critic wrote the next prompt with all images in view, if it did.
        rewrite: from the request to that prompt; empty where there is none.
    """

    index: int
    attempts: Sequence[Shown]
    drawing: float
    judging: float
    wording: Wording | None
    rewrite: Sequence[Piece]


def page(folder: Path, pictures: Pictures, back: str = "", *, live: bool = False) -> bytes:
    """The page of the run in a folder, which may be in progress.

    Arguments:
        folder: of the run.
        pictures: of the page.
        back: link to a gallery; empty for none.
        live: have a browser load it again every few seconds, as somebody is at work in the folder.
    """
    return render("run.html", ["run.js"], {**shown(folder, pictures), "back": back, "live": live})


def shown(folder: Path, pictures: Pictures, *, ui: bool = False) -> dict[str, Any]:
    """What templates show of the run in a folder. ui: with buttons, for `gcr ui`."""
    run, story = runfolder.load_with_story(folder)
    best, raw = best_scored(run), ranking.raw(run) if run.rounds else None
    first = best or ranking.best(run)  # to look at, scored or not
    ratings_ = ratings.read(folder)
    rounds = [_round(run, finished, folder, pictures, best, ratings_) for finished in run.rounds]
    by_image = {item.attempt.image: item for round_ in rounds for item in round_.attempts}
    source = pictures.whole(folder / run.request.source) if run.request.source else None
    bests, noise = _bests(run), margin(run.attempts)
    return {
        "context": {
            "run": run,
            "met": MET,
            "ui": ui,
            "folder": shlex.quote(folder.absolute().name),
        },
        "run": run,
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
            "drawing": sum(finished.draw_seconds for finished in run.rounds),
            "judging": sum(finished.judge_seconds for finished in run.rounds),
        },
        "groups": {
            "Settings": run.settings,
            "Budget": {f"after round {e.after - 1}": extended(e) for e in run.extensions},
            "Versions": story.get("versions"),
            "Revisions of models": story.get("revisions"),
        },
    }


def _round(  # noqa: PLR0913, PLR0917 - what is known of it
    run: Run,
    finished: Round,
    folder: Path,
    pictures: Pictures,
    best: Attempt | None,
    ratings_: Mapping[str, Rating],
) -> ShownRound:
    request = run.request.prompt
    attempts = [
        Shown(
            attempt,
            pictures.whole(folder / attempt.image),
            pieces(request, drawn) if (drawn := attempt.candidate.prompt) != request else (),
            pieces(request, refined) if (refined := attempt.critique.refined) else (),
            origin(attempt.candidate),
            best is not None and attempt.image == best.image,
            ratings_.get(attempt.image),
        )
        for attempt in finished.attempts
    ]
    return ShownRound(
        finished.index,
        attempts,
        finished.draw_seconds,
        finished.judge_seconds,
        finished.wording,
        pieces(request, proposed) if (proposed := _proposed(finished)) else (),
    )


def _tokens(run: Run) -> str:
    """What the critic's model read and wrote; empty where that was not counted."""
    whole = total(round_.tokens for round_ in run.rounds)
    if whole is None or whole.uncounted or not whole.read:
        return ""
    return f"{whole.read:,} read, {whole.written:,} written"


def _proposed(finished: Round) -> str | None:
    return finished.wording.prompt if finished.wording else None


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
        "distrust": distrust(run.untrusted) if run.untrusted else "",
        "chance": chance(margin(run.attempts)),
    }


def _stopped(run: Run) -> str:
    if run.stop is None:
        return "not yet: the run is in progress, or was cut off"
    if run.stop is StopReason.TARGET:
        return f"{STOPPED[run.stop]} ({run.settings.get('target')})"
    return STOPPED[run.stop]
