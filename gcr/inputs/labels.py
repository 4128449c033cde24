"""Images that people or a program have judged, read from the files of published sets.

A row is two images of one prompt and which of them is better, or one image and its score:

    set                  first, second                        label
    MMRB2                response_a_images, response_b_images chosen: A, B
    MMRB2, as built      response_a, response_b               chosen or human_preference
    GenAI-Bench          left_image, right_image              vote_type: leftvote, rightvote,
                                                              tievote, bothbad_vote
    GenAI-Bench, edits   left_output_image, right_output_…    the same
    Pick-a-Pic           jpg_0, jpg_1                         label_0, label_1: 1 and 0, or 0.5 each
    preference pairs     chosen, rejected                     the names themselves
    RichHF-18K           image, filename                      overall_score

An image is a path beside the file, or bytes as Parquet files hold them. Nothing is fetched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gcr.core.records import Preference
from gcr.errors import UsageError
from gcr.files import imagefile, paths
from gcr.inputs import rows, source
from gcr.inputs.promptfile import Skipped
from gcr.inputs.rows import PROMPT, BadRowError, Row, column_of, kind

FILES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".yaml", ".yml")
PROMPTS = ("prompt_text", "prompt_content", "instruct_prompt", *PROMPT)
PAIRS = (
    ("response_a_images", "response_b_images"),
    ("response_a", "response_b"),
    ("left_image", "right_image"),
    ("left_output_image", "right_output_image"),
    ("jpg_0", "jpg_1"),
    ("image_0", "image_1"),
    ("candidate_1", "candidate_2"),
    ("image_a", "image_b"),
    ("image_1", "image_2"),
    ("first", "second"),
)
"""What columns of two images are called."""
RANKED = ("chosen", "rejected")
"""Columns of two images of which the first is better."""
SINGLES = ("image", "image_path", "file_name", "filename", "path", "jpg")
SOURCES = ("prompt_images", "source_image", "source")
"""What an edit began with."""
LABELS = ("chosen", "human_preference", "vote_type", "preference", "winner", "better", "label")
NUMBERS = (("label_0", "label_1"), ("score_a", "score_b"), ("score_1", "score_2"))
"""How good each image of a pair is."""
SCORES = ("score", "overall_score", "overall", "rating", "human_score", "truth", "mos", "label")
IMAGES = (*(name for pair in PAIRS for name in pair), *RANKED, *SINGLES, *SOURCES)
"""Columns that may hold images as bytes."""

_SIDES = {
    **dict.fromkeys(("a", "left", "leftvote", "first", "image a", "1", "response_a"), 1),
    **dict.fromkeys(("b", "right", "rightvote", "second", "image b", "2", "response_b"), 2),
    **dict.fromkeys(("tie", "tievote", "bothbad_vote", "both", "neither", "equal", "a=b"), 0),
}
_PREFERENCES = {1: Preference.FIRST, 2: Preference.SECOND, 0: Preference.TIE}
FORMS = (
    "two images with a label, such as left_image, right_image, vote_type; or one with a score, "
    "such as image, score"
)
GO_ON = "--skip-bad goes on without such rows"
EDITED = "edited"
"""What requests call the image that they edit: it has no file in a folder of ours."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a row. content: a path, or the bytes of a file. name: for messages, distinct."""

    content: Path | bytes
    name: str

    def file_bytes(self) -> bytes:
        """What the file holds."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content

    def read(self) -> Any:
        """The image in RGB. Raises UsageError for what is none."""
        if isinstance(self.content, Path):
            return source.read(self.content, option="")
        file = io.BytesIO(self.content)
        with source.readable(self.name), imagefile.decoded(file) as image:
            return source.read(image, option="")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row: images of one prompt, and what somebody thinks of them.

    place: where it was read. pictures: one or two. edited: what they are edits of, if so.
    preference: which of two is better. score: of the only one; larger is better.
    """

    place: str
    prompt: str
    pictures: tuple[Picture, ...]
    edited: Picture | None = None
    preference: Preference | None = None
    score: float | None = None


