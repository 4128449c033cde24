r"""Wildcards: prompts that say several things, and one of them by a seed.

    {red|blue}           one of the options
    {2$$a|b|c}           two different ones, in any order, with ", " between them
    {2$$ and $$a|b|c}    the same, with " and " between them
    {1-2$$a|b|c}         one or two; {-2$$...}: up to two, {2-$$...}: two or more
    {3::red|blue}        red three times as often
    __colours/warm__     a line of colours/warm.txt in the folder of wildcards
    {2$$__colours__}     two different lines of it
    \{ \} \| \__name__    what stands for itself, without the backslash

Options and lines may hold wildcards. Blank lines of a file and those that begin with # are
nothing. As in Dynamic Prompts, braces around a single option vanish, `{just text}` is `just
text`, and spaces at the start of an option do, too. Unlike there, what cannot be meant is an
error: more options than there are, a file that is missing, a brace that is not closed before a
choice. One that is not closed and has no choice after it stands for itself, as does a closing one
that closes nothing.

Equal text, seed and files give equal words, on every machine and with every Python: only
`Random.random` is drawn from, whose numbers are the same everywhere.
"""

from __future__ import annotations

import difflib
import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from gcr.errors import UsageError
from gcr.formats.rows import UTF8, decoded, first_flaw, lines_of
from gcr.wildcards import syntax
from gcr.wildcards.syntax import File, Group, Option, Part, short


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

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise UsageError(f"no folder {folder}", "name the folder of the wildcard files")
        self.folder = folder
        self._files: dict[str, tuple[Option, ...]] = {}

    def expand(self, text: str, seed: int) -> Expansion:
        """The text with every wildcard replaced by what the seed chooses for it.

        A text without wildcards comes back as it is. The same wildcard in two different texts is
        chosen anew. Raises UsageError for a wildcard that cannot be read, even in an option
        that this seed would not choose.
        """
        try:
            parts = syntax.read(text)
            self._check(parts, ())
            choices: list[Choice] = []
            key = f"{seed}\n{text}".encode(errors="surrogatepass")
            words = self._say(parts, random.Random(key), choices)
        except RecursionError:
            raise UsageError("wildcards too deep in each other", "use fewer braces") from None
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
        if part.name not in self._files:
            options = self._load(part)
            for option in options:
                self._check(option.parts, (*within, part.name))
            self._files[part.name] = options

    def _check_count(self, group: Group) -> None:
        options = self._options(group)
        most = len(options) if group.most is None else group.most
        if max(group.least, most) > len(options):
            raise UsageError(
                f"{short(group.written)} asks for {max(group.least, most)} of {len(options)}",
                "ask for fewer, or give more options",
            )
        if group.least > most:
            raise UsageError(
                f"{short(group.written)} asks for {group.least} to {most}",
                "turn the numbers round",
            )

    def _options(self, group: Group) -> tuple[Option, ...]:
        """The options that can be chosen; of a group around a file alone, the file's lines."""
        options = group.options
        if len(options) == 1 and len(options[0].parts) == 1:
            only = options[0].parts[0]
            options = self._files[only.name] if isinstance(only, File) else options
        return tuple(option for option in options if option.weight)

    def _say(self, parts: Sequence[Part], rng: random.Random, choices: list[Choice]) -> str:
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(part)
                continue
            if isinstance(part, File):
                taken, separator = _draw(self._files[part.name], 1, rng), ""
            else:
                options, separator = self._options(part), part.separator
                most = len(options) if part.most is None else part.most
                count = part.least + int(rng.random() * (most - part.least + 1))
                taken = _draw(options, count, rng)
            chosen = tuple(self._say(option.parts, rng, choices) for option in taken)
            choices.append(Choice(part.written, chosen))
            words.append(separator.join(chosen))
        return "".join(words)

    def _load(self, part: File) -> tuple[Option, ...]:
        """The lines of a file. Raises UsageError if there are none, or one cannot be read."""
        path = self._path(part)
        options = []
        try:
            lines = lines_of(decoded(str(path), path.read_bytes()))
        except OSError as error:
            hint = "check its permissions"
            raise UsageError(f"cannot read {path}: {error.strerror}", hint) from error
        for number, line in enumerate(lines, 1):
            _, flaw = first_flaw([line])
            if flaw:
                raise UsageError(f"{path}, line {number}: {flaw}", UTF8)
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                options.append(Option(1.0, syntax.read(line.strip())))
            except UsageError as error:
                message = f"{path}, line {number}: {error.message}"
                raise UsageError(message, error.hint) from error
        if not options:
            raise UsageError(f"no lines in {path}", "write one option a line")
        return tuple(options)

    def _path(self, part: File) -> Path:
        if self.folder is None:
            raise UsageError(
                f"no folder of wildcards for {part.written}",
                f"name one, or write \\{part.written} for what stands there",
            )
        path = self.folder / f"{part.name}.txt"
        if ".." not in Path(part.name).parts and path.is_file():
            return path
        known = sorted(
            found.relative_to(self.folder).with_suffix("").as_posix()
            for found in self.folder.rglob("*.txt")
        )
        nearest = difflib.get_close_matches(part.name, known, n=1)
        raise UsageError(
            f"no wildcard file {path}",
            f"did you mean __{nearest[0]}__?"
            if nearest
            else f"there is {', '.join(f'__{name}__' for name in known[:12]) or 'none at all'}",
        )


def _draw(options: Sequence[Option], count: int, rng: random.Random) -> list[Option]:
    """So many different options, by their weights."""
    rest = list(options)
    taken = []
    for _ in range(count):
        bounds = list(accumulate(option.weight for option in rest))
        place = bisect(bounds, rng.random() * bounds[-1])
        taken.append(rest.pop(min(place, len(rest) - 1)))
    return taken
