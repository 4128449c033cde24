"""Text in quotes inside a prompt, which is writing to be drawn, and how two such texts compare."""

from __future__ import annotations

import re
import unicodedata

# Of marks that open and close alike, one after a digit is an inch, and one after a letter opens
# nothing. No mark that opens stands inside its pair, so that no text is looked through twice.
_DOUBLE = r"""(?<![0-9A-Za-z½¼¾])"[^"]+" | (?<![0-9A-Za-z½¼¾])”[^”]+” | ＂[^＂]+＂
    | “[^“”]+” | „[^„“”‟]+[“”‟] | ‟[^‟”]+” | «[^«»]+» | »[^«»]+« | ‹[^‹›]+› | ›[^‹›]+‹
    | 「[^「」]+」 | 『[^『』]+』 | ﹁[^﹁﹂]+﹂ | ﹃[^﹃﹄]+﹄ | 〝[^〝〞〟]+[〞〟]
    | 《[^《》]+》"""
# An apostrophe stands between letters (dog's), after a word (dogs') or in place of what is left
# out before one ('n', 'em, '90s); inside single quotes only the first kind is possible.
_ELISIONS = r"(?:[nNs]|[Ee]m|[Tt]il|[Tt]is|[Tt]was|[Cc]ause|[Bb]out|[Rr]ound|\d0s)\b"
_SINGLE = rf"""(?<![\w'’‘])(?!['‘]{_ELISIONS})
    (?: '(?=\S)(?:[^'\n]|(?<=\w)'(?=\w)|(?<=\s)'[nN]'(?=\s))+?(?<=\S)'
    | ‘(?=\S)(?:[^‘’\n]|(?<=\w)’(?=\w))+’ | ‚[^‚‘’\n]+[‘’] | ＇[^＇\n]+＇ | `[^`\n]+` )(?!\w)"""
_WRITING = re.compile(_DOUBLE, re.VERBOSE)
_QUOTED = re.compile(f"{_DOUBLE} | {_SINGLE}", re.VERBOSE)

_FOLDED = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′ʼ＇`´", "'"),
        **dict.fromkeys("“”„‟″＂«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        "…": "...",
        "\u00ad": "",
        "\u200b": "",
        "\ufeff": "",
    }
)


def quoted(text: str) -> list[str]:
    """All texts in quotes of any kind, with their quotes."""
    return _QUOTED.findall(text)


def written(text: str) -> list[str]:
    """Those in double quotes and their like, without them: single ones may only mark a word."""
    return [span[1:-1] for span in _WRITING.findall(text)]


def outside(text: str) -> str:
    """The text without what stands in quotes."""
    return _QUOTED.sub(" ", text)


def inner(span: str) -> str:
    """A quoted text without its quotes: which marks a rewrite uses does not matter."""
    return span[1:-1] if _QUOTED.fullmatch(span) else span


def folded(text: str) -> str:
    """The text as it is compared: the same letters whatever the typography and the white space."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_FOLDED).split())
