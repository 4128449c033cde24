"""The page of all that is below the output folder: runs, batches and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcr.errors import UsageError
from gcr.files import atomic
from gcr.results.listing import Entry
from gcr.results.report.page import NAME, render
from gcr.results.report.pictures import Picture, Pictures

OURS = b'<meta name="generator" content="gcr '
MOST_BEFORE = 4096  # bytes of a page before its generator is named
PLURALS = {"run": "runs", "batch": "batches", "comparison": "comparisons"}


@dataclass(frozen=True, slots=True)
class Card:
    """An entry as the gallery shows it. link: to its page, or else to its image."""

    entry: Entry
    picture: Picture
    link: str


def write(output: Path, entries: Sequence[Entry]) -> Path:
    """Write the page of these entries below a folder, into that folder; returns where it is.

    Raises UsageError for a folder that has another page under that name.
    """
    page = output / NAME
    if page.exists() and OURS not in page.read_bytes()[:MOST_BEFORE]:
        raise UsageError(f"{page} was not written by gcr", "move it, or name another --output")
    pictures = Pictures(page, embed=False)
    values = {"name": output.absolute().name, **cards(entries, pictures, _link)}
    atomic.write(page, render("gallery.html", values, ["gallery.js"]))
    return page


def cards(
    entries: Sequence[Entry], pictures: Pictures, link: Callable[[Entry, Pictures], str]
) -> dict[str, object]:
    """What templates show of these entries. link: where a card leads to."""
    made = pictures.small(entry.image for entry in entries if entry.image)
    shown = [
        Card(
            entry,
            made[entry.image] if entry.image else Picture(problem="no image"),
            link(entry, pictures),
        )
        for entry in entries
    ]
    counted = {kind: sum(entry.kind == kind for entry in entries) for kind in PLURALS}
    return {
        "cards": shown,
        "kinds": {kind: number for kind, number in counted.items() if number},
        "plurals": PLURALS,
        "images": sum(entry.images for entry in entries),
        "damaged": sum(bool(entry.problem) for entry in entries),
    }


def _link(entry: Entry, pictures: Pictures) -> str:
    page = entry.folder / NAME
    if page.exists():
        return pictures.link(page)
    return pictures.link(entry.image) if entry.image else ""