class Labels(NamedTuple):
    """What was read. unlabelled: rows that have no label, as some of Pick-a-Pic."""

    rows: list[Labelled]
    skipped: list[Skipped]
    unlabelled: int


class _UnlabelledError(ValueError):
    """A row whose label is empty."""


def read(
    place: Path | str, *, label: str = "", most: int | None = None, skip_bad: bool = False
) -> Labels:
    """Read a file, or all files of one kind in a folder.

    Arguments:
        place: of a kind in FILES.
        label: the column of the labels; empty: one that has a usual name.
        most: rows to take, evenly spread; None: all.
        skip_bad: leave out rows that cannot be used; without it they are an error.

    Raises UsageError, which names the rows.
    """
    files = _files(paths.expanded(place), str(place))
    total = sum(1 for file in files for _ in _rows(file, images=())) if most else 0
    labels = Labels([], [], 0)
    unlabelled = number = 0
    for file in files:
        for row_number, row in enumerate(_rows(file, images=IMAGES), 1):
            number += 1
            if most and number * most // total == (number - 1) * most // total:
                continue
            try:
                labels.rows.append(_labelled(row, row_number, file.parent, label.casefold()))
            except _UnlabelledError:
                unlabelled += 1
            except BadRowError as bad:
                labels.skipped.append(Skipped(row.source, row_number, row.line, bad.reason))
    if labels.skipped and not skip_bad:
        first = "; ".join(f"{bad.place}: {bad.reason}" for bad in labels.skipped[:3])
        more = f"; and {len(labels.skipped) - 3} more" if len(labels.skipped) > 3 else ""
        raise UsageError(f"{first}{more}", f"rows are {FORMS}; {GO_ON}")
    if not labels.rows:
        raise UsageError(f"no row of {place} can be used", f"rows are {FORMS}")
    return labels._replace(unlabelled=unlabelled)


def _files(path: Path, name: str) -> list[Path]:
    if not paths.is_folder(path):
        if not paths.exists(path):
            raise UsageError(f"no file {name!r}", "name a file of labels, or a folder with one")
        if path.suffix.lower() not in FILES:
            raise UsageError(
                f"{name}: a file of labels is known by its ending", f"one of {', '.join(FILES)}"
            )
        return [path]
    here = sorted(each for each in path.iterdir() if each.suffix.lower() in FILES)
    if not here:
        raise UsageError(
            f"no labels in the folder {name}", f"a file of labels is {', '.join(FILES)}"
        )
    if len({each.suffix for each in here}) > 1 or (len(here) > 1 and here[0].suffix != ".parquet"):
        listed = ", ".join(each.name for each in here[:8])
        raise UsageError(f"{name} holds several files: {listed}", "name the one with the labels")
    return here


def _rows(file: Path, images: Sequence[str]) -> Iterator[Row]:
    """The rows of a file; those of MMRB2's JSON are in a list of their own."""
    for row in rows.read(file, PROMPTS, images):
        pairs = row.content.get("pairs") if isinstance(row.content, dict) else None
        if isinstance(pairs, list):
            yield from (Row(row.source, 0, pair) for pair in pairs)
        else:
            yield row


def _labelled(row: Row, number: int, folder: Path, label: str) -> Labelled:
    """A row in our own form. Raises BadRowError and _UnlabelledError."""
    if row.fault:
        raise BadRowError(row.fault, row.hint)
    if not isinstance(row.content, dict):
        raise BadRowError(f"{kind(row.content)} is no row of labels", FORMS)
    columns = {str(name).strip().casefold(): value for name, value in row.content.items()}
    if label and label not in columns:
        raise BadRowError(f"no column {label!r}", FORMS)
    if columns.get("has_label") is False:
        raise _UnlabelledError
    place = rows.place(row.source, row.line, number)
    prompt = _prompt(columns)
    names = _image_columns(columns)
    pictures = tuple(_picture(columns[name], place, name, folder) for name in names)
    edited = _edited(columns, place, folder)
    if len(pictures) == 1:
        score = _score(columns, label)
        return Labelled(place, prompt, pictures, edited, score=score)
    preference = Preference.FIRST if names == RANKED else _preference(columns, label)
    return Labelled(place, prompt, pictures, edited, preference)


