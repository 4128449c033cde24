"""The syntax of wildcards: a text as its parts, in which nothing is chosen yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gcr.errors import UsageError

SEPARATOR = ", "

MOST_DEPTH = 64
"""Wildcards inside each other."""

# A name may hold what file names hold: `hawks,_eagles,_and_kites`, `grauer's broadbills`.
_NAME = r"[@~!]? (?: [^\W_] | [^\x00-\x7f\s] | \* ) (?: (?!__) [^{}|<>\\\n] ){0,200} (?<! \s )"
_FILE = rf"__ {_NAME} __"
_MARK = re.compile(
    rf"""
    \\(?P<escaped> [{{}}|] | {_FILE})
    | (?P<tag> < \w+ (?: : (?! {_FILE} [:>] ) [^<>:{{}}|\n]* )+ > )  # <lora:my__style__v2:0.8>
    | (?P<brace> [{{}}|])
    | (?P<file> {_FILE})
    """,
    re.VERBOSE,
)
_SAMPLER = re.compile(r"[@~!]?")
_COUNT = re.compile(
    r"""
    \s* (?=-?[0-9]) (?P<least> [0-9]{0,6}) (?: (?P<to> -) (?P<most> [0-9]{0,6}) )? \s* \$\$
    (?: (?P<separator> (?:(?!\$\$)[^{}|])*) \$\$ )?
    """,
    re.VERBOSE,
)
_NO_COUNT = re.compile(r"[^{}|]*\$\$")
_ORDINARY = re.compile(r"[\w./*\ -]+|\S+")
_FILE_ALONE = re.compile(rf"\s* {_FILE} \s* \}}", re.VERBOSE)
_WEIGHT = re.compile(r"\s*(?:(?P<weight>[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)::\s*)?")
_VARIABLE = re.compile(r"\$\{\s*[^\W\d]\w*\s*(?:\?=|[=:}])")
_WRAPPER = re.compile(r"%\{[^{}]*\$\$")


@dataclass(frozen=True, slots=True)
class File:
    """A line of a file, or of all files whose names match where there is a * in it."""

    written: str

    @property
    def name(self) -> str:
        return self.written[2:-2].lstrip("@~!")

    @property
    def in_turn(self) -> bool:
        """Whether the seed counts through the lines."""
        return self.written.startswith("__@")


@dataclass(frozen=True, slots=True)
class Option:
    weight: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Options of which least to most are taken; most None: all of them.

    in_turn: whether the seed counts through them.
    """

    written: str
    options: tuple[Option, ...]
    least: int = 1
    most: int | None = 1
    separator: str = SEPARATOR
    in_turn: bool = False


Part = str | File | Group


def short(written: str) -> str:
    return repr(written if len(written) <= 60 else f"{written[:59]}…")


def read(text: str, known: Callable[[str], bool]) -> tuple[Part, ...]:
    """The parts of a text. Raises UsageError for a brace that is not closed before a choice, and
    for what Dynamic Prompts knows and we do not.

    known: whether there is a file of this name, or of one like it. Words with spaces between two
    __ may be no name: `__init, main__` is one only if there is such a file.
    """
    for unknown, what in ((_VARIABLE, "a variable"), (_WRAPPER, "a wrapper")):
        if mark := unknown.search(text):
            message = f"{what}: {short(text[mark.start() :])}"
            raise UsageError(message, "gcr has none; write the choice where it is used")
    return _Reader(text, known).parts()


