"""rounds.jsonl: the finished rounds of a run, a line for each. The line makes the round exist."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from gcr.core.records import Attempt, Critique, Round, image_name
from gcr.errors import GcrError
from gcr.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import TypeAdapter

logger = logging.getLogger(__name__)

NAME = "rounds.jsonl"


class Damage(NamedTuple):
    """A line that holds no round, or not the one that belongs there. number: of the line, from 1.

    before: how many whole rounds come before it.
    """

    number: int
    problem: str
    before: int


def read(folder: Path) -> tuple[Round, ...]:
    """The rounds whose lines are whole; changes nothing. Raises GcrError for damage."""
    rounds, damage = _parsed(folder)
    if damage:
        first = damage[0]
        hint = "put the file back as it was, or start a new run"
        if first.before:
            lines = "line" if first.before == 1 else f"{first.before} lines"
            hint += f"; with its first {lines} alone this run goes on from there"
        raise GcrError(_named(folder, first), hint)
    return rounds


def readable(folder: Path) -> tuple[Round, ...]:
    """The rounds that can be read; damage is a warning. Raises GcrError where no round can be."""
    rounds, damage = _parsed(folder)
    if not rounds:
        return read(folder)
    for one in damage:
        logger.warning("%s", _named(folder, one))
    return rounds


def mend(folder: Path) -> None:
    """Cut off a last line without its end, so that the next line does not run into it.

    It never made its round exist. Only for whoever holds the run: it may be being written.
    """
    file = folder / NAME
    whole = _whole(file)
    if file.exists() and file.stat().st_size > len(whole):
        line = whole.count(b"\n") + 1
        logger.warning("%s, line %d, has no end: its round is drawn again", file, line)
        atomic.cut(file, len(whole))


def append(folder: Path, finished: Round) -> None:
    """Add a round's line; it is on the disk when this returns."""
    atomic.append(folder / NAME, _adapter().dump_json(finished) + b"\n")


def _named(folder: Path, damage: Damage) -> str:
    return f"{folder / NAME}, line {damage.number}, is damaged: {damage.problem}"


def _parsed(folder: Path) -> tuple[tuple[Round, ...], list[Damage]]:
    """The rounds that can be read, in order, and the lines that are damaged."""
    from pydantic import ValidationError

    rounds: list[Round] = []
    damage: list[Damage] = []
    for number, line in enumerate(_whole(folder / NAME).splitlines(), start=1):
        before = len(rounds)
        try:
            finished = _adapter().validate_json(line)
        except ValidationError as error:
            damage.append(Damage(number, error.errors()[0]["msg"], before))
            continue
        expected = rounds[-1].index + 1 if rounds else 0
        problem = next(_faults(finished, rounds), "")
        if not problem and (finished.index == expected or (rounds and finished.index > expected)):
            rounds.append(finished)  # what is beyond a gap can be looked at, if there is round 0
        if not problem and finished.index != expected:
            problem = f"it holds round {finished.index}, where round {expected} belongs"
        if problem:
            damage.append(Damage(number, problem, before))
    return tuple(rounds), damage


def _faults(finished: Round, before: list[Round]) -> Iterator[str]:
    """What is wrong with a round in itself, or cannot follow from those before."""
    if not finished.attempts:
        yield "its round has no images"
    known = {attempt.image for earlier in before for attempt in earlier.attempts}
    for position, attempt in enumerate(finished.attempts):
        name = image_name(finished.index, position)
        if attempt.image != name:
            yield f"it names the image {attempt.image!r}, which has to be {name}"
        if not re.fullmatch("[0-9a-f]{64}", attempt.sha256):
            yield f"it has no sha256 of {name}"
        if attempt.candidate.start and attempt.candidate.start not in known:
            yield f"{name} starts from {attempt.candidate.start!r}, which is no earlier image"
        yield from (f"{name} has {problem}" for problem in _out_of_range(attempt, attempt.critique))


def _out_of_range(attempt: Attempt, critique: Critique) -> Iterator[str]:
    """Numbers of an attempt that cannot be. Written so that NaN is none."""
    scores: list[tuple[str, float | None, float, float]] = [
        ("a score", critique.overall, 0.0, 1.0),
        ("a spread", critique.spread, 0.0, 1.0),
        ("a strength", attempt.candidate.strength, 0.0, 1.0),
        ("drawing seconds", attempt.draw_seconds, 0.0, float("inf")),
        ("judging seconds", attempt.judge_seconds, 0.0, float("inf")),
    ]
    scores += [(f"a score of {a.aspect}", a.score, 1.0, 4.0) for a in critique.aspects]
    scores += [("a probability", r.chance, 0.0, 1.0) for r in critique.requirements]
    for what, value, low, high in scores:
        if value is not None and not low <= value <= high:
            yield f"{what} of {value:g}, which is not in {low:g}-{high:g}"
    count = len(critique.requirements)
    if any(not 0 <= needed < count for r in critique.requirements for needed in r.needs):
        yield "a requirement that needs one that is not there"


def _whole(file: Path) -> bytes:
    if not file.exists():
        return b""
    content = atomic.read(file)
    return content[: content.rfind(b"\n") + 1]


@cache
def _adapter() -> TypeAdapter[Round]:
    from pydantic import TypeAdapter

    return TypeAdapter(Round)
