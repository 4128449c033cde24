r"""Wildcards: prompts with several options, of which a seed chooses.

    {red|blue}           one of the options
    {2$$a|b|c}           two different ones, in any order, with ", " between them
    {2$$ and $$a|b|c}    the same, with " and " between them
    {1-2$$a|b|c}         one or two; {-2$$...}: up to two, {2-$$...}: two or more
    {3::red|blue}        red three times as often
    __colours/warm__     a line of colours/warm.txt in the folder of wildcards
    {2$$__colours__}     two different lines of it
    \{ \} \| \__name__    the same characters without the backslash

    __colours/*__        a line of any file whose name matches; * stands for folders, too
    {@red|blue}          by the seed in turn: 0 is red, 1 is blue; __@colours__ does it with lines
    {~red|blue}          as {red|blue}, in the words of Dynamic Prompts

Options and lines may hold wildcards. Blank lines of a file and lines that begin with # are left
out. As in Dynamic Prompts, spaces at the start of an option vanish, and a * in a name stands for
anything. Unlike there, braces that offer no choice stand for themselves, as LaTeX, JSON,
{placeholders} and {{weights}} have them, and so does all of a tag such as <lora:my__style__v2:1>,
unless a whole part of it is a wildcard. These are errors: more options than there are, a missing
file, a brace that is not closed before a choice, and what Dynamic Prompts has and gcr does not:
all combinations ({!a|b}), variables, wrappers.

Equal text, seed and files give equal words on every machine and with every Python: only
`Random.random` is used, whose numbers are the same everywhere.
"""

from __future__ import annotations

import random
import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path

from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.structured import first_flaw, lines_of
from gcr.inputs.rows import MOST_CHARACTERS, MOST_ROWS, UTF8

SEPARATOR = ", "

MOST_DEPTH = 64
"""Wildcards inside each other."""

MOST_FILES = 100_000
"""In a folder of wildcards."""
MOST_PICKS = 1000
"""Of one choice."""
MOST_CHOICES = 10_000
"""Of one text: files that name each other twice double the choices at each step."""

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
class Choice:
    """One choice that was made: the wildcard as written, and the words it became."""

    wildcard: str
    chosen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expansion:
    """A text without wildcards, and the choices that led to it; inner ones come first."""

    text: str
    choices: tuple[Choice, ...] = ()


