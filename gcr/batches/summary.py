"""What came of the prompts of a batch: a line for each in summary.jsonl, and a table at the end.

Several processes may add lines; each line is whole, because they take turns. Where a prompt that
failed is tried again, its later line counts.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from gcr.claims import turn
from gcr.errors import GcrError
from gcr.files import write, writing
from gcr.outcome import best_scored
from gcr.records import StopReason

if TYPE_CHECKING:
    from pathlib import Path

    from gcr.batches.jobs import Job
    from gcr.records import Run


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one prompt of a batch.

    seed: of the first image.
    folder, best_image: from the batch's folder; best_image is empty where nothing was scored.
    stop: why its run ended, as in run.json.
    raw, best: scores (0-1) of the request as it is and of the best image; None: unscored.
    rounds, images: how many were drawn. seconds: of drawing and judging them.
    failure: why there is no good end; empty where there is.
    extra: the prompt file's other columns.
    """

    id: str
    prompt: str
    seed: int
    folder: str
    stop: str
    raw: float | None = None
    best: float | None = None
    best_image: str = ""
    rounds: int = 0
    images: int = 0
    seconds: float = 0.0
    failure: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


def result_of(job: Job, path: str, run: Run | None, failure: str) -> Result:
    """path: of the run's folder, from the batch's. run: None where there is none."""
    best = best_scored(run) if run else None
    attempts = run.attempts if run else ()
    return Result(
        id=job.id,
        prompt=job.prompt,
        seed=job.seed,
        folder=path,
        stop=str(run.stop if run and run.stop else StopReason.FAILED),
        raw=attempts[0].score if attempts else None,
        best=best.score if best else None,
        best_image=f"{path}/best.png" if best else "",
        rounds=len(run.rounds) if run else 0,
        images=len(attempts),
        seconds=round(sum(round_.seconds for round_ in run.rounds) if run else 0.0, 3),
        failure=failure,
        extra=job.extra,
    )


COLUMNS = tuple(column.name for column in fields(Result) if column.name != "extra")


class Summary:
    """The summary of a batch folder, as far as it was read.

    results: the last line of each prompt, by its id.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "summary.jsonl"
        self.table = folder / "summary.csv"
        self.results: dict[str, Result] = {}
        self._read = 0  # bytes

    def refresh(self) -> None:
        """Read what was added since the last time, by whomever. Raises GcrError for damage."""
        if not self.path.exists():
            return
        # Opened first: what another machine wrote to a network file system is seen from then on.
        with self.path.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        for line in whole.splitlines():
            try:
                result = Result(**json.loads(line))
            except (TypeError, ValueError) as error:
                hint = "remove the line: its prompt is then looked at again"
                raise GcrError(f"{self.path} has a damaged line: {error}", hint) from error
            self.results[result.id] = result
        self._read += len(whole)

    def left(self, jobs: Iterable[Job]) -> list[Job]:
        """Those that are not done, as of now. One that failed is not."""
        self.refresh()
        done = {id_ for id_, result in self.results.items() if not result.failure}
        return [job for job in jobs if job.id not in done]

    def add(self, result: Result) -> None:
        """Write the line of a prompt that is done; a line that is there already is not repeated."""
        with turn(self.folder):
            self.refresh()
            if self.results.get(result.id) == result:
                return
            content = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False)
            with writing(self.path), self.path.open("ab") as file:
                # Nobody else is writing: what has no end was left by a process that died.
                file.truncate(self._read)
                file.write(content.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self.refresh()

    def tabulate(self, order: Iterable[str]) -> None:
        """Write summary.csv, a row for each prompt that is done. order: of the ids."""
        with turn(self.folder):
            self.refresh()
            results = [self.results[id_] for id_ in order if id_ in self.results]
            extra = dict.fromkeys(name for result in results for name in result.extra)
            names = {name: f"extra.{name}" if name in COLUMNS else name for name in extra}
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow([*COLUMNS, *names.values()])
            for result in results:
                own = [getattr(result, name) for name in COLUMNS]
                rows.writerow([*own, *(_cell(result.extra.get(name)) for name in names)])
            write(self.table, text.getvalue().encode())


def _cell(value: object) -> object:
    """Lists and objects as JSON; None as an empty cell, which csv makes of it."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return value
