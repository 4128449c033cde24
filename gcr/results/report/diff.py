"""Which words of a prompt were left out of a rewrite, and which are new."""

from __future__ import annotations

import difflib
import re
from itertools import groupby
from typing import NamedTuple

# One word, one sign, or one character of a script that writes no spaces; and the space after it.
_TOKEN = re.compile(r"(?:[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s])\s*")
MOST = 1_000_000
"""Pairs of words to compare at most: beyond, a prompt is shown as replaced, at once."""
LEAST = 3
"""Letters that two changes must have between them to be read as two."""


class Piece(NamedTuple):
    """Some words. kind: `same`, `del` (only before) or `ins` (only after)."""

    kind: str
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """How the one prompt became the other, in order.

    All but `ins` is `before`, and all but `del` is `after`, but for case and space: where only
    those differ the words are the same, and shown as in `after`.
    """
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    found: list[Piece] = []
    for same, group in groupby(_steps(old, new), key=lambda step: step[0] == "same"):
        if same:
            found += [Piece("same", text) for _, _, text in group]
            continue
        gone, come = map("".join, zip(*((a, b) for _, a, b in group), strict=True))
        found += [Piece(kind, text) for kind, text in (("del", gone), ("ins", come)) if text]
    return found


def _steps(old: list[str], new: list[str]) -> list[tuple[str, str, str]]:
    """Runs of tokens: (`same` or `changed`, text before, text after)."""
    if len(old) * len(new) > MOST:
        return [("changed", "".join(old), "".join(new))]
    matcher = difflib.SequenceMatcher(None, _bare(old), _bare(new), autojunk=False)
    codes = matcher.get_opcodes()
    steps = []
    for number, (code, a, b, c, d) in enumerate(codes):
        was, is_ = "".join(old[a:b]), "".join(new[c:d])
        between = 0 < number < len(codes) - 1
        same = code == "equal" and not (between and sum(map(str.isalnum, is_)) < LEAST)
        steps.append(("same" if same else "changed", was, is_))
    return steps


def _bare(tokens: list[str]) -> list[str]:
    return [token.strip().casefold() for token in tokens]
