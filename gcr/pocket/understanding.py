"""How much of a request the embedded critic understands: what the language of its world can read.

A request is read in phrases, the longest first, so that what is understood can be told from what is
not. Which words and phrases there are is for `language` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gcr.pocket import language

LONGEST = 64  # words of one phrase
_JOINING = {"a", "an", "the", "and", "of"}
"""Words that ask for nothing, where they stand alone."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """phrases: that are understood, together. ignored: phrases that are not; both in order."""

    phrases: tuple[str, ...]
    ignored: tuple[str, ...]


@lru_cache(maxsize=4096)
def of(text: str) -> Understanding:
    """What of a request is understood, and what is not."""
    if _reads(text):
        return Understanding((text,), ())
    phrases: list[str] = []
    ignored: list[str] = []
    for phrase, is_read in _phrases(language.split(text)):
        # Each may be of the language, and all together too much for it.
        if is_read and _reads(" and ".join([*phrases, phrase])):
            phrases.append(phrase)
        elif asks := _trimmed(phrase):
            ignored.append(asks)
    return Understanding(tuple(phrases), tuple(ignored))


def _phrases(words: list[str]) -> Iterator[tuple[str, bool]]:
    """The phrases of a text in order, and whether each is of the language."""
    waiting: list[str] = []
    at = 0
    while at < len(words):
        length, phrase = _longest(words, at)
        if not length:
            waiting.append(words[at])
            at += 1
            continue
        if waiting:
            yield language.join(waiting), False
            waiting = []
        yield phrase, True
        at += length
    if waiting:
        yield language.join(waiting), False


def _longest(words: list[str], at: int) -> tuple[int, str]:
    """The longest phrase of the language that begins here: its number of words, and itself."""
    end = at
    while end < min(len(words), at + LONGEST) and not language.unknown_words(words[end]):
        end += 1
    for stop in range(end, at, -1):
        phrase = language.join(words[at:stop])
        for read in (phrase, f"a {phrase}"):  # "red circle" is understood as "a red circle"
            if _reads(read):
                return stop - at, read
    return 0, ""


def _reads(text: str) -> bool:
    try:
        language.parse(text)
    except language.OutsideLanguageError:
        return False
    return True


def _trimmed(phrase: str) -> str:
    """A phrase without what joins it to others; empty where nothing is left that asks for more."""
    words = re.sub(r"^(?:and\b|[^\w\s]|\s)+|(?:\band|[^\w\s]|\s)+$", "", phrase)
    return "" if _JOINING.issuperset(words.split()) else words
