"""Words of users and models, made fit for wherever they are shown; and which of them are new."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from itertools import groupby
from typing import NamedTuple

ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    # OSC: titles, links, clipboard. One without an end takes no more than its mark with it.
    r"|(?:\x1b\]|\x9d)(?:[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]"  # all other two-character sequences
)
UNSEEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets begin a formula with, also in its full width, or skip before one."""
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


def shortened(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis: so many characters at most."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def visible(text: str) -> str:
    """The text with signs in the place of what would act unseen: control characters, and the marks
    that turn the direction of all that follows. For pages; lines stay lines.
    """
    return UNSEEN.sub(lambda found: _sign(ord(found[0])), text)


def _sign(code: int) -> str:
    """Unicode's picture of a control character where there is one, or its number."""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def cell(value: object) -> object:
    """A cell of a table that spreadsheets read: a text that they would take for a formula gets an
    apostrophe in front, as OWASP advises. Numbers, also as texts, stay as they are.
    """
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


SLUG_LENGTH = 40


def slug(prompt: str) -> str:
    """At most 40 characters of a-z, 0-9 and "-"; empty where the prompt has none of them."""
    ascii_text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if len(words) > SLUG_LENGTH:
        words = words[: SLUG_LENGTH + 1].rpartition("-")[0] or words[:SLUG_LENGTH]
    return words


def shown(value: object) -> str:
    """A value of a setting, as people read it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Which words of a prompt were left out of a rewrite, and which are new

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
