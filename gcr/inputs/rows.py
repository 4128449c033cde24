"""What all formats of prompt files share: rows, lines, and the name of the prompt's column."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    source: the file's name as given.
    line: where the row starts, from 1; 0 in a format without lines.
    content: the row's columns, or its text; whatever else a file may hold is no prompt.
    fault: why the row cannot be read; empty for one that can. hint: what to do about it.
    """

    source: str
    line: int
    content: object = None
    fault: str = ""
    hint: str = ""


def column_of(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The column that has the first of the known names, ignoring case; None: no column has any."""
    found = {name.strip().casefold(): name for name in reversed(list(names))}
    return next((found[name] for name in known if name in found), None)


def no_prompt(columns: Sequence[str], known: Sequence[str] = PROMPT) -> tuple[str, str]:
    """What is wrong with columns of which none holds prompts, and what to do about it."""
    shown = ", ".join(repr(name[:60]) for name in columns[:12])
    shown += ", …" if len(columns) > 12 else ""
    by_hand = known is not PROMPT
    message = f"no column {known[0]!r}" if by_hand else "no column of prompts"
    hint = "" if by_hand else f"it can be called {', '.join(PROMPT)}; --column names any other"
    for name in columns[:MOST_COLUMNS]:
        nearest = difflib.get_close_matches(name[:60].strip().casefold(), known, n=1)
        if nearest:
            hint = f"is {name[:60]!r} meant to be {nearest[0]!r}? {hint}".strip()
            break
    hint = hint or "--column takes the name of a column, as the file has it"
    return f"{message}; there is {shown or 'none at all'}", hint
