"""Pages to look at: of one run, of a batch, and of a comparison.

A page is one HTML file that loads nothing but the images beside it, or not even those. Folders are
read as they are, also while a process works in them; only pages and thumbnails are written.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core.events import (
    Event,
    Notice,
    RoundFinished,
    RunFinished,
    RunStarted,
    WorkStarted,
)
from gcr.core.records import StopReason
from gcr.engine.outcome import Outcome, Unreported
from gcr.errors import GcrError, UsageError
from gcr.files import paths
from gcr.files.atomic import write
from gcr.files.locks import turn
from gcr.results.report import batch, compare, run
from gcr.results.report.page import NAME
from gcr.results.report.pictures import Pictures
from gcr.storage.batchfolder import RUNS, holds
from gcr.storage.runfolder import load_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from gcr.core.events import Consumer

logger = logging.getLogger(__name__)


def report(folder: Path, output: Path | None = None, *, standalone: bool = False) -> Path:
    """Write the page of a run, a batch or a comparison; returns where it is.

    Arguments:
        folder: of the run, batch or comparison, which may be in progress.
        output: the file; None: index.html in the folder, with a page for each run that it links to.
        standalone: embed all images, and link to no other file.

    Raises UsageError where the folder holds none of them, GcrError for what cannot be read or
    written. A run of a gallery that cannot be read is a warning.
    """
    page = output or folder / NAME
    if paths.is_folder(page):
        raise UsageError(f"{page} is a folder", "name the file to write, such as report.html")
    pictures = Pictures(page, embed=standalone)
    if paths.exists(folder / "run.json"):
        write(page, run.page(folder, pictures))
    elif paths.exists(folder / "batch.json"):
        # Several processes may finish their shares of one batch at the same time.
        with nullcontext() if output else turn(folder / RUNS):
            if output is None and not standalone:
                _write_runs(batch.runs(folder), folder)
            write(page, batch.page(folder, pictures))
    elif paths.exists(folder / "compare.json"):
        if output is None and not standalone:
            _write_runs(compare.runs(folder), folder)
        write(page, compare.page(folder, pictures))
    elif paths.exists(folder / "arms.json"):
        raise UsageError(
            f"the comparison in {folder} is not done",
            f"gcr resume {folder} finishes it; gcr report {folder}/ARM shows one of its arms",
        )
    else:
        raise UsageError(
            f"no run, batch or comparison in {folder}",
            "name a folder that gcr refine, gcr batch or gcr compare made",
        )
    return page


def refresh(run_folder: Path) -> None:
    """Write the page of a run anew, of which something has changed since it ended.

    Not while it goes on, as then whoever is at work there writes it; nor of a batch's run, whose
    page is written with those of the batch.
    """
    ended = load_run(run_folder).stop is not None
    if ended and (run_folder / NAME).exists() and not holds(run_folder):
        report(run_folder)


def with_page(act: Callable[[Consumer], Outcome], consumer: Consumer) -> Outcome:
    """Do a run, and write its page when it begins, after each round and when it ends, before the
    consumer hears of it.

    Arguments:
        act: does the run, and emits its events to the consumer that it is given.
        consumer: gets the events.

    Raises whatever `act` raises, and Unreported where the run is good and the page cannot be
    written. Where the run failed, too, that is a notice.
    """
    drawing = False
    failures: list[GcrError] = []
    folder: Path | None = None

    def emit(event: Event) -> None:
        nonlocal drawing, folder
        if isinstance(event, RunStarted):
            folder = event.folder
        if folder and isinstance(event, RunStarted | RoundFinished):
            try:
                _write_live(folder)
            except GcrError as error:  # at the end it is tried again, and a failure told
                logger.info("no page yet: %s", error.message)
        drawing = drawing or isinstance(event, WorkStarted)
        if isinstance(event, RunFinished) and drawing:
            try:
                report(event.folder)
            except GcrError as error:
                if event.run.stop in (StopReason.INTERRUPTED, StopReason.FAILED):
                    consumer(Notice(error.message, error.hint))
                else:
                    failures.append(error)
        consumer(event)

    outcome = act(emit)
    if failures:
        raise Unreported(failures[0], outcome)
    return outcome


def _write_live(folder: Path) -> None:
    """The page of a run in progress, which a browser loads again and again."""
    page = folder / NAME
    write(page, run.page(folder, Pictures(page, embed=False), live=True))


def _write_runs(folders: list[Path], gallery: Path) -> None:
    """The pages of runs that a gallery links to. Runs elsewhere keep the page that they have."""
    for folder in folders:
        page = folder / NAME
        if page.exists() and not folder.resolve().is_relative_to(gallery.resolve()):
            continue
        pictures = Pictures(page, embed=False)
        try:
            content = run.page(folder, pictures, back=pictures.link(gallery / NAME))
        except GcrError as error:  # one damaged run must not hide the others
            logger.warning("%s has no page: %s", folder, error.message)
            continue
        write(page, content)
