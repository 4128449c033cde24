r"""Wildcards: prompts that say several things, and one of them by a seed.

    {red|blue}           one of the options
    {2$$a|b|c}           two different ones, in any order, with ", " between them
    {2$$ and $$a|b|c}    the same, with " and " between them
    {1-2$$a|b|c}         one or two; {-2$$...}: up to two, {2-$$...}: two or more
    {3::red|blue}        red three times as often
    __colours/warm__     a line of colours/warm.txt in the folder of wildcards
    {2$$__colours__}     two different lines of it
    \{ \} \| \__name__    what stands for itself, without the backslash

    __colours/*__        a line of any file whose name matches; * stands for folders, too
    {@red|blue}          by the seed in turn: 0 is red, 1 is blue; __@colours__ does it with lines
    {~red|blue}          as {red|blue}, in the words of Dynamic Prompts

Options and lines may hold wildcards. Blank lines of a file and those that begin with # are
nothing. As in Dynamic Prompts, spaces at the start of an option vanish, and a * in a name stands
for anything. Unlike there, braces that offer no choice stand for themselves, as LaTeX, JSON,
{placeholders} and {{weights}} have them, and so does all of a tag such as <lora:my__style__v2:1>,
unless a whole part of it is a wildcard. What cannot be meant is an error: more options than there
are, a file that is missing, a brace that is not closed before a choice. So is what Dynamic Prompts
has and we do not: all combinations ({!a|b}), variables, wrappers.

Equal text, seed and files give equal words, on every machine and with every Python: only
`Random.random` is drawn from, whose numbers are the same everywhere.
"""

from __future__ import annotations

import difflib
import random
import unicodedata
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path

from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.structured import MalformedError, first_flaw, lines_of
from gcr.inputs import wildcard_syntax
from gcr.inputs.rows import MOST_CHARACTERS, MOST_ROWS, UTF8
from gcr.inputs.wildcard_syntax import File, Group, Option, Part, short, too_deep

MOST_FILES = 100_000
"""In a folder of wildcards."""
MOST_PICKS = 1000
"""Of one choice."""
MOST_CHOICES = 10_000
"""Of one text: files that name each other twice double them at each step."""


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

    folder: where the files of wildcards are; None: there are none. Raises UsageError if there is
    no such folder.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and not self.folder.is_dir():
            raise UsageError(f"no folder {folder}", "name the folder of the wildcard files")
        self._files: dict[str, tuple[Option, ...]] = {}
        self._bytes = 0

    def expand(self, text: str, seed: int) -> Expansion:
        """The text with every wildcard replaced by what the seed chooses for it.

        A text without wildcards comes back as it is. The same wildcard in two different texts is
        chosen anew. Raises UsageError for a wildcard that cannot be read, even in an option
        that this seed would not choose.
        """
        try:
            parts = wildcard_syntax.read(text, self._is_known)
            self._check(parts, ())
            choices: list[Choice] = []
            key = f"{seed}\n{text}".encode(errors="surrogatepass")
            words = _Saying(self, seed, random.Random(key), choices).all(parts)
        except RecursionError:
            raise too_deep() from None
        return Expansion(words, tuple(choices))

    def _check(self, parts: Sequence[Part], within: tuple[str, ...]) -> None:
        """Raise UsageError for what cannot be chosen. within: the files that led here."""
        for part in parts:
            if isinstance(part, File):
                self._check_file(part, within)
            elif isinstance(part, Group):
                for option in part.options:
                    self._check(option.parts, within)
                self._check_count(part)

    def _check_file(self, part: File, within: tuple[str, ...]) -> None:
        if part.name in within:
            circle = " → ".join([*within[within.index(part.name) :], part.name])
            raise UsageError(
                f"wildcard files in a circle: {circle}", "take the wildcard out of one of them"
            )
        if len(within) >= wildcard_syntax.MOST_DEPTH:
            raise too_deep()
        if part.name not in self._files:
            options = self._load(part)
            for option in options:
                self._check(option.parts, (*within, part.name))
            self._files[part.name] = options

    def _check_count(self, group: Group) -> None:
        options = self.options(group)
        most = len(options) if group.most is None else group.most
        if max(group.least, most) > len(options):
            raise UsageError(
                f"{short(group.written)} asks for {max(group.least, most)} of {len(options)}",
                "ask for fewer, or give more options",
            )
        if most > MOST_PICKS:
            message = f"{short(group.written)} asks for {most}"
            raise UsageError(message, f"{MOST_PICKS} are the most")
        if group.least > most:
            raise UsageError(
                f"{short(group.written)} asks for {group.least} to {most}",
                "turn the numbers round",
            )

    def options(self, part: Group | File) -> tuple[Option, ...]:
        """The options that can be chosen; of a group around a file alone, the file's lines."""
        if isinstance(part, File):
            return self._files[part.name]
        options = part.options
        if len(options) == 1 and len(options[0].parts) == 1:
            only = options[0].parts[0]
            options = self._files[only.name] if isinstance(only, File) else options
        return tuple(option for option in options if option.weight)

    def _load(self, part: File) -> tuple[Option, ...]:
        """The lines of a file, or of all that match.

        Raises UsageError if there are none, or one cannot be read.
        """
        options = [option for path in self._paths(part) for option in self._lines(path)]
        if len(options) > MOST_ROWS:
            raise UsageError(
                f"{len(options)} lines for {part.written}", f"{MOST_ROWS} are the most"
            )
        return tuple(options)

    def _lines(self, path: Path) -> list[Option]:
        options = []
        for number, line in enumerate(lines_of(self._text(path)), 1):
            _, flaw = first_flaw([line])
            if flaw:
                raise UsageError(f"{path}, line {number}: {flaw}", UTF8)
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                options.append(Option(1.0, wildcard_syntax.read(line.strip(), self._is_known)))
            except UsageError as error:
                message = f"{path}, line {number}: {error.message}"
                raise UsageError(message, error.hint) from error
        if not options:
            raise UsageError(f"no lines in {path}", "write one option a line")
        return options

    def _text(self, path: Path) -> str:
        """Of a file inside the folder; of all of them together there is no more than of one."""
        folder = path if self.folder is None else self.folder
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{path} leads out of its folder", f"copy the file into {folder}")
        try:
            content = structured.content(path, structured.MOST_BYTES - self._bytes)
            self._bytes += len(content)
            return structured.decoded(content)
        except OSError as error:
            hint = "check its permissions"
            raise UsageError(f"cannot read {path}: {error.strerror}", hint) from error
        except MalformedError as error:
            message = f"{path}: {error.problem}"
            hint = f"{UTF8}; of all wildcards, {structured.MOST_BYTES >> 20} MiB are the most"
            raise UsageError(message, hint) from error

    @cached_property
    def _known(self) -> dict[str, Path]:
        """The files of the folder by their names, which two systems may spell in two ways."""
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

    def _paths(self, part: File) -> list[Path]:
        """The file of a wildcard, or all that match. Raises UsageError where there is none."""
        if self.folder is None:
            raise UsageError(
                f"no folder of wildcards for {part.written}",
                f"name one, or write \\{part.written} for what stands there",
            )
        name = _spelled(part.name)
        if name in self._known:
            return [self._known[name]]
        if name.endswith(")") and "=" in name:
            message = f"a wildcard with a variable: {short(part.written)}"
            raise UsageError(message, "gcr has none; write its value where it is used")
        matches = [path for known, path in self._known.items() if fnmatchcase(known, name)]
        if "*" in name and matches:
            return matches
        listed = ", ".join(f"__{known}__" for known in list(self._known)[:12])
        nearest = self._nearest(name)
        raise UsageError(
            f"no wildcard file {self.folder / part.name}.txt",
            f"did you mean __{nearest[0]}__?" if nearest else f"there is {listed or 'none at all'}",
        )

    def _is_known(self, name: str) -> bool:
        return _spelled(name) in self._known or bool(self._nearest(name))

    def _nearest(self, name: str) -> list[str]:
        """The known name that is most like this one, if any is."""
        return difflib.get_close_matches(_spelled(name), self._known, n=1)


