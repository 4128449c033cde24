"""What came of a run."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gcr.core import ranking, stopping
from gcr.core.checklist import never_met
from gcr.core.phrases import chance
from gcr.core.ranking import margin, near
from gcr.core.records import Preference
from gcr.critic import pairwise
from gcr.errors import GcrError, UnavailableError
from gcr.storage import runfolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from gcr.core.records import Attempt, Critic, Run
    from gcr.core.view import View, Watcher
    from gcr.storage.runfolder import RunFolder

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    best: the attempt with the highest score, or among those within its noise the one that a blind
        comparison settled on; None if none could be scored.
    raw: the first attempt of the request as it is; None if none was drawn.
    seconds: wall time of this call, with loading_seconds, the time before the first round began.
    """

    run: Run
    folder: Path
    best: Attempt | None
    raw: Attempt | None
    seconds: float
    loading_seconds: float

    @property
    def best_image(self) -> Path | None:
        """A copy of the best attempt's image."""
        return self.folder / "best.png" if self.best else None

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it; what `gcr refine --json` prints.

        noise: by how much a score must exceed another to be better and not lucky; None: unknown.
        """
        run, best, raw = self.run, self.best, self.raw
        close = near(run.attempts, best) if best else []
        return {
            "run_id": run.id,
            "folder": str(self.folder),
            "request": asdict(run.request),
            "source": str(self.folder / run.request.source) if run.request.source else None,
            "best": best and {**self._attempt(best), "image": str(self.best_image)},
            "noise": margin(run.attempts) or None,
            "within_chance_of": [
                {"image": str(self.folder / a.image), "score": a.score} for a in close
            ],
            "settled": bool(run.settled),
            "untrusted": run.untrusted,
            "comparison": run.comparison,
            "never_met": [asdict(requirement) for requirement in never_met(run)],
            "raw": raw and {"image": str(self.folder / raw.image), "score": raw.score},
            "rounds": [
                {"index": round_.index, "attempts": [self._attempt(a) for a in round_.attempts]}
                for round_ in run.rounds
            ],
            "stop": run.stop,
            "images": len(run.attempts),
            "seconds": round(self.seconds, 3),
            "loading_seconds": round(self.loading_seconds, 3),
        }

    def _attempt(self, attempt: Attempt) -> dict[str, object]:
        """One attempt without the raw reply, which is in the folder's rounds.jsonl."""
        critique = asdict(attempt.critique)
        score = critique.pop("overall")
        del critique["raw"]
        return {
            "image": str(self.folder / attempt.image),
            "sha256": attempt.sha256,
            "round": next(r.index for r in self.run.rounds if attempt in r.attempts),
            **asdict(attempt.candidate),
            "score": score,
            **critique,
            "draw_seconds": round(attempt.draw_seconds, 4),
            "judge_seconds": round(attempt.judge_seconds, 4),
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after the run's folder was made. outcome: what there is."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class Unreported(GcrError):  # noqa: N818 - the run itself is no error
    """A run is done and saved, but its page could not be written. outcome: what there is."""

    def __init__(self, error: GcrError, outcome: Outcome) -> None:
        super().__init__(
            error.message, f"the run is saved; gcr report {outcome.folder} tries again"
        )
        self.outcome = outcome


NAMED = 2
"""Images within chance of the best that are named beside the first one, at most."""


def closeness(run: Run, best: Attempt) -> str:
    """From which other images the best may differ by chance alone, in words; empty where from none,
    or where nothing is known of chance.
    """
    close = near(run.attempts, best)
    if not close:
        return ""
    raw = ranking.raw(run)
    others = [attempt for attempt in close if attempt is not raw]
    names = [f"the request as it is ({raw.score:.2f})"] if len(others) < len(close) else []
    names += [f"{attempt.image} ({attempt.score:.2f})" for attempt in others[:NAMED]]
    names += [f"{len(others) - NAMED} more"] if len(others) > NAMED else []
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{chance(margin(run.attempts))} of {listed}"


def settlement(run: Run) -> str:
    """Why the best image is not that of the highest score, in words; empty where it is."""
    top = next(iter(ranking.ranked(run.attempts)), None)
    if not run.settled or run.kept or top is None or top.image == run.settled:
        return ""
    return f"the critic prefers it, side by side, to {top.image} ({top.score:.2f})"


RIVALS = 3
"""Images within the noise of the highest score that are held against it, at most."""


def settled(folders: Sequence[RunFolder], critic: Critic, view: Watcher) -> list[str]:
    """For each run the image that the critic prefers, blindly, to that of the highest score, among
    those whose scores are within its noise of it; asked for as by `compared`.

    Of several the one of the higher score. Empty where it prefers none, where there is none to
    hold against it, and where asking fails.
    """
    return _asked(_settled, folders, critic, view, "")


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
    folders: Sequence[RunFolder], critic: Critic, view: Watcher
) -> list[Preference | None]:
    """For each run the critic's blind choice between the request as it is (first) and the best
    image (second), asked for all at once, and where that fails for each alone.

    None where they are one, where nothing is scored, where the critic's reply says neither, and
    where it fails, of which is warned: the results stand without it.
    Raises UnavailableError where nothing more can be asked at all.
    """
    return _asked(_compared, folders, critic, view, None)


def _asked(
    ask: Callable[[Sequence[RunFolder], Critic], list[Answer]],
    folders: Sequence[RunFolder],
    critic: Critic,
    view: Watcher,
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
            alone = (_asked(ask, [folder], critic, view, failed) for folder in folders)
            return [answer for answers in alone for answer in answers]
        logger.info("a comparison failed", exc_info=error)
        uncompared(folders[0], error, view)
        return [failed]


def uncompared(folder: RunFolder, error: Exception, view: Watcher) -> None:
    """Say that there is no comparison at the end, and why."""
    why, hint = f"{type(error).__name__}: {error}", ""
    if isinstance(error, GcrError):
        why, hint = error.message, error.hint
    view.warn(f"the best image in {folder.path} was not compared with the first: {why}", hint)


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


def is_over(folder: RunFolder, view: View) -> bool:
    """Whether nothing is left to do of a run, which then is shown as it ended."""
    run, _ = runfolder.look(folder.path)
    if not stopping.is_over(run):
        return False
    folder.run = run
    view.warn(f"{folder.path} is finished, so nothing is drawn", "gcr refine begins another run")
    view.end(run, ranking.best_scored(run), folder.path)
    return True