class _Reader:
    def __init__(self, text: str, known: Callable[[str], bool]) -> None:
        self.text = text
        self.known = known
        self.at = 0
        self.depth = 0
        self.pairs = _Pairs(text)
        self.plain: set[int] = set()  # braces that close what is no choice

    def parts(self, *, inside: bool = False) -> tuple[Part, ...]:
        """Parts up to the end of the text or, inside braces, up to the next | or }."""
        found: list[Part] = []
        while mark := _MARK.search(self.text, self.at):
            found.append(self.text[self.at : mark.start()])
            self.at = mark.start()
            if inside and mark["brace"] in ("|", "}") and mark.start() not in self.plain:
                break
            found.append(self.part(mark))
        else:
            found.append(self.text[self.at :])
            self.at = len(self.text)
        return tuple(part for part in found if part)

    def part(self, mark: re.Match[str]) -> Part:
        if mark["brace"] == "{":
            return self.brace(mark.start())
        if mark["file"]:
            file = File(mark["file"])
            if not (_ORDINARY.fullmatch(file.name) or self.known(file.name)):
                self.at = mark.start() + 2
                return "__"
            _check_sampler(file.written, file.written[2])
            self.at = mark.end()
            return file
        self.at = mark.end()
        return mark["escaped"] or mark[0]

    def brace(self, start: int) -> Part:
        """The choice that opens here; the brace itself where there is none."""
        self.at = start + 1
        sampler = _SAMPLER.match(self.text, self.at)
        inner = sampler.end() if sampler else self.at
        count = _COUNT.match(self.text, inner)
        if start not in self.pairs.closed:
            if count or start < self.pairs.last_bar:
                hint = "close it, or write \\{ for a brace that stands for itself"
                raise UsageError(f"a brace is not closed: {short(self.text[start:])}", hint)
            return "{"
        if not (count or start in self.pairs.barred or _FILE_ALONE.match(self.text, inner)):
            self.plain.add(self.pairs.closed[start])
            return "{"
        if not count and _NO_COUNT.match(self.text, inner):
            hint = "write {2$$a|b} for two of them, or \\{ for a brace that stands for itself"
            written = self.text[start : self.pairs.closed[start] + 1]
            raise UsageError(f"no number before $$: {short(written)}", hint)
        return self.group(start, inner, count)

    def group(self, start: int, inner: int, count: re.Match[str] | None) -> Group:
        """The choice that opens at start. inner: behind what says how to choose."""
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise too_deep()
        self.at = count.end() if count else inner
        options = [self.option(counted=bool(count))]
        while self.text[self.at] == "|":
            self.at += 1
            options.append(self.option(counted=bool(count)))
        self.at += 1
        self.depth -= 1
        written, sampler = self.text[start : self.at], self.text[start + 1 : inner]
        _check_sampler(written, sampler)
        if sampler == "@" and count:
            raise UsageError(f"several in turn: {short(written)}", "leave out the @, or the number")
        return Group(written, tuple(options), *_counted(count), in_turn=sampler == "@")

    def option(self, *, counted: bool) -> Option:
        """One option. counted: it is listed beside others, so spaces around it mean nothing."""
        weight = _WEIGHT.match(self.text, self.at)
        self.at = weight.end() if weight else self.at
        parts = self.parts(inside=True)
        if counted and parts and isinstance(parts[-1], str):
            parts = (*parts[:-1], parts[-1].rstrip())
        return Option(float(weight["weight"] or 1) if weight else 1.0, parts)


class _Pairs:
    """The braces of a text.

    closed: where each one opens and closes. barred: those with a | of their own.
    last_bar: where the last | is; -1: there is none.
    """

    def __init__(self, text: str) -> None:
        self.closed: dict[int, int] = {}
        self.barred: set[int] = set()
        self.last_bar = -1
        opened: list[int] = []
        for mark in _MARK.finditer(text):
            if mark["brace"] == "{":
                opened.append(mark.start())
            elif mark["brace"] == "}" and opened:
                self.closed[opened.pop()] = mark.start()
            elif mark["brace"] == "|":
                self.last_bar = mark.start()
                self.barred.update(opened[-1:])


def _check_sampler(written: str, sampler: str) -> None:
    """Raise UsageError for all of the options: a prompt is one of them."""
    if sampler == "!":
        hint = "gcr draws one for each prompt: leave out the !, or write one prompt for each"
        raise UsageError(f"all combinations: {short(written)}", hint)


def too_deep() -> UsageError:
    return UsageError(f"more than {MOST_DEPTH} wildcards inside each other", "use fewer")


def _counted(count: re.Match[str] | None) -> tuple[int, int | None, str]:
    """How few and how many options are taken, and what stands between them."""
    if count is None:
        return 1, 1, SEPARATOR
    separator = SEPARATOR if count["separator"] is None else count["separator"]
    least = int(count["least"] or 1)
    if count["to"]:
        return least, int(count["most"]) if count["most"] else None, separator
    return least, least, separator
