"""Words of users and models, made fit for wherever they are shown."""

from __future__ import annotations

import json
import re
import unicodedata

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
