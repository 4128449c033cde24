"""What all formats of prompt files share: rows, lines, and the name of the prompt's column."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gcr.errors import UsageError

PROMPT = (
    "prompt",
    "prompts",
    "prompt_en",
    "prompt_zh",
    "text",
    "caption",
    "instruction",
    "superficial_prompt",
)
"""What published files call the column of the prompts; the first of these is taken."""

UTF8 = "save it as UTF-8"

_FLAW = re.compile("[\0\udc80-\udcff]")


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


def decoded(name: str, content: bytes) -> str:
    """The text of a file, in which a byte that is not UTF-8 is a lone surrogate: a flaw."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{name} is UTF-16", UTF8)
    return content.decode("utf-8-sig", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """Lines with their ends: only what every editor calls a line, unlike `str.splitlines`."""
    return list(io.StringIO(text, newline=""))


def first_flaw(lines: Iterable[str]) -> tuple[int, str]:
    """The line, from 1, of the first byte that no text has, and what it is; else 1 and nothing."""
    for number, line in enumerate(lines, 1):
        if found := _FLAW.search(line):
            byte = ord(found[0]) & 0xFF
            return number, f"byte 0x{byte:02x} is not UTF-8" if byte else "a NUL byte"
    return 1, ""


def column(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The column that has the first of the known names, ignoring case; None: no column has any."""
    found = {name.strip().casefold(): name for name in reversed(list(names))}
    return next((found[name] for name in known if name in found), None)


def no_prompt(columns: Sequence[str]) -> tuple[str, str]:
    """What is wrong with columns of which none holds prompts, and what to do about it."""
    shown = ", ".join(map(repr, columns[:12])) + (", …" if len(columns) > 12 else "")
    hint = f"it can be called {', '.join(PROMPT)}"
    for name in columns:
        nearest = difflib.get_close_matches(name.strip().casefold(), PROMPT, n=1)
        if nearest:
            hint = f"is {name!r} meant to be {nearest[0]!r}? {hint}"
            break
    return f"no column of prompts; there is {shown or 'none at all'}", hint
