"""What came of the prompts of a batch: a line for each in summary.jsonl, and a table at the end.

Several processes may add lines; each line is whole, because they take turns. Where a prompt that
failed is tried again, its later line counts, and when a process ends, the earlier ones are removed:
then there is one line for each prompt.
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
from gcr.core.records import Result, StopReason
from gcr.errors import GcrError
from gcr.files import structured
from gcr.files.atomic import append, read, reading, sweep, write
from gcr.files.locks import turn

if TYPE_CHECKING:
    from pathlib import Path

    from gcr.core.records import Run
    from gcr.inputs.jobs import Job


logger = logging.getLogger(__name__)


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
        noise=round(margin(attempts), 6),
        untrusted=quoted(run.untrusted) if run else "",
        extra=job.extra,
    )


COLUMNS = tuple(column.name for column in fields(Result) if column.name != "extra")


class Summary:
    """The summary of a batch folder, as far as it was read.

    results: the last line of each prompt, by its id.
    tolerant: whether a damaged line is left out with a warning, for who only looks at the rest.
    """

    def __init__(self, folder: Path, *, tolerant: bool = False) -> None:
        self.folder = folder
        self.path = folder / "summary.jsonl"
        self.table = folder / "summary.csv"
        self.results: dict[str, Result] = {}
        self._tolerant = tolerant
        self._read = 0  # bytes
        self._ids: list[str] = []  # of the prompts of the lines that were read
        self._last = b""  # of these lines

    def refresh(self) -> None:
        """Read what was added since the last time, by whomever. Raises GcrError for damage."""
        if not self.path.exists():
            return
        # Opened first: what another machine wrote to a network file system is seen from then on.
        with reading(self.path) as file:
            file.seek(self._read - len(self._last))
            if file.read(len(self._last)) != self._last:  # lines were removed since
                self._ids, self._read, self._last = [], 0, b""
                file.seek(0)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        found: dict[str, Result] = {}
        for self._last in whole.splitlines(keepends=True):
            if result := self._result(self._last, len(self._ids) + 1):
                found[result.id] = result
            self._ids.append(result.id if result else "")
        # One that was known stays the same object: that tells it from one that is new.
        known = self.results
        self.results |= {i: one for i, one in found.items() if known.get(i) != one}
        self._read += len(whole)

    def _result(self, line: bytes, number: int) -> Result | None:
        """What a line says; None for a damaged one, where that is no error."""
        try:
            return _checked(structured.parse_record(line))
        except (TypeError, ValueError) as error:
            message = f"{self.path}, line {number}, is a damaged line: {error}"
            if self._tolerant:
                logger.warning("%s", message)
                return None
            hint = "remove the line: its prompt is then looked at again"
            raise GcrError(message, hint) from error

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
            # Nobody else is writing: what has no end was left by a process that died.
            append(self.path, content.encode() + b"\n", after=self._read)
            self.refresh()

    def tabulate(self, order: Iterable[str]) -> None:
        """Leave one line for each prompt, and write summary.csv, a row for each prompt that is
        done. order: of the ids.
        """
        with turn(self.folder):
            self.refresh()
            sweep(self.folder, r"summary\.(?:csv|jsonl)|batch\.json")
            self._remove_earlier()
            results = [self.results[id_] for id_ in order if id_ in self.results]
            extra = dict.fromkeys(name for result in results for name in result.extra)
            names = {name: f"extra.{name}" if name in COLUMNS else name for name in extra}
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow([*COLUMNS, *map(cell, names.values())])
            for result in results:
                own = [getattr(result, name) for name in COLUMNS]
                own += [_as_json(result.extra.get(name)) for name in names]
                rows.writerow(map(cell, own))
            write(self.table, text.getvalue().encode())

    def _remove_earlier(self) -> None:
        """Remove the lines of prompts that have a later one. Only in turn."""
        last = {id_: place for place, id_ in enumerate(self._ids) if id_}
        kept = [place for place, id_ in enumerate(self._ids) if last.get(id_, place) == place]
        if len(kept) < len(self._ids):
            lines = read(self.path)[: self._read].splitlines(keepends=True)
            write(self.path, b"".join(lines[place] for place in kept))
            self.refresh()


def _checked(values: Any) -> Result:
    """Raises TypeError and ValueError for what is no result, or leads out of its batch."""
    result = Result(**values)
    texts = (result.id, result.prompt, result.folder, result.stop, result.best_image)
    counts = (result.seed, result.rounds, result.images)
    if not all(isinstance(text, str) for text in (*texts, result.failure)):
        raise TypeError("a text is missing")
    if not all(isinstance(count, int) for count in counts):
        raise TypeError("a number is missing")
    if not (isinstance(result.seconds, int | float) and isinstance(result.extra, Mapping)):
        raise TypeError("seconds or columns are missing")
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
