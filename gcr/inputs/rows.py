"""A row of a prompt file, whatever its format, and its columns as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time

from gcr.core.phrases import nearest
from gcr.files.structured import MOST_DEPTH, is_text, too_deep

PROMPT = (
    "prompt",
    "prompts",
    "prompt_en",
    "prompt_zh",
    "prompt_cn",
    "text",
    "caption",
    "instruction",
    "superficial_prompt",
    "reason_prompt",
    "short_description",
    "long_description",
)
"""What published files call the column of the prompts; the first of these is taken."""

MOST_ROWS = 1_000_000
"""Of a file."""
MOST_COLUMNS = 1000
MOST_CHARACTERS = 1 << 20
"""Of one cell."""

UTF8 = "save it as UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        source: the file's name, as the user gave it.
        line: where the row starts, from 1; 0 in a format without lines.
        content: the row's columns, or its text; anything else is no prompt.
        fault: why the row cannot be read; empty for a row that can.
        hint: what to do about the fault.
    """

    source: str
    line: int
    content: object = None
    fault: str = ""
    hint: str = ""


class BadRowError(ValueError):
    """A row that is no prompt.

    Attributes:
        reason: what is wrong with it.
        hint: what to do about it.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def column_of(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column that has the first of the names, ignoring case; None: no column has any.

    names: in lower case.
    """
    by_name = {column.strip().casefold(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def no_prompt(columns: Sequence[str], prompt_names: Sequence[str] = PROMPT) -> tuple[str, str]:
    """What is wrong with columns of which none holds prompts, and what to do about it."""
    shown = ", ".join(repr(name[:60]) for name in columns[:12])
    shown += ", …" if len(columns) > 12 else ""
    by_hand = prompt_names is not PROMPT
    message = f"no column {prompt_names[0]!r}" if by_hand else "no column of prompts"
    hint = "" if by_hand else f"it can be called {', '.join(PROMPT)}; --column names any other"
    for name in columns[:MOST_COLUMNS]:
        if similar := nearest(name[:60].strip(), prompt_names):
            hint = f"is {name[:60]!r} meant to be {similar!r}? {hint}".strip()
            break
    hint = hint or "--column takes the name of a column, as the file has it"
    return f"{message}; there is {shown or 'none at all'}", hint


def columns_of(content: object, prompt_names: Sequence[str]) -> dict[str, object]:
    """The columns of a row as JSON values; a row that is a text has its prompt alone.

    prompt_names: what the column of the prompts can be called.
    Raises BadRowError.
    """
    if isinstance(content, str):
        content = {prompt_names[0]: content}
    if not isinstance(content, dict):
        hint = "a prompt is a text, or an object with a prompt in it"
        raise BadRowError(f"{kind(content)} is no prompt", hint)
    if len(content) > MOST_COLUMNS:
        raise BadRowError(f"{len(content)} columns", f"{MOST_COLUMNS} are the most")
    return {str(_json(name, 0)): _json(value, 0) for name, value in content.items()}


def _json(value: object, depth: int) -> object:
    """A value as JSON: dates and the like as text, NaN and infinity as None.

    depth: how many lists and objects it is in.
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
    """What messages call a value that is not a text."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    return "an object" if isinstance(value, dict) else "a list"
