"""The language of the world: captions and requests, read into a `Spec` of what they mean.

    [a picture of] SIDE [RELATION SIDE] [on a CANVAS canvas]
    SIDE     = GROUP {, GROUP} [and GROUP]
    GROUP    = COUNT [SIZE] COLOUR SHAPE [at the PLACE | : one at the PLACE, one at the PLACE …]
    RELATION = above | below | left of | right of: holds for all groups before and after it

A short caption names groups; a detailed one has a phrase and a place for every thing. A request is
complete: things that it does not name must not be in the picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from gcr.pocket import world

COUNTS = ("a", "two", "three", "four", "five")
PLURALS = {s: ("crosses" if s == "cross" else s + "s") for s in world.SHAPES}
PREFIXES = ("a picture of", "an image of", "a drawing of")

_COUNT_WORDS = {
    **{word: n for n, word in enumerate(("one", *COUNTS[1:]), 1)},
    **{str(n): n for n in range(1, 6)},
    "a": 1,
    "an": 1,
}
_SHAPE_WORDS = {**{s: s for s in world.SHAPES}, **{p: s for s, p in PLURALS.items()}}
_COLOUR_WORDS = {c: c for c in world.COLOURS}
_SIZE_WORDS = {**{s: s for s in world.SIZES}, "big": "large", "little": "small"}
_CANVAS_WORDS = {**{c: c for c in world.CANVASES}, "gray": "grey"}
_MIDDLE_WORDS = {"center", "centre", "middle"}
_AT = ("at the", "in the")
_RELATION_WORDS = {"above": "above", "over": "above", "below": "below", "under": "below"}
_OTHER_WORDS = {
    *("picture", "image", "drawing", "of", "and", "on", "canvas", "background"),
    *("at", "in", "the", "to", "left", "right", "top", "bottom"),
    *(",", ":", "."),
}
WORDS = frozenset(
    _OTHER_WORDS
    | _MIDDLE_WORDS
    | set().union(
        _COUNT_WORDS, _SHAPE_WORDS, _COLOUR_WORDS, _SIZE_WORDS, _CANVAS_WORDS, _RELATION_WORDS
    )
)
"""Every word and mark of the language."""


# The meaning of a caption or request, without its words

RELATIONS = ("above", "below", "left of", "right of")


@dataclass(frozen=True, slots=True)
class Group:
    """Things that are alike.

    Attributes:
        count: how many.
        colour: of each.
        shape: of each.
        size: of each; empty: any.
        places: one for each thing, or none.
    """

    count: int
    colour: str
    shape: str
    size: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """How every thing of some groups is placed to every thing of others.

    Attributes:
        name: one of RELATIONS.
        first: indices of the groups that are above, below, left of or right of the others.
        second: indices of those others.
    """

    name: str
    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that a request asks for.

    Attributes:
        colour: of it.
        shape: of it.
        size: of it; empty: any.
        place: of it; empty: any.
        group: index of its group.
    """

    colour: str
    shape: str
    size: str
    place: str
    group: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What a caption or request says.

    Attributes:
        groups: the things.
        relation: between groups; None: none is named.
        canvas: its colour; empty: any.
    """

    groups: tuple[Group, ...]
    relation: Relation | None = None
    canvas: str = ""

    def wanted(self) -> Iterator[Wanted]:
        """Every single thing that is asked for."""
        for index, g in enumerate(self.groups):
            for place in g.places or ("",) * g.count:
                yield Wanted(g.colour, g.shape, g.size, place, index)


class OutsideLanguageError(ValueError):
    """A text that is not of the language."""


def split(text: str) -> list[str]:
    """Words and marks, lower case."""
    return re.findall(r"[\w'-]+|[^\w\s]", text.lower())


def unknown_words(text: str) -> list[str]:
    """The words of a text that the language does not have, in order, each once."""
    return list(dict.fromkeys(word for word in split(text) if word not in WORDS))


# Reading


def parse(text: str) -> Spec:
    """Read a caption or request. Raises OutsideLanguageError for any other text."""
    return _Reader(split(text)).spec()


def not_understood(text: str) -> str:
    """What cannot be read of a request; empty where all of it is read."""
    try:
        parse(text)
    except OutsideLanguageError as error:
        return str(error)
    return ""


class _Reader:
    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.at = 0

    def peek(self, *words: str) -> bool:
        return tuple(self.words[self.at : self.at + len(words)]) == words

    def skip(self, *phrases: str) -> bool:
        """Step over the first of the phrases that comes next, if any."""
        for phrase in phrases:
            if self.peek(*phrase.split()):
                self.at += len(phrase.split())
                return True
        return False

    def one_of(self, table: dict[str, str]) -> str:
        if self.at < len(self.words) and self.words[self.at] in table:
            self.at += 1
            return table[self.words[self.at - 1]]
        return ""

    def spec(self) -> Spec:
        self.skip(*PREFIXES)
        groups = [self.group()]
        relation, border, canvas = "", 0, ""
        while self.at < len(self.words):
            if self.skip(", and", "and", ","):
                pass
            elif self.skip("."):
                break
            elif self.skip("on a", "on"):
                canvas = self.one_of(_CANVAS_WORDS)
                self.skip("canvas", "background")
                if not canvas:
                    self.fail()
                continue
            elif not relation and (relation := self.relation()):
                border = len(groups)
            else:
                self.fail()
            if not self.peek("on") or border == len(groups):
                groups.append(self.group())
        if self.at < len(self.words) or sum(g.count for g in groups) > world.MOST:
            self.fail()
        sides = tuple(range(border)), tuple(range(border, len(groups)))
        return Spec(tuple(groups), Relation(relation, *sides) if relation else None, canvas)

    def relation(self) -> str:
        self.skip("to the")
        for side in ("left", "right"):
            if self.skip(f"{side} of"):
                return f"{side} of"
        return self.one_of(_RELATION_WORDS)

    def group(self) -> Group:
        word = self.words[self.at] if self.at < len(self.words) else ""
        if word not in _COUNT_WORDS:
            self.fail()
        self.at += 1
        count = _COUNT_WORDS[word]
        size = self.one_of(_SIZE_WORDS)
        colour, shape = self.one_of(_COLOUR_WORDS), self.one_of(_SHAPE_WORDS)
        if not (colour and shape):
            self.fail()
        places: list[str] = []
        if self.skip(":"):
            while self.skip(
                *(f"{mark}one {at}" for mark in ("", ", ", "and ", ", and ") for at in _AT)
            ):
                places.append(self.place())
        elif count == 1 and self.skip(*_AT):
            places.append(self.place())
        if places and (len(places) != count or "" in places):
            self.fail()
        return Group(count, colour, shape, size, tuple(places))

    def place(self) -> str:
        if self.skip(*_MIDDLE_WORDS):
            return "center"
        for place in sorted(world.PLACES, key=len, reverse=True):
            # "at the top left of a star" is at the top, and left of a star.
            if not self.peek(*place.split(), "of") and self.skip(place):
                return place
        return ""

    def fail(self) -> NoReturn:
        rest = " ".join(self.words[self.at : self.at + 4]) or "the end"
        raise OutsideLanguageError(f"the language of pocket does not go on with: {rest}")


# Understanding: a request is read in phrases, the longest first, so that those that are not of the
# language can be named

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
def understand(text: str) -> Understanding:
    """How much of a request is understood."""
    if _reads(text):
        return Understanding((text,), ())
    phrases: list[str] = []
    ignored: list[str] = []
    for phrase, is_read in _phrases(split(text)):
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
            yield join(unread), False
            unread = []
        yield phrase, True
        at += length
    if unread:
        yield join(unread), False


def _longest(words: list[str], at: int) -> tuple[int, str]:
    """The longest phrase of the language that begins at a word: its length in words, its text."""
    end = at
    while end < min(len(words), at + MOST_WORDS) and not unknown_words(words[end]):
        end += 1
    for stop in range(end, at, -1):
        phrase = join(words[at:stop])
        for text in (phrase, f"a {phrase}"):  # "red circle" is understood as "a red circle"
            if _reads(text):
                return stop - at, text
    return 0, ""


def _reads(text: str) -> bool:
    return not not_understood(text)


def _trimmed(phrase: str) -> str:
    """A phrase without quotation marks and what joins it to others; empty where it asks for
    nothing.
    """
    phrase = " ".join(re.sub(r'["“”„«»]', " ", phrase).split())
    words = re.sub(r"^(?:and\b|[^\w\s]|\s)+|(?:\band|[^\w\s]|\s)+$", "", phrase)
    return "" if _JOINING.issuperset(words.split()) else words


def join(words: list[str]) -> str:
    """Words and marks as text."""
    return re.sub(r" ([,:.])", r"\1", " ".join(words))