class Wildcards:
    """Expands texts.

    folder: of the wildcard files; None: there are none. Raises UsageError if it does not exist.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(f"no folder {folder}", "name the folder of the wildcard files")
        self._files: dict[str, tuple[_Option, ...]] = {}
        self._bytes = 0

    def expand(self, text: str, seed: int) -> Expansion:
        """The text with every wildcard replaced by what the seed chooses for it.

        A text without wildcards comes back as it is. The same wildcard in another text, with the
        same seed, may become something else. Raises UsageError for a wildcard that cannot be read,
        even in an option that this seed would not choose.
        """
        try:
            parts = _parse(text, self._is_file)
            self._check(parts, ())
            choices: list[Choice] = []
            key = f"{seed}\n{text}".encode(errors="surrogatepass")
            words = _Chooser(self, seed, random.Random(key), choices).all(parts)
        except RecursionError:
            raise _too_deep() from None
        return Expansion(words, tuple(choices))

    def _check(self, parts: Sequence[_Part], within: tuple[str, ...]) -> None:
        """Raise UsageError for what cannot be chosen. within: the names of the files around it."""
        for part in parts:
            if isinstance(part, _File):
                self._check_file(part, within)
            elif isinstance(part, _Group):
                for option in part.options:
                    self._check(option.parts, within)
                self._check_count(part)

    def _check_file(self, part: _File, within: tuple[str, ...]) -> None:
        if part.name in within:
            circle = " → ".join([*within[within.index(part.name) :], part.name])
            raise UsageError(
                f"wildcard files in a circle: {circle}", "take the wildcard out of one of them"
            )
        if len(within) >= MOST_DEPTH:
            raise _too_deep()
        if part.name not in self._files:
            options = self._load(part)
            for option in options:
                self._check(option.parts, (*within, part.name))
            self._files[part.name] = options

    def _check_count(self, group: _Group) -> None:
        options = self.options(group)
        most = len(options) if group.most is None else group.most
        if max(group.least, most) > len(options):
            raise UsageError(
                f"{_short(group.written)} asks for {max(group.least, most)} of {len(options)}",
                "ask for fewer, or give more options",
            )
        if most > MOST_PICKS:
            message = f"{_short(group.written)} asks for {most}"
            raise UsageError(message, f"{MOST_PICKS} are the most")
        if group.least > most:
            raise UsageError(
                f"{_short(group.written)} asks for {group.least} to {most}",
                "turn the numbers round",
            )

    def options(self, part: _Group | _File) -> tuple[_Option, ...]:
        """The options that can be chosen; of a group around a file alone, the file's lines."""
        if isinstance(part, _File):
            return self._files[part.name]
        options = part.options
        if len(options) == 1 and len(options[0].parts) == 1:
            only = options[0].parts[0]
            options = self._files[only.name] if isinstance(only, _File) else options
        return tuple(option for option in options if option.weight)

    def _load(self, part: _File) -> tuple[_Option, ...]:
        """The lines of a file, or of all that match.

        Raises UsageError if there are none, or one cannot be read.
        """
        options = [option for path in self._paths(part) for option in self._lines(path)]
        if len(options) > MOST_ROWS:
            raise UsageError(
                f"{len(options)} lines for {part.written}", f"{MOST_ROWS} are the most"
            )
        return tuple(options)

    def _lines(self, path: Path) -> list[_Option]:
        options = []
        for number, line in enumerate(lines_of(self._text(path)), 1):
            _, flaw = first_flaw([line])
            if flaw:
                raise UsageError(f"{path}, line {number}: {flaw}", UTF8)
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                options.append(_Option(1.0, _parse(line.strip(), self._is_file)))
            except UsageError as error:
                message = f"{path}, line {number}: {error.message}"
                raise UsageError(message, error.hint) from error
        if not options:
            raise UsageError(f"no lines in {path}", "write one option a line")
        return options

    def _text(self, path: Path) -> str:
        """The text of a file inside the folder; all together may be as large as one prompt file."""
        folder = path if self.folder is None else self.folder
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{path} leads out of its folder", f"copy the file into {folder}")
        malformed = f"{UTF8}; of all wildcards, {structured.MOST_BYTES >> 20} MiB are the most"
        with structured.readable(path, "check its permissions", malformed):
            content = structured.content(path, structured.MOST_BYTES - self._bytes)
            self._bytes += len(content)
            return structured.decoded(content)

    @cached_property
    def _names(self) -> dict[str, Path]:
        """The files of the folder by their names in NFC: not all systems spell accents so."""
        if self.folder is None:
            return {}
        paths = list(islice(self.folder.rglob("*.txt"), MOST_FILES + 1))
        if len(paths) > MOST_FILES:
            hint = f"{MOST_FILES} are the most: name a folder inside it"
            raise UsageError(f"too many files in {self.folder}", hint)
        return {
            _spelled(path.relative_to(self.folder).with_suffix("").as_posix()): path
            for path in sorted(paths)
        }

    def _paths(self, part: _File) -> list[Path]:
        """The file of a wildcard, or all that match. Raises UsageError where there is none."""
        if self.folder is None:
            raise UsageError(
                f"no folder of wildcards for {part.written}",
                f"name one, or write \\{part.written} for what stands there",
            )
        name = _spelled(part.name)
        if name in self._names:
            return [self._names[name]]
        if name.endswith(")") and "=" in name:
            message = f"a wildcard with a variable: {_short(part.written)}"
            raise UsageError(message, "gcr has none; write its value where it is used")
        matches = [path for other, path in self._names.items() if fnmatchcase(other, name)]
        if "*" in name and matches:
            return matches
        listed = ", ".join(f"__{other}__" for other in list(self._names)[:12])
        similar = nearest(name, self._names)
        raise UsageError(
            f"no wildcard file {self.folder / part.name}.txt",
            f"did you mean __{similar}__?" if similar else f"there is {listed or 'none at all'}",
        )

    def _is_file(self, name: str) -> bool:
        return _spelled(name) in self._names or bool(nearest(_spelled(name), self._names))


