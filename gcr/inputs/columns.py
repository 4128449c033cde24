"""What a row holds as JSON values: a prompt file can hold anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, time

from gcr.files.structured import MOST_DEPTH, is_text, too_deep
from gcr.inputs.rows import MOST_CHARACTERS, MOST_COLUMNS


class BadRowError(ValueError):
    """A row that is no prompt, and what to do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def columns_of(content: object, known: Sequence[str]) -> dict[str, object]:
    """The columns of a row, whose text alone is its prompt. Raises BadRowError.

    known: names of the column of the prompts.
    """
    if isinstance(content, str):
        content = {known[0]: content}
    if not isinstance(content, dict):
        hint = "a prompt is a text, or an object with a prompt in it"
        raise BadRowError(f"{kind(content)} is no prompt", hint)
    if len(content) > MOST_COLUMNS:
        raise BadRowError(f"{len(content)} columns", f"{MOST_COLUMNS} are the most")
    return {str(_json(name, 0)): _json(value, 0) for name, value in content.items()}


def _json(value: object, depth: int) -> object:
    """A value as JSON can say it: dates and the like as text, a number that is none as None.

    depth: of lists and objects that it is in.
    """
    if depth > MOST_DEPTH:
        raise BadRowError(too_deep(), "write it flatter")
    if isinstance(value, dict):
        return {str(_json(k, depth + 1)): _json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner, depth + 1) for inner in value]
    if isinstance(value, set):
        return sorted(str(_json(inner, depth + 1)) for inner in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and not is_text(value):
        raise BadRowError("a character that no text has", "remove its \\u escape")
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        most = f"{MOST_CHARACTERS} are the most"
        raise BadRowError(f"a text of {len(value)} characters", most)
    if value is None or isinstance(value, str | int):
        return value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def kind(value: object) -> str:
    """What a person calls a value that is no text."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    return "an object" if isinstance(value, dict) else "a list"
