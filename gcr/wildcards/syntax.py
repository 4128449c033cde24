"""The syntax of wildcards: a text as its parts, in which nothing is chosen yet."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gcr.errors import UsageError

SEPARATOR = ", "

_FILE = r"__ [^\W_] (?:(?!__)[\w./*\ -])* __"
_MARK = re.compile(
    rf"\\(?P<escaped> [{{}}|] | {_FILE}) | (?P<brace> [{{}}|]) | (?P<file> {_FILE})", re.VERBOSE
)
_COUNT = re.compile(
    r"""
    \s* (?=-?[0-9]) (?P<least> [0-9]{0,6}) (?: (?P<to> -) (?P<most> [0-9]{0,6}) )? \s* \$\$
    (?: (?P<separator> (?:(?!\$\$)[^{}|])*) \$\$ )?
    """,
    re.VERBOSE,
)
_WEIGHT = re.compile(r"\s*(?:(?P<weight>[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+)::\s*)?")
_VARIABLE = re.compile(r"\$\{\s*[^\W\d]\w*\s*[=:}]")


@dataclass(frozen=True, slots=True)
class File:
    """A line of a file."""

    written: str

    @property
    def name(self) -> str:
        return self.written.strip("_")


@dataclass(frozen=True, slots=True)
class Option:
    weight: float
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Options of which least to most are taken; most None: all of them."""

    written: str
    options: tuple[Option, ...]
    least: int = 1
    most: int | None = 1
    separator: str = SEPARATOR


Part = str | File | Group


def short(written: str) -> str:
    return repr(written if len(written) <= 60 else f"{written[:59]}…")


def read(text: str) -> tuple[Part, ...]:
    """The parts of a text. Raises UsageError for a brace that is not closed, and for variables."""
    variable = _VARIABLE.search(text)
    if variable:
        message = f"a variable: {short(text[variable.start() :])}"
        raise UsageError(message, "gcr has none; write the choice where it is used")
    return _Reader(text).parts()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.closed, self.last_bar = _pairs(text)

    def parts(self, *, inside: bool = False) -> tuple[Part, ...]:
        """Parts up to the end of the text or, inside braces, up to the next | or }."""
        found: list[Part] = []
        while mark := _MARK.search(self.text, self.at):
            found.append(self.text[self.at : mark.start()])
            self.at = mark.start()
            if inside and mark["brace"] in ("|", "}"):
                break
            found.append(self.part(mark))
        else:
            found.append(self.text[self.at :])
            self.at = len(self.text)
        return tuple(part for part in found if part)

    def part(self, mark: re.Match[str]) -> Part:
        if mark["brace"] == "{":
            return self.group(mark.start())
        self.at = mark.end()
        if mark["file"]:
            return File(mark["file"])
        return mark["escaped"] or mark[0]

    def group(self, start: int) -> Part:
        """The group that opens here; the brace itself where none is closed or can be meant."""
        self.at = start + 1
        count = _COUNT.match(self.text, self.at)
        if start not in self.closed:
            if count or start < self.last_bar:
                hint = "close it, or write \\{ for a brace that stands for itself"
                raise UsageError(f"a brace is not closed: {short(self.text[start:])}", hint)
            return "{"
        self.at = count.end() if count else self.at
        options = [self.option(counted=bool(count))]
        while self.text[self.at] == "|":
            self.at += 1
            options.append(self.option(counted=bool(count)))
        self.at += 1
        return Group(self.text[start : self.at], tuple(options), *_counted(count))

    def option(self, *, counted: bool) -> Option:
        """One option. counted: it is listed beside others, so spaces around it mean nothing."""
        weight = _WEIGHT.match(self.text, self.at)
        self.at = weight.end() if weight else self.at
        parts = self.parts(inside=True)
        if counted and parts and isinstance(parts[-1], str):
            parts = (*parts[:-1], parts[-1].rstrip())
        return Option(float(weight["weight"] or 1) if weight else 1.0, parts)


def _pairs(text: str) -> tuple[set[int], int]:
    """Where the braces open that are closed, and where the last | is; -1: there is none."""
    opened, closed, last_bar = [], set(), -1
    for mark in _MARK.finditer(text):
        if mark["brace"] == "{":
            opened.append(mark.start())
        elif mark["brace"] == "}" and opened:
            closed.add(opened.pop())
        elif mark["brace"] == "|":
            last_bar = mark.start()
    return closed, last_bar


def _counted(count: re.Match[str] | None) -> tuple[int, int | None, str]:
    """How few and how many options are taken, and what stands between them."""
    if count is None:
        return 1, 1, SEPARATOR
    separator = SEPARATOR if count["separator"] is None else count["separator"]
    least = int(count["least"] or 1)
    if count["to"]:
        return least, int(count["most"]) if count["most"] else None, separator
    return least, least, separator