def _spelled(name: str) -> str:
    """A name in NFC, as texts have it; some file systems split accents off."""
    return unicodedata.normalize("NFC", name)


class _Chooser:
    """Makes the choices of one text, and lists them in `choices`."""

    def __init__(
        self, wildcards: Wildcards, seed: int, rng: random.Random, choices: list[Choice]
    ) -> None:
        self._wildcards = wildcards
        self._seed = seed
        self._rng = rng
        self._choices = choices

    def all(self, parts: Sequence[_Part]) -> str:
        """The parts in words. Raises UsageError where they are beyond a bound."""
        words = "".join(part if isinstance(part, str) else self._chosen(part) for part in parts)
        if len(words) > MOST_CHARACTERS or len(self._choices) > MOST_CHOICES:
            raise UsageError(
                "wildcards that become too much",
                f"{MOST_CHOICES} choices and {MOST_CHARACTERS} characters are the most",
            )
        return words

    def _chosen(self, part: _File | _Group) -> str:
        options = self._wildcards.options(part)
        if part.in_turn:
            picks, separator = [options[self._seed % len(options)]], ""
        elif isinstance(part, _File):
            picks, separator = _draw(options, 1, self._rng), ""
        else:
            separator = part.separator
            most = len(options) if part.most is None else part.most
            count = part.least + int(self._rng.random() * (most - part.least + 1))
            picks = _draw(options, count, self._rng)
        chosen = tuple(self.all(option.parts) for option in picks)
        self._choices.append(Choice(part.written, chosen))
        return separator.join(chosen)


def _draw(options: Sequence[_Option], count: int, rng: random.Random) -> list[_Option]:
    """`count` different options, by their weights."""
    rest = list(options)
    if all(option.weight == 1 for option in rest):  # the lines of a file: there may be a million
        return [rest.pop(int(rng.random() * len(rest))) for _ in range(count)]
    picks = []
    for _ in range(count):
        bounds = list(accumulate(option.weight for option in rest))
        place = bisect(bounds, rng.random() * bounds[-1])
        picks.append(rest.pop(min(place, len(rest) - 1)))
    return picks


# The syntax: a text as its parts, in which nothing is chosen yet


@dataclass(frozen=True, slots=True)
class _File:
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
class _Option:
    weight: float
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    """Options of which some are taken.

    Attributes:
        written: the group as in the text.
        options: the options.
        least: how few are taken.
        most: how many are taken; None: all of them.
        separator: what stands between those that are taken.
        in_turn: whether the seed counts through them.
    """

    written: str
    options: tuple[_Option, ...]
    least: int = 1
    most: int | None = 1
    separator: str = SEPARATOR
    in_turn: bool = False


_Part = str | _File | _Group


def _short(written: str) -> str:
    return repr(written if len(written) <= 60 else f"{written[:59]}…")


def _parse(text: str, is_file: Callable[[str], bool]) -> tuple[_Part, ...]:
    """The parts of a text.

    is_file: whether there is a file of this name, or of one like it. Words with spaces between two
    __ may be no name: `__init, main__` is one only if there is such a file.
    Raises UsageError for a brace that is not closed before a choice, and for what Dynamic Prompts
    has and gcr does not.
    """
    for syntax, name in ((_VARIABLE, "a variable"), (_WRAPPER, "a wrapper")):
        if mark := syntax.search(text):
            message = f"{name}: {_short(text[mark.start() :])}"
            raise UsageError(message, "gcr has none; write the choice where it is used")
    return _Parser(text, is_file).parts()


