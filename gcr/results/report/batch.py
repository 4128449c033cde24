"""The page of a batch: its numbers, and a gallery of its prompts to sort and to filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from gcr.core.phrases import STOPPED, described
from gcr.core.records import Result, StopReason, image_name
from gcr.results.report.page import NAME, names, render
from gcr.results.report.pictures import Picture, Pictures
from gcr.storage import runfolder
from gcr.storage.batchfolder import BatchFolder
from gcr.storage.summary import of_batch

GAIN = 0.005
"""A smaller difference of scores is shown as none."""


@dataclass(frozen=True, slots=True)
class Card:
    """A prompt as the gallery shows it.

    Attributes:
        result: its line of the summary.
        best: its best image, or failing that the first.
        raw: the first image; None where it is shown as `best`, or there is none.
        gain: of the score; None where one of the two has none.
        kind: `gained`, `same` or `failed`.
        link: to the page of its run; empty where there is none.
    """

    result: Result
    best: Picture
    raw: Picture | None
    gain: float | None
    kind: str
    link: str


@dataclass(frozen=True, slots=True)
class Figures:
    """A batch in numbers.

    Attributes:
        raw: mean score of the first images; None: no prompt has both scores.
        best: mean score of the best images; None: no prompt has both scores.
        scored: how many prompts the means are of, which have both scores.
        gained: how many prompts have a better best image than chance explains.
        failed: how many prompts failed.
        images: drawn in all.
        seconds: spent drawing and judging.
        untrusted: how many prompts the critic does not understand completely.
    """

    raw: float | None
    best: float | None
    scored: int
    gained: int
    failed: int
    images: int
    seconds: float
    untrusted: int


def page(folder: Path, pictures: Pictures) -> bytes:
    """The page of the batch in a folder, which may be in progress."""
    batch = BatchFolder.open(folder)
    results = of_batch(batch)
    cards = _cards(folder, results, pictures)
    stops = {result.stop: None for result in results}
    values = {
        "name": folder.absolute().name,
        "id": batch.id,
        "started": batch.story.get("started"),
        "described": described(batch.settings),
        "files": names(batch.story.get("files")),
        "total": len(batch.jobs),
        "waiting": len(batch.jobs) - len(results),
        "figures": _figures(cards),
        "cards": cards,
        "stops": {str(stop): STOPPED[stop] for stop in StopReason if stop in stops},
        "groups": {
            "Settings": batch.settings,
            "Versions": batch.story.get("versions"),
            "Revisions of models": batch.story.get("revisions"),
        },
    }
    return render("batch.html", values, ["gallery.js"])


def runs(folder: Path) -> list[Path]:
    """The folders of a batch's runs that have begun."""
    batch = BatchFolder.open(folder)
    paths = (batch.run_path(job) for job in batch.jobs)
    return [path for path in paths if (path / runfolder.NAME).exists()]


def _cards(folder: Path, results: Sequence[Result], pictures: Pictures) -> list[Card]:
    paths = [path for result in results for path in _images(folder, result) if path]
    thumbnails = pictures.small(paths)
    return [_card(folder, result, thumbnails, pictures) for result in results]


def _images(folder: Path, result: Result) -> tuple[Path | None, Path | None]:
    """The best image of a prompt, and its first."""
    best = folder / result.best_image if result.best_image else None
    ending = result.best_image.rpartition(".")[2]
    if not ending:  # nothing was scored, so there is no best one
        ending = next((p.suffix[1:] for p in (folder / result.folder).glob("00-0.*")), "png")
    first = folder / result.folder / image_name(0, 0, ending)
    return best, first if result.images else None


def _card(
    folder: Path, result: Result, thumbnails: Mapping[Path, Picture], pictures: Pictures
) -> Card:
    best, raw = _images(folder, result)
    shown = best or raw
    gain = None if result.raw is None or result.best is None else result.best - result.raw
    kind = "failed" if result.failure else "gained" if _is_gain(gain, result) else "same"
    run_page = folder / result.folder / NAME
    return Card(
        result,
        thumbnails[shown] if shown else Picture(problem="no image"),
        thumbnails[raw] if raw and best else None,
        gain,
        kind,
        pictures.link(run_page) if run_page.exists() else "",
    )


def _figures(cards: Sequence[Card]) -> Figures:
    results = [card.result for card in cards]
    both = [(r.raw, r.best) for r in results if r.raw is not None and r.best is not None]
    return Figures(
        raw=fmean(raw for raw, _ in both) if both else None,
        best=fmean(best for _, best in both) if both else None,
        scored=len(both),
        gained=sum(_is_gain(card.gain, card.result) for card in cards),
        failed=sum(bool(result.failure) for result in results),
        images=sum(result.images for result in results),
        seconds=sum(result.seconds for result in results),
        untrusted=sum(bool(result.untrusted) for result in results),
    )


def _is_gain(gain: float | None, result: Result) -> bool:
    """Whether a gain is more than chance, where that is known, and than GAIN."""
    return gain is not None and gain > max(GAIN, result.noise)
