"""What came of the prompts of a batch: a line for each in summary.jsonl, and a table at the end.

Several processes may add lines, taking turns. Where a prompt that failed is tried again, its later
line counts; when a process ends, earlier ones are removed, which leaves one line for each prompt.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gcr.core.phrases import quoted
from gcr.core.plaintext import cell
from gcr.core.ranking import best_scored, margin
from gcr.core.records import Result, StopReason, best_name
from gcr.files import structured
from gcr.files.atomic import sweep, write
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.storage.runfolder import MOST_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from gcr.core.records import Run
    from gcr.inputs.jobs import Job
    from gcr.storage.batchfolder import BatchFolder


logger = logging.getLogger(__name__)


def result_of(job: Job, path: str, run: Run | None, failure: str) -> Result:
    """The line for one prompt.

    Arguments:
        job: the prompt.
        path: of the run's folder, relative to the batch's.
        run: as far as it got; None: it never began.
        failure: why it did not end well; empty where it did.
    """
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
        best_image=f"{path}/{best_name(best)}" if best else "",
        rounds=len(run.rounds) if run else 0,
        images=len(attempts),
        seconds=round(run.seconds if run else 0.0, 3),
        failure=failure,
        noise=round(margin(attempts), 6),
        untrusted=quoted(run.untrusted) if run else "",
        extra=job.extra,
    )


MOST_NOISE = 4.0
"""More than the margin of a critic whose scores, 0-1, spread as far as they can."""
COLUMNS = tuple(column.name for column in fields(Result) if column.name != "extra")


class Summary:
    """The summary of a batch folder, as far as it was read.

    Arguments:
        folder: of the batch.
        tolerant: leave damaged lines out with a warning, for readers who only look at the rest.

    Attributes:
        results: the last line of each prompt, by its id.
    """

    def __init__(self, folder: Path, *, tolerant: bool = False) -> None:
        self.folder = folder
        self.path = folder / "summary.jsonl"
        self.table = folder / "summary.csv"
        self.results: dict[str, Result] = {}
        self._tolerant = tolerant
        self._log = JsonLines(self.path, "remove the line: its prompt is then looked at again")
        self._lines: dict[str, int] = {}  # the number of each result's line

    def refresh(self) -> None:
        """Read what any process added since the last time. Raises GcrError for damage."""
        for error in self._log.read(self._take, tolerant=self._tolerant):
            logger.warning("%s", error.message)

    def _take(self, line: bytes, number: int) -> None:
        result = _checked(structured.parse_record(line))
        self._lines[result.id] = number
        # An equal result stays the same object: callers tell new results by identity.
        if self.results.get(result.id) != result:
            self.results[result.id] = result

    def left(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that are not done as of now, failed ones among them."""
        self.refresh()
        done = {id_ for id_, result in self.results.items() if not result.failure}
        return [job for job in jobs if job.id not in done]

    def add(self, result: Result) -> None:
        """Write the line of a prompt that is done; a line that is there already is not repeated."""
        with turn(self.folder):
            self.refresh()
            if self.results.get(result.id) == result:
                return
            line = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False)
            self._log.append(line.encode())
            self.refresh()

    def tabulate(self, order: Iterable[str]) -> None:
        """Leave one line for each prompt, and write summary.csv: a row for each that is done.

        order: the ids of all prompts.
        """
        with turn(self.folder):
            self.refresh()
            sweep(self.folder, r"summary\.(?:csv|jsonl)|batch\.json")
            if len(self._lines) < self._log.count:  # some prompt was tried again
                self._log.keep(self._lines.values())
                self.refresh()
            results = [self.results[id_] for id_ in order if id_ in self.results]
            extra = dict.fromkeys(name for result in results for name in result.extra)
            names = {name: f"extra.{name}" if name in COLUMNS else name for name in extra}
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow([*COLUMNS, *map(cell, names.values())])
            for result in results:
                values = [getattr(result, name) for name in COLUMNS]
                values += [_as_json(result.extra.get(name)) for name in names]
                rows.writerow(map(cell, values))
            write(self.table, text.getvalue().encode())


def of_batch(batch: BatchFolder) -> list[Result]:
    """What came of the prompts of a batch that are done, in order; a damaged line is a warning."""
    summary = Summary(batch.path, tolerant=True)
    summary.refresh()
    return [summary.results[job.id] for job in batch.jobs if job.id in summary.results]


def _checked(values: Any) -> Result:
    """A line as a result.

    Raises TypeError and ValueError for what is no result, or leads out of its batch.
    """
    result = Result(**values)
    texts = (result.id, result.prompt, result.folder, result.best_image, result.untrusted)
    counts = (result.seed, result.rounds, result.images)
    if not all(isinstance(text, str) for text in (*texts, result.failure)):
        raise TypeError("a text is missing")
    if not all(isinstance(count, int) for count in counts):
        raise TypeError("a number is missing")
    if not isinstance(result.extra, Mapping):
        raise TypeError("columns are missing")
    StopReason(result.stop)  # raises ValueError for anything else
    if not 0 <= result.seconds <= MOST_SECONDS:
        raise ValueError(f"seconds of {result.seconds}")
    if not 0 <= result.noise <= MOST_NOISE:
        raise ValueError(f"a noise of {result.noise}")
    for score in (result.raw, result.best):
        if score is not None and not 0 <= score <= 1:
            raise ValueError(f"a score of {score}, which is not in 0-1")
    for path in (result.folder, result.best_image):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"the path {path!r} leads out of the batch")
    return result


def _as_json(value: object) -> object:
    """Lists and objects as JSON; None as an empty cell, which csv makes of it."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return value
