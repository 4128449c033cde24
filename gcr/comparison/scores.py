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
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.inputs import source

if TYPE_CHECKING:
    from pathlib import Path

NAME = "scores.jsonl"


@dataclass(frozen=True, slots=True)
class Key:
    """What a score is of.

    Attributes:
        evaluator: its name, as the command line gives it.
        prompt: the words that the image was measured against.
        image: sha256 of its pixels.
        columns: those of the prompt's row that the evaluator reads, as JSON; empty: it reads none.
    """

    evaluator: str
    prompt: str
    image: str
    columns: str = ""


class Scores:
    """The scores in a folder.

    Attributes:
        all: those that are on disk; None where there was nothing to measure.

    Raises GcrError for a damaged line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = JsonLines(folder / NAME, "remove the line: its image is then measured again")
        self.all: dict[Key, float | None] = {}
        with turn(folder):
            self._log.read(self._take)

    def add(self, key: Key, score: float | None) -> None:
        """Write a score down. Raises GcrError for one that is not a finite number."""
        if score is not None and not math.isfinite(score):
            raise GcrError(
                f"the evaluator {key.evaluator} scored an image {score}",
                f"the prompt was {key.prompt!r}; nothing can be compared with that",
            )
        named = {name: value for name, value in asdict(key).items() if value or name != "columns"}
        line = json.dumps({**named, "score": score}, ensure_ascii=False)
        with turn(self._folder):
            self._log.append(line.encode())
        self.all[key] = score

    def _take(self, line: bytes, _number: int) -> None:
        record = structured.parse_record(line)
        score = record.pop("score")
        if score is not None and not math.isfinite(score := float(score)):
            raise ValueError(f"a score of {score}")
        self.all[Key(**record)] = score


def pixels(path: Path) -> str:
    """What an image is known by. Raises GcrError for a file that holds none."""
    try:
        with imagefile.opened(path) as image:
            return source.digest(image.convert("RGB"))
    except (OSError, *imagefile.DAMAGE) as error:
        message = f"{path} cannot be read: {error}"
        raise GcrError(message, "put the file back, or start a new comparison") from error
