"""Which words of a prompt were left out of a rewrite, and which are new."""

from __future__ import annotations

import difflib
import re
from itertools import groupby
from typing import NamedTuple

MOST_PAIRS = 1_000_000
"""Pairs of words that are compared in order; longer texts are not compared word by word."""
LEAST_LETTERS = 3
"""Letters that two changes must have between them to be shown as two."""

# One word, one sign, or one character of a script that writes no spaces; and the space after it.
_TOKEN = re.compile(r"(?:[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s])\s*")


class Piece(NamedTuple):
    """Some words.

    Attributes:
        kind: `same`, `del` (only before) or `ins` (only after).
        text: the words, with the space after them.
    """

    kind: str
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """How the one prompt became the other, in order.

    All but `ins` is `before`, and all but `del` is `after`, but for case and space: where only
    those differ the words are the same, and shown as in `after`.
    """
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    bare = [[token.strip().casefold() for token in tokens] for tokens in (old, new)]
    codes = _opcodes(*bare) or [("replace", 0, len(old), 0, len(new))]
    steps = []  # runs of tokens: whether they stayed, text before, text after
    for number, (code, a, b, c, d) in enumerate(codes):
        text_before, text_after = "".join(old[a:b]), "".join(new[c:d])
        between = 0 < number < len(codes) - 1
        is_short = between and sum(map(str.isalnum, text_after)) < LEAST_LETTERS
        steps.append((code == "equal" and not is_short, text_before, text_after))
    shown: list[Piece] = []
    for stayed, group in groupby(steps, key=lambda step: step[0]):
        if stayed:
            shown += [Piece("same", text) for _, _, text in group]
            continue
        gone, come = map("".join, zip(*((a, b) for _, a, b in group), strict=True))
        shown += [Piece(kind, text) for kind, text in (("del", gone), ("ins", come)) if text]
    return shown


def changed(before: str, after: str) -> list[tuple[str, bool]]:
    """The words of `after`, each with whether it is new against `before`.

    Words are what stands between spaces; a comma more or less makes no new word. Of long texts
    only words that `before` does not have at all are new.
    """
    words = after.split()
    old, new = (
        [word.strip(".,;:!?\"'").lower() for word in text.split()] for text in (before, after)
    )
    codes = _opcodes(old, new)
    if codes is None:
        before_words = set(old)
        return [(word, bare not in before_words) for word, bare in zip(words, new, strict=True)]
    return [(word, code != "equal") for code, _, _, c, d in codes for word in words[c:d]]


def _opcodes(old: list[str], new: list[str]) -> list[tuple[str, int, int, int, int]] | None:
    """How the one list becomes the other, as difflib puts it; None: they are too long."""
    if len(old) * len(new) > MOST_PAIRS:
        return None
    return list(difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes())