def _prompt(columns: Mapping[str, Any]) -> str:
    name = column_of(columns, PROMPTS)
    value = columns[name] if name else None
    if isinstance(value, list):  # parts of text and image, as in MMRB2's JSON
        value = "\n".join(_parts(value, "text"))
    if not isinstance(value, str) or not value.strip():
        raise BadRowError("it has no prompt", "a column of texts is called prompt, or as usual")
    return value.strip()


def _parts(content: object, wanted: str) -> list[str]:
    """The texts or the paths of images among parts such as ["image", "images/a.jpg"]."""
    pairs = content if isinstance(content, list) else []
    two = [part for part in pairs if isinstance(part, list | tuple) and len(part) == 2]
    return [str(value) for name, value in two if name == wanted]


def _image_columns(columns: Mapping[str, Any]) -> tuple[str, ...]:
    for names in (*PAIRS, RANKED):
        if all(name in columns for name in names):
            return names
    name = column_of(columns, SINGLES)
    if name is None:
        listed = ", ".join(list(columns)[:12])
        raise BadRowError(f"no columns of images are among {listed}", FORMS)
    return (name,)


def _picture(value: Any, place: str, column: str, folder: Path) -> Picture:
    """The image in a cell. Raises BadRowError, also for what is none."""
    if isinstance(value, dict) and "response_content" in value:
        value = _parts(value["response_content"], "image")
    if isinstance(value, list):
        if len(value) != 1:
            raise BadRowError(f"{len(value)} images in one place", "gcr judges one at a time")
        (value,) = value
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if not value:
        raise BadRowError(f"{column} is empty", "name an image file")
    if isinstance(value, str):
        if "://" in value:
            raise BadRowError(f"{column} is on the net", "fetch the images first")
        value = folder / paths.expanded(value)
    if not isinstance(value, bytes | Path):
        raise BadRowError(f"{column} is {kind(value)}", "an image is a path, or bytes")
    picture = Picture(value, str(value) if isinstance(value, Path) else f"{place}, {column}")
    try:
        picture.read()
    except UsageError as error:
        raise BadRowError(error.message.replace(f"{place}, ", ""), error.hint) from error
    return picture


def _edited(columns: Mapping[str, Any], place: str, folder: Path) -> Picture | None:
    name = column_of(columns, SOURCES)
    value = columns[name] if name else _parts(columns.get("prompt_content"), "image")
    return _picture(value, place, name or "prompt_content", folder) if value else None


def _preference(columns: Mapping[str, Any], label: str) -> Preference:
    for first, second in () if label else NUMBERS:
        if first in columns and second in columns:
            a, b = (_number(columns[name], name) for name in (first, second))
            return _PREFERENCES[0 if a == b else 1 if a > b else 2]
    name = label or column_of(columns, LABELS)
    if name is None:
        raise BadRowError("it says nowhere which image is better", "--label names the column")
    value = columns[name]
    if value is None or not str(value).strip():
        raise _UnlabelledError
    side = _SIDES.get(" ".join(str(value).split()).casefold())
    if side is None:
        raise BadRowError(f"{name} is {str(value)[:40]!r}", "it is first, second or tie")
    return _PREFERENCES[side]


def _score(columns: Mapping[str, Any], label: str) -> float:
    name = label or column_of(columns, SCORES)
    if name is None:
        raise BadRowError("it says nowhere how good the image is", "--label names the column")
    return _number(columns[name], name)


def _number(value: Any, name: str) -> float:
    if value is None or value == "":
        raise _UnlabelledError
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRowError(f"{name} is {str(value)[:40]!r}", "a score is a number")
    return number


def prompts_of(rows: Iterable[Labelled]) -> list[str]:
    """The distinct prompts, in order."""
    return list(dict.fromkeys(row.prompt for row in rows))