def _spelled(name: str) -> str:
    """A name with its accents as one character each, as text has them and not every file system."""
    return unicodedata.normalize("NFC", name)


class _Saying:
    """Makes the choices of one text."""

    def __init__(
        self, wildcards: Wildcards, seed: int, rng: random.Random, choices: list[Choice]
    ) -> None:
        self._wildcards = wildcards
        self._seed = seed
        self._rng = rng
        self._choices = choices

    def all(self, parts: Sequence[Part]) -> str:
        """The parts in words. Raises UsageError where they are beyond a bound."""
        words = "".join(part if isinstance(part, str) else self._chosen(part) for part in parts)
        if len(words) > MOST_CHARACTERS or len(self._choices) > MOST_CHOICES:
            raise UsageError(
                "wildcards that become too much",
                f"{MOST_CHOICES} choices and {MOST_CHARACTERS} characters are the most",
            )
        return words

    def _chosen(self, part: File | Group) -> str:
        options = self._wildcards.options(part)
        if part.in_turn:
            taken, separator = [options[self._seed % len(options)]], ""
        elif isinstance(part, File):
            taken, separator = _draw(options, 1, self._rng), ""
        else:
            separator = part.separator
            most = len(options) if part.most is None else part.most
            count = part.least + int(self._rng.random() * (most - part.least + 1))
            taken = _draw(options, count, self._rng)
        chosen = tuple(self.all(option.parts) for option in taken)
        self._choices.append(Choice(part.written, chosen))
        return separator.join(chosen)


def _draw(options: Sequence[Option], count: int, rng: random.Random) -> list[Option]:
    """So many different options, by their weights."""
    rest = list(options)
    taken = []
    if all(option.weight == 1 for option in rest):  # the lines of a file: there may be a million
        return [rest.pop(int(rng.random() * len(rest))) for _ in range(count)]
    for _ in range(count):
        bounds = list(accumulate(option.weight for option in rest))
        place = bisect(bounds, rng.random() * bounds[-1])
        taken.append(rest.pop(min(place, len(rest) - 1)))
    return taken
