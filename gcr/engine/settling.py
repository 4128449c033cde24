"""What a blind comparison settles at the end of a run, where scores leave it to chance."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from gcr.core import ranking
from gcr.core.events import Notice
from gcr.core.ranking import near
from gcr.core.records import Preference
from gcr.critic import pairwise
from gcr.errors import GcrError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from gcr.core.events import Consumer
    from gcr.core.records import Attempt, Critic, Run
    from gcr.storage.runfolder import RunFolder

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


RIVALS = 3
"""Images within the noise of the highest score that are held against it, at most."""


def settled(folders: Sequence[RunFolder], critic: Critic, emit: Consumer) -> list[str]:
    """For each run the image that the critic prefers, blindly, to that of the highest score, among
    those whose scores are within its noise of it; asked for as by `compared`.

    Of several the one of the higher score. Empty where it prefers none, where there is none to
    hold against it, and where asking fails.
    """
    return _asked(_settled, folders, critic, emit, "")


def _settled(folders: Sequence[RunFolder], critic: Critic) -> list[str]:
    pairs = [(i, *pair) for i, folder in enumerate(folders) for pair in _rivals(folder.run)]
    said = pairwise.blind(
        critic,
        [folders[i].run.request for i, _, _ in pairs],
        [folders[i].gallery(folders[i].run, top.image) for i, top, _ in pairs],
        [folders[i].gallery(folders[i].run, rival.image) for i, _, rival in pairs],
    )
    found = [""] * len(folders)
    for (i, _, rival), preference in zip(pairs, said, strict=True):
        if preference is Preference.SECOND:
            found[i] = found[i] or rival.image
    return found


def _rivals(run: Run) -> list[tuple[Attempt, Attempt]]:
    """The attempt of the highest score, beside each of those that may be better."""
    if run.kept or run.request.source:
        return []
    top = next(iter(ranking.ranked(run.attempts)), None)
    return [(top, rival) for rival in near(run.attempts, top)[:RIVALS]] if top else []


def compared(
    folders: Sequence[RunFolder], critic: Critic, emit: Consumer
) -> list[Preference | None]:
    """For each run the critic's blind choice between the request as it is (first) and the best
    image (second), asked for all at once, and where that fails for each alone.

    None where they are one, where nothing is scored, where the critic's reply says neither, and
    where it fails, of which is warned: the results stand without it.
    Raises UnavailableError where nothing more can be asked at all.
    """
    return _asked(_compared, folders, critic, emit, None)


def _asked(
    ask: Callable[[Sequence[RunFolder], Critic], list[Answer]],
    folders: Sequence[RunFolder],
    critic: Critic,
    emit: Consumer,
    failed: Answer,
) -> list[Answer]:
    """What the critic answers for all folders at once, or for each alone where that fails, and
    `failed` for those where it fails even so, of which is warned.
    """
    try:
        return ask(folders, critic)
    except UnavailableError:
        raise
    except Exception as error:
        if len(folders) > 1:
            logger.info("comparisons failed; they go on one by one", exc_info=error)
            alone = (_asked(ask, [folder], critic, emit, failed) for folder in folders)
            return [answer for answers in alone for answer in answers]
        logger.info("a comparison failed", exc_info=error)
        uncompared(folders[0], error, emit)
        return [failed]


def uncompared(folder: RunFolder, error: Exception, emit: Consumer) -> None:
    """Say that there is no comparison at the end, and why."""
    why, hint = f"{type(error).__name__}: {error}", ""
    if isinstance(error, GcrError):
        why, hint = error.message, error.hint
    emit(Notice(f"the best image in {folder.path} was not compared with the first: {why}", hint))


def _compared(folders: Sequence[RunFolder], critic: Critic) -> list[Preference | None]:
    pairs = {i: pair for i, folder in enumerate(folders) if (pair := _pair(folder))}
    said = pairwise.blind(
        critic,
        [folders[i].run.request for i in pairs],
        [first for first, _ in pairs.values()],
        [second for _, second in pairs.values()],
    )
    found = dict(zip(pairs, said, strict=True))
    return [found.get(i) for i in range(len(folders))]


def _pair(folder: RunFolder) -> tuple[Image, Image] | None:
    """A run's first image and its best, where there are two to be compared."""
    run, best = folder.run, ranking.best_scored(folder.run)
    if best is None or best == ranking.raw(run) or run.request.source:
        return None
    return folder.gallery(run, ranking.raw(run).image), folder.gallery(run, best.image)
