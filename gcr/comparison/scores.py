"""The scores of evaluators on disk, each as soon as it is known: scores.jsonl.

An image is known by its pixels, so that one that several arms share is measured once.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gcr.errors import GcrError
from gcr.files import imagefile, structured
from gcr.files.atomic import append, cut
from gcr.files.locks import turn
from gcr.inputs import source

if TYPE_CHECKING:
    from pathlib import Path

NAME = "scores.jsonl"


@dataclass(frozen=True, slots=True)
class Key:
    """What a score is of. evaluator: as it was asked for. image: sha256 of its pixels."""

    evaluator: str
    prompt: str
    image: str


class Scores:
    """The scores in a folder. all: as they are on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self.all: dict[Key, float] = {}
        with turn(folder):
            self._read()

    def add(self, key: Key, score: float) -> None:
        """Write one down. Raises GcrError for one that is no finite number."""
        if not math.isfinite(score):
            raise GcrError(
                f"the evaluator {key.evaluator} scored an image {score}",
                f"the prompt was {key.prompt!r}; nothing can be compared with that",
            )
        line = json.dumps({**asdict(key), "score": score}, ensure_ascii=False)
        with turn(self._folder):
            append(self._path, line.encode() + b"\n")
        self.all[key] = score

    def _read(self) -> None:
        if not self._path.exists():
            return
        content = structured.content(self._path, structured.RECORD_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # left by a process that died
            cut(self._path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = structured.parse_record(line)
                score = float(record.pop("score"))
                if not math.isfinite(score):
                    raise ValueError(f"a score of {score}")  # noqa: TRY301 - as for any other
                self.all[Key(**record)] = score
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                hint = "remove the line: its image is then measured again"
                message = f"{self._path}, line {number}, is a damaged line: {error}"
                raise GcrError(message, hint) from error


def pixels(path: Path) -> str:
    """What an image is known by. Raises GcrError for a file that holds none."""
    try:
        with imagefile.opened(path) as image:
            return source.digest(image.convert("RGB"))
    except (OSError, *imagefile.DAMAGE) as error:
        message = f"{path} cannot be read: {error}"
        raise GcrError(message, "put the file back, or start a new comparison") from error
