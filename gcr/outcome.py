"""What came of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import loop
from gcr.verdict import never_met

if TYPE_CHECKING:
    from gcr.records import Attempt, Run


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


def best_scored(run: Run) -> Attempt | None:
    """The best of the attempts that have a score, or the one that a person kept."""
    best = loop.best(run)
    return best if best is not None and (best.score is not None or run.kept) else None
