"""What came of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import comparison, loop, stopping, store
from gcr.errors import GcrError
from gcr.verdict import never_met

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.records import Attempt, Critic, Preference, Run
    from gcr.store import RunFolder
    from gcr.view import View


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    best: the attempt with the highest score; None if none could be scored.
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
        """JSON values of all of it; what `gcr refine --json` prints."""
        run, best, raw = self.run, self.best, self.raw
        return {
            "run_id": run.id,
            "folder": str(self.folder),
            "request": asdict(run.request),
            "source": str(self.folder / run.request.source) if run.request.source else None,
            "best": best and {**self._attempt(best), "image": str(self.best_image)},
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


def best_scored(run: Run) -> Attempt | None:
    """The best of the attempts that have a score, or the one that a person kept."""
    best = loop.best(run)
    return best if best is not None and (best.score is not None or run.kept) else None


def compared(folders: Sequence[RunFolder], critic: Critic) -> list[Preference | None]:
    """For each run the critic's blind choice between the request as it is (first) and the best
    image (second), asked for all at once.

    None where they are one, where nothing is scored, and where the critic's reply says neither.
    """
    pairs = {i: pair for i, folder in enumerate(folders) if (pair := _pair(folder))}
    said = comparison.blind(
        critic,
        [folders[i].run.request for i in pairs],
        [first for first, _ in pairs.values()],
        [second for _, second in pairs.values()],
    )
    found = dict(zip(pairs, said, strict=True))
    return [found.get(i) for i in range(len(folders))]


def _pair(folder: RunFolder) -> tuple[Image, Image] | None:
    """A run's first image and its best, where there are two to be compared."""
    run, best = folder.run, best_scored(folder.run)
    if best is None or best == loop.raw(run) or run.request.source:
        return None
    return folder.gallery(run, loop.raw(run).image), folder.gallery(run, best.image)


def is_over(folder: RunFolder, view: View) -> bool:
    """Whether nothing is left to do of a run, which then is shown as it ended."""
    run, _ = store.look(folder.path)
    if not stopping.is_over(run):
        return False
    folder.run = run
    view.warn(f"{folder.path} is finished, so nothing is drawn", "gcr refine begins another run")
    view.end(run, best_scored(run), folder.path)
    return True
