"""Words of users and models, made fit for a terminal, and which of them are new."""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"  # all other two-character sequences
)
DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str, *, keep_lines: bool = False) -> str:
    """The text without control characters, escape sequences and changes of direction."""
    kept = ("\n",) if keep_lines else ()
    cleaned = []
    for sign in ESCAPES.sub("", text):
        if sign in kept:
            cleaned.append(sign)
        elif unicodedata.category(sign) in ("Cc", "Zl", "Zp"):
            cleaned.append(" ")
        elif sign not in DIRECTIONS and unicodedata.category(sign) != "Cs":
            cleaned.append(sign)
    return "".join(cleaned).strip()


def changed(before: str, after: str) -> list[tuple[str, bool]]:
    """The words of `after`, each with whether it is new against `before`."""
    old, new = before.split(), after.split()
    flags = [True] * len(new)
    matcher = difflib.SequenceMatcher(a=_bare(old), b=_bare(new), autojunk=False)
    for block in matcher.get_matching_blocks():
        flags[block.b : block.b + block.size] = [False] * block.size
    return list(zip(new, flags, strict=True))


def _bare(words: Sequence[str]) -> list[str]:
    """Words as they are compared: a comma more or less is no new word."""
    return [word.strip(".,;:!?\"'").lower() for word in words]
