"""How much of a request the embedded critic understands: what `language` can read.

A request is read in phrases, the longest first, so that the phrases that are not understood can be
named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gcr.pocket import language

MOST_WORDS = 64  # of one phrase
_JOINING = {"a", "an", "the", "and", "of"}
"""Words that ask for nothing when they are alone."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """What is understood of a request.

    Attributes:
        phrases: that are understood, in order; together they are a request of the language.
        ignored: phrases that are not understood, in order.
    """

    phrases: tuple[str, ...]
    ignored: tuple[str, ...]


@lru_cache(maxsize=4096)
def of(text: str) -> Understanding:
    """How much of a request is understood."""
    if _reads(text):
        return Understanding((text,), ())
    phrases: list[str] = []
    ignored: list[str] = []
    for phrase, is_read in _phrases(language.split(text)):
        # All phrases together may be too many things for the language.
        if is_read and _reads(" and ".join([*phrases, phrase])):
            phrases.append(phrase)
        elif trimmed := _trimmed(phrase):
            ignored.append(trimmed)
    return Understanding(tuple(phrases), tuple(ignored))


def _phrases(words: list[str]) -> Iterator[tuple[str, bool]]:
    """The phrases of a text in order, and whether each is of the language."""
    unread: list[str] = []
    at = 0
    while at < len(words):
        length, phrase = _longest(words, at)
        if not length:
            unread.append(words[at])
            at += 1
            continue
        if unread:
            yield language.join(unread), False
            unread = []
        yield phrase, True
        at += length
    if unread:
        yield language.join(unread), False


def _longest(words: list[str], at: int) -> tuple[int, str]:
    """The longest phrase of the language that begins at a word: its length in words, its text."""
    end = at
    while end < min(len(words), at + MOST_WORDS) and not language.unknown_words(words[end]):
        end += 1
    for stop in range(end, at, -1):
        phrase = language.join(words[at:stop])
        for text in (phrase, f"a {phrase}"):  # "red circle" is understood as "a red circle"
            if _reads(text):
                return stop - at, text
    return 0, ""


def _reads(text: str) -> bool:
    try:
        language.parse(text)
    except language.OutsideLanguageError:
        return False
    return True


def _trimmed(phrase: str) -> str:
    """A phrase without what joins it to others; empty where it asks for nothing."""
    words = re.sub(r"^(?:and\b|[^\w\s]|\s)+|(?:\band|[^\w\s]|\s)+$", "", phrase)
    return "" if _JOINING.issuperset(words.split()) else words
