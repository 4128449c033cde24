"""What blind comparisons settle at the end of a run: which image is best, where scores leave it to
chance or pairs are to decide, and whether it is better than the first.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gcr.core import ranking
from gcr.core.events import Notice
from gcr.core.ranking import near
from gcr.core.records import Preference
from gcr.critic import pairwise
from gcr.errors import GcrError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gcr.core.events import Consumer
    from gcr.core.records import Attempt, Critic, Run
    from gcr.settings.schema import Settings
    from gcr.storage.runfolder import RunFolder

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

RIVALS = 3
"""Images within the noise of the highest score that are held against it, at most."""
WITH_FIRST = "with the first"


def settle(
    folders: Sequence[RunFolder], settings: Settings, critic: Critic, emit: Consumer
) -> list[Preference | None]:
    """Have the critic settle which image of each run is the best, which is set down in the run; and
    then say, blindly, whether it prefers the request as it is (first) or the best image (second).

    All runs are asked about at once, and where that fails each alone. None where the settings want
    no comparison, where the two are one, where nothing is scored, where the critic's reply says
    neither, and where it fails, of which is warned: the results stand without it.
    Raises UnavailableError where nothing more can be asked at all.
    """
    by_pairs = settings.select == "pairwise"
    if by_pairs or settings.compare:
        ask = _winners if by_pairs else _preferred
        best = _asked(ask, folders, critic, emit, "", "with others of its score")
        for folder, image in zip(folders, best, strict=True):
            folder.run = replace(folder.run, settled=image)
    if not settings.compare:
        return [None] * len(folders)
    return _asked(_compared, folders, critic, emit, None, WITH_FIRST)


def _preferred(folders: Sequence[RunFolder], critic: Critic) -> list[str]:
    """For each run the image that is preferred to that of the highest score, of those whose scores
    are within the noise of it; of several that of the higher score; empty for none.
    """
    pairs = [(i, *pair) for i, folder in enumerate(folders) for pair in _rivals(folder.run)]
    chosen = [""] * len(folders)
    for (i, _, rival), preference in zip(pairs, _blind(folders, pairs, critic), strict=True):
        if preference is Preference.SECOND:
            chosen[i] = chosen[i] or rival.image
    return chosen


def _rivals(run: Run) -> list[tuple[Attempt, Attempt]]:
    """The attempt of the highest score, beside each of those that may be better; which is none that
    a program found to be wrong where that one is right.
    """
    top = next(iter(ranking.ranked(run.attempts)), None)
    if run.kept or top is None:
        return []
    close = near(run.attempts, top)
    rivals = [rival for rival in close if top.critique.refuted or not rival.critique.refuted]
    return [(top, rival) for rival in rivals[:RIVALS]]


def _winners(folders: Sequence[RunFolder], critic: Critic) -> list[str]:
    """For each run the winner among the images of the highest scores; empty where it is the one of
    the highest, and where a person has chosen.
    """
    fields = [[] if f.run.kept else ranking.contenders(f.run.attempts) for f in folders]
    winners = ranking.knock_out(fields, lambda pairs: _blind(folders, pairs, critic))
    return [
        winner.image if winner is not None and winner != field[0] else ""
        for winner, field in zip(winners, fields, strict=True)
    ]


def _blind(
    folders: Sequence[RunFolder], pairs: Sequence[ranking.Pair], critic: Critic
) -> list[Preference | None]:
    """The critic's blind preference for each pair, all asked for at once."""
    runs = [folders[i].run for i, _, _ in pairs]
    return pairwise.blind(
        critic,
        [run.request for run in runs],
        [folders[i].gallery(folders[i].run, first.image) for i, first, _ in pairs],
        [folders[i].gallery(folders[i].run, second.image) for i, _, second in pairs],
        [
            folders[i].gallery(run, run.request.source) if run.request.source else None
            for (i, _, _), run in zip(pairs, runs, strict=True)
        ],
    )


def _asked(  # noqa: PLR0913, PLR0917 - each for itself
    ask: Callable[[Sequence[RunFolder], Critic], list[Answer]],
    folders: Sequence[RunFolder],
    critic: Critic,
    emit: Consumer,
    failed: Answer,
    rival: str,
) -> list[Answer]:
    """What the critic answers for all folders at once, or for each alone where that fails, and
    `failed` for those where it fails even so, of which is warned.

    rival: what the best image was to be compared with, in words.
    """
    try:
        return ask(folders, critic)
    except UnavailableError:
        raise
    except Exception as error:
        if len(folders) > 1:
            logger.info("comparisons failed; they go on one by one", exc_info=error)
            alone = (_asked(ask, [folder], critic, emit, failed, rival) for folder in folders)
            return [answer for answers in alone for answer in answers]
        logger.info("a comparison failed", exc_info=error)
        uncompared(folders[0], error, emit, rival)
        return [failed]


def uncompared(
    folder: RunFolder, error: Exception, emit: Consumer, rival: str = WITH_FIRST
) -> None:
    """Say that there is no comparison at the end, and why. rival: as `_asked` has it."""
    why, hint = f"{type(error).__name__}: {error}", ""
    if isinstance(error, GcrError):
        why, hint = error.message, error.hint
    emit(Notice(f"the best image in {folder.path} was not compared {rival}: {why}", hint))


def _compared(folders: Sequence[RunFolder], critic: Critic) -> list[Preference | None]:
    pairs = [(i, *pair) for i, folder in enumerate(folders) if (pair := _ends(folder.run))]
    preferences = _blind(folders, pairs, critic)
    by_folder = {i: said for (i, _, _), said in zip(pairs, preferences, strict=True)}
    return [by_folder.get(i) for i in range(len(folders))]


def _ends(run: Run) -> tuple[Attempt, Attempt] | None:
    """A run's first attempt and its best, where there are two to be compared."""
    best = ranking.best_scored(run)
    return None if best is None or best == ranking.raw(run) else (ranking.raw(run), best)
