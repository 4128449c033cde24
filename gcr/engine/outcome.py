"""What came of a run or a batch, and how either is interrupted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from gcr.core.history import never_met
from gcr.core.ranking import best_scored, margin, near, raw
from gcr.core.records import Attempt, Result, Run, best_name
from gcr.errors import BatchError, GcrError, UnavailableError


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

    @classmethod
    def of(cls, run: Run, folder: Path, seconds: float = 0.0, loading_seconds: float = 0.0) -> Self:
        """What came of a run in its folder, which may not be at its end."""
        first = raw(run) if run.rounds else None
        return cls(run, folder, best_scored(run), first, seconds, loading_seconds)

    @property
    def best_image(self) -> Path | None:
        """A copy of the best attempt's image."""
        return self.folder / best_name(self.best) if self.best else None

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it; what `gcr refine --json` prints.

        noise: by how much a score must exceed another to be better and not lucky; None: unknown.
        """
        run, best, first = self.run, self.best, self.raw
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
            "raw": first and {"image": str(self.folder / first.image), "score": first.score},
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


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What came of a batch, or of one shard of it.

    folder: of the batch. results: of the prompts that are done, also before this call, in order;
        those with a `failure` failed. Their paths start from the folder.
    busy: prompts that other processes are at. unfinished: those that nobody finished, because too
        many failed.
    seconds: wall time of this call.
    """

    folder: Path
    results: tuple[Result, ...]
    busy: int
    unfinished: int
    seconds: float

    @property
    def summary(self) -> Path:
        return self.folder / "summary.jsonl"

    @property
    def table(self) -> Path:
        return self.folder / "summary.csv"

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.failure)

    def as_json(self) -> dict[str, object]:
        """JSON values of all but the results themselves; what `gcr batch --json` prints."""
        return {
            "folder": str(self.folder),
            "summary": str(self.summary),
            "table": str(self.table),
            "prompts": len(self.results) + self.busy + self.unfinished,
            "done": len(self.results) - len(self.failures),
            "failed": len(self.failures),
            "busy": self.busy,
            "unfinished": self.unfinished,
            "failures": [{"id": result.id, "failure": result.failure} for result in self.failures],
            "seconds": round(self.seconds, 3),
        }


class BatchInterrupted(KeyboardInterrupt):
    """Ctrl-C after the batch's folder was made. outcome: what there is."""

    def __init__(self, outcome: BatchOutcome) -> None:
        super().__init__()
        self.outcome = outcome


class BatchStopped(BatchError):  # noqa: N818 - what is done is no error
    """The critic's server is gone, and nothing that is left could be judged. outcome: so far."""

    def __init__(self, error: UnavailableError, outcome: BatchOutcome) -> None:
        super().__init__(error.message, f"{error.hint}: gcr resume {outcome.folder}")
        self.outcome = outcome
