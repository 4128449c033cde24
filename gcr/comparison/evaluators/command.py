"""command: the user's own program as an evaluator.

It gets a line of JSON with id, prompt and image (a path) for each image on its stdin, and prints
for each a number, in the same order, or a line of JSON with id and score, in any order.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from gcr.core.records import Evaluator, Sample
from gcr.errors import GcrError
from gcr.files import structured

HINT = "it is to print a number, or a line of JSON with id and score, for each line that it reads"


class Command(Evaluator):
    """A command line of the shell, run once for all images."""

    takes = "LINE"

    @classmethod
    def load(cls, argument: str) -> Command:
        return cls(argument)

    def __init__(self, line: str) -> None:
        self._line = line

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        """Raises GcrError for a program that fails, or that prints other than a score for each."""
        with tempfile.TemporaryFile() as complaints:
            # A shell, because the line is the user's own, as they would type it.
            process = subprocess.Popen(  # noqa: S602
                self._line,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,  # what the shell starts is ended with it
            )
            # From a thread: a program that prints while it reads would otherwise wait for us to
            # read while we wait for it to.
            teller = threading.Thread(target=_tell, args=(process.stdin, samples), daemon=True)
            with process:
                try:
                    teller.start()
                    yield from self._scores(process, samples, complaints)
                finally:
                    _end(process)
                    teller.join()  # it closes the pipe, which fails where nobody reads

    def _scores(
        self, process: subprocess.Popen[bytes], samples: Sequence[Sample], complaints: IO[bytes]
    ) -> Iterator[tuple[str, float]]:
        waiting = {sample.id: None for sample in samples}
        for line in process.stdout or ():
            if line.strip():
                id_, score = self._read(line.decode(errors="replace").strip(), waiting)
                del waiting[id_]
                yield id_, score
        if code := process.wait():
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()
            last = f": {said[-1]}" if said else ""
            raise GcrError(f"the evaluator ended with exit code {code}{last}", self._line)
        if waiting:
            scored = f"{len(samples) - len(waiting)} of {len(samples)}"
            raise GcrError(f"the evaluator scored {scored} images", HINT)

    def _read(self, line: str, waiting: Iterable[str]) -> tuple[str, float]:
        """The id and score of a line. waiting: ids of the images without a score, in order."""
        expected = next(iter(waiting), None)
        if expected is None:
            raise GcrError(f"the evaluator printed more than a score for each: {line!r}", HINT)
        try:
            return expected, float(line)
        except ValueError:
            pass  # not a number alone, so it has to be an object
        try:
            found: Any = structured.parse_json(line)
            id_, score = str(found["id"]), float(found["score"])
        except (KeyError, TypeError, ValueError) as error:
            raise GcrError(f"the evaluator printed what is no score: {line!r}", HINT) from error
        if id_ not in waiting:
            raise GcrError(f"the evaluator scored {id_!r}, which is not asked for (any more)", HINT)
        return id_, score


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended


def _tell(stdin: IO[bytes], samples: Sequence[Sample]) -> None:
    """Write a line for each image."""
    try:
        with stdin:
            for sample in samples:
                told = {
                    "id": sample.id,
                    "prompt": sample.prompt,
                    "image": str(sample.image.resolve()),
                }
                stdin.write(json.dumps(told).encode() + b"\n")
    except BrokenPipeError:
        # It reads no more. Whether that is a failure, its exit code and its lines say.
        return
