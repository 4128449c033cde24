"""What the user thinks of a run's images: `ratings.jsonl` in its folder, to which lines are added.

The last line of an image counts. Nothing that gcr draws or scores depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from gcr.errors import UsageError
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.storage import runfolder

NAME = "ratings.jsonl"
Value = Literal["keep", "discard", 1, 2, 3, 4, 5]
STARS = {"discard": 1, "keep": 5}
"""What counts as how many stars where images are put in order."""
HINT = "rate with 1 to 5, keep or discard; none takes a rating back"


@dataclass(frozen=True, slots=True)
class Rating:
    """A rating of one image.

    Attributes:
        image: its file's name in the run's folder.
        value: 1 to 5, `keep` or `discard`; None: an earlier one is taken back.
        sha256: of the file that was rated.
        when: in ISO 8601.
    """

    image: str
    value: Value | None
    sha256: str = ""
    when: str = ""

    @property
    def stars(self) -> int:
        """From 1 to 5; 0 for none."""
        return STARS.get(str(self.value), 0) or int(self.value or 0)

    def __str__(self) -> str:
        return str(self.value) if self.value in STARS else f"{self.value} of 5"


def value_of(text: str) -> Value | None:
    """A rating as people write it; None takes one back. Raises UsageError for anything else."""
    values: dict[str, Value | None] = {"keep": "keep", "discard": "discard", "none": None}
    values |= {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
    try:
        return values[text.strip().lower()]
    except KeyError:
        raise UsageError(f"{text!r} is no rating", HINT) from None


def rate(folder: Path, image: str, value: Value | None) -> Rating:
    """Add a rating to a run's folder, also while somebody is at work there.

    image: its file's name; `best.png` means the image that it is a copy of.
    Raises UsageError where the run has no such image, GcrError where nothing can be written.
    """
    attempt = runfolder.attempt(folder, runfolder.load_run(folder), image)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    rating = Rating(attempt.image, value, attempt.sha256, now)
    with turn(folder):
        _log(folder).append(json.dumps(asdict(rating)).encode())
    return rating


def read(folder: Path) -> Mapping[str, Rating]:
    """The ratings of a run, by the names of its images. Raises GcrError for a damaged line."""
    ratings: dict[str, Rating] = {}

    def take(line: bytes, _: int) -> None:
        rating = Rating(**json.loads(line))
        if not isinstance(rating.image, str):
            raise TypeError(f"a rating of {rating.image!r}")
        if rating.value is not None:
            # By its type, too: to Python, true is 1.
            if (rating.value, type(rating.value)) not in [(v, type(v)) for v in get_args(Value)]:
                raise ValueError(f"a rating of {rating.value!r}")
            ratings[rating.image] = rating
        else:
            ratings.pop(rating.image, None)

    _log(folder).read(take)
    return ratings


def top(ratings: Mapping[str, Rating]) -> Rating | None:
    """The best of them, and of equals the earliest image's."""
    best_first = sorted(ratings.values(), key=lambda rating: (-rating.stars, rating.image))
    return best_first[0] if best_first else None


def _log(folder: Path) -> JsonLines:
    return JsonLines(folder / NAME, "take that line out, or put the file back as it was")