class _Parser:
    """Reads a text from left to right."""

    def __init__(self, text: str, is_file: Callable[[str], bool]) -> None:
        self.text = text
        self.is_file = is_file
        self.at = 0  # where the next part begins
        self.depth = 0
        self.pairs = _Pairs(text)
        self.plain: set[int] = set()  # closing braces that stand for themselves

    def parts(self, *, inside: bool = False) -> tuple[_Part, ...]:
        """Parts up to the end of the text or, inside braces, up to the next | or }."""
        parts: list[_Part] = []
        while mark := _MARK.search(self.text, self.at):
            parts.append(self.text[self.at : mark.start()])
            self.at = mark.start()
            if inside and mark["brace"] in ("|", "}") and mark.start() not in self.plain:
                break
            parts.append(self.part(mark))
        else:
            parts.append(self.text[self.at :])
            self.at = len(self.text)
        return tuple(part for part in parts if part)

    def part(self, mark: re.Match[str]) -> _Part:
        if mark["brace"] == "{":
            return self.brace(mark.start())
        if mark["file"]:
            file = _File(mark["file"])
            if not (_ORDINARY.fullmatch(file.name) or self.is_file(file.name)):
                self.at = mark.start() + 2
                return "__"
            _check_sampler(file.written, file.written[2])
            self.at = mark.end()
            return file
        self.at = mark.end()
        return mark["escaped"] or mark[0]

    def brace(self, start: int) -> _Part:
        """The choice that opens here; the brace itself where there is none."""
        self.at = start + 1
        sampler = _SAMPLER.match(self.text, self.at)
        inner = sampler.end() if sampler else self.at
        count = _COUNT.match(self.text, inner)
        if start not in self.pairs.closed:
            if count or start < self.pairs.last_bar:
                hint = "close it, or write \\{ for a brace that stands for itself"
                raise UsageError(f"a brace is not closed: {_short(self.text[start:])}", hint)
            return "{"
        if not (count or start in self.pairs.barred or _FILE_ALONE.match(self.text, inner)):
            self.plain.add(self.pairs.closed[start])
            return "{"
        if not count and _NO_COUNT.match(self.text, inner):
            hint = "write {2$$a|b} for two of them, or \\{ for a brace that stands for itself"
            written = self.text[start : self.pairs.closed[start] + 1]
            raise UsageError(f"no number before $$: {_short(written)}", hint)
        return self.group(start, inner, count)

    def group(self, start: int, inner: int, count: re.Match[str] | None) -> _Group:
        """The choice that opens at `start`.

        inner: where its options begin, or their count.
        """
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _too_deep()
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
            message = f"several in turn: {_short(written)}"
            raise UsageError(message, "leave out the @, or the number")
        return _Group(written, tuple(options), *_counted(count), in_turn=sampler == "@")

    def option(self, *, counted: bool) -> _Option:
        """One option.

        counted: whether the group has a count, which makes its options a list: then spaces around
        each mean nothing.
        """
        weight = _WEIGHT.match(self.text, self.at)
        self.at = weight.end() if weight else self.at
        parts = self.parts(inside=True)
        if counted and parts and isinstance(parts[-1], str):
            parts = (*parts[:-1], parts[-1].rstrip())
        return _Option(float(weight["weight"] or 1) if weight else 1.0, parts)


class _Pairs:
    """The braces of a text, as places in it.

    Attributes:
        closed: where each brace that opens is closed.
        barred: the opening braces that have a | directly inside.
        last_bar: the last |; -1: there is none.
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
    """Raise UsageError for `!`, which asks for a prompt for each option."""
    if sampler == "!":
        hint = "gcr draws one for each prompt: leave out the !, or write one prompt for each"
        raise UsageError(f"all combinations: {_short(written)}", hint)


def _too_deep() -> UsageError:
    return UsageError(f"more than {MOST_DEPTH} wildcards inside each other", "use fewer")


def _counted(count: re.Match[str] | None) -> tuple[int, int | None, str]:
    """The least, the most and the separator of a group."""
    if count is None:
        return 1, 1, SEPARATOR
    separator = SEPARATOR if count["separator"] is None else count["separator"]
    least = int(count["least"] or 1)
    if count["to"]:
        return least, int(count["most"]) if count["most"] else None, separator
    return least, least, separator
