"""Prompt files as published, read as prompts to refine.

    .txt            one prompt a line; blank lines are left out. A line `--prompt "…" --seed 5` is
                    read as A1111 reads it
    a folder        each of its .txt files is one prompt, and the file's name its id
    .csv            the first row names the columns; separated by commas, semicolons or tabs, or by
                    what a line `sep=;` before it says, as Excel writes it
    .tsv            the same with tabs; without names the columns are prompt, seed, category
    .jsonl          a JSON object, or a text, on each line
    .json, .yaml    a list of texts or objects, one object of objects keyed by id, or one prompt
    .parquet        a table
    -               standard input: JSON lines, a JSON document, or plain lines

All text is UTF-8, with or without a byte order mark. A file that is not of its format, or is larger
than any real one, is an error. So is a row that cannot be read, unless such rows are skipped.

Columns are found by their names, ignoring case:

    prompt   the first that is there of prompt, prompts, positive_prompt, prompt_en, prompt_zh,
             prompt_cn, text, caption, instruction, superficial_prompt, reason_prompt,
             short_description and long_description; or the one that is named
    id       id, item_id, prompt_id, index, key, line_number, No.; without one the row's number,
             from 1
    seed     seed, random_seed; an empty one is none, and so is -1
    negative negative_prompt or negative: what is not to be seen, as in --negative

All other columns are kept for the log. They often hold what a picture must show, question by
question: never show them to a critic.

Rows with the same id, prompt, seed and negative prompt are one entry. Of its other columns, those
that are the same in all rows stay as they are, and those that differ become lists of their values.

Ids become distinct. Where files have an id in common, all ids of those files get the file's name
in front: `1` of `birds.txt` is `birds-1`. Where the same id stands before different prompts of
one file, the later ones are numbered: `cat`, `cat-2`, `cat-3`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gcr.errors import UsageError
from gcr.files import paths
from gcr.inputs import rows
from gcr.inputs.rows import (
    PROMPT,
    BadRowError,
    Row,
    column_of,
    columns_of,
    kind,
    no_prompt,
)

ID = ("id", "item_id", "prompt_id", "index", "key", "line_number", "no.")
SEED = ("seed", "random_seed")
NEGATIVE = ("negative_prompt", "negative prompt", "negativeprompt", "negative")
SEEDS = 1 << 32
"""Seeds are 0 and up, below this."""

GO_ON = "--skip-bad goes on without such rows"

_WHOLE_NUMBER = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt of a prompt file.

    Attributes:
        id: distinct among all that were read together.
        prompt: the words as written; lines and whole text files without space around them.
        source: the file's name, as the user gave it, or `stdin`.
        row: its number in the file or folder, from 1, blank lines and headers not counted.
        line: where it starts, from 1; 0 in a format without lines.
        seed: of the first image; None: the file says nothing.
        extra: the other columns, as JSON values. For the log alone: a critic must not see them.
        negative: what is not to be seen; empty: the file says nothing.
    """

    id: str
    prompt: str
    source: str
    row: int
    line: int
    seed: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    negative: str = ""

    @property
    def place(self) -> str:
        """Where it was read, as messages name it."""
        return rows.place(self.source, self.line, self.row)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was left out, and why."""

    source: str
    row: int
    line: int
    reason: str

    @property
    def place(self) -> str:
        return rows.place(self.source, self.line, self.row)


class Prompts(NamedTuple):
    """What prompt files hold, in the order of the files."""

    entries: list[Entry]
    skipped: list[Skipped]


def read(
    sources: Sequence[str | Path], *, column: str | None = None, skip_bad: bool = False
) -> Prompts:
    """Read prompt files.

    Arguments:
        sources: files, folders of text files, and `-`, which is standard input.
        column: the name of the column of the prompts, in any case; None: the usual names.
        skip_bad: leave out the rows that cannot be read; without it the first one is an error. A
            file that as a whole is not what its name says is an error either way.

    Raises UsageError, which names file and line.
    """
    _check_once(sources)
    prompt_names = PROMPT if column is None else (column.strip().casefold(),)
    skipped: list[Skipped] = []
    files = {
        rows.name_of(source): _read_file(source, prompt_names, skipped, skip_bad=skip_bad)
        for source in sources
    }
    entries = _distinct(files)
    if not entries:
        raise UsageError(f"no prompts in {', '.join(files) or 'no files'}", "name a prompt file")
    return Prompts(entries, skipped)


def _check_once(sources: Sequence[str | Path]) -> None:
    places = set()
    for source in map(str, sources):
        place = source if source == rows.STDIN else paths.expanded(source).resolve()
        if place in places:
            raise UsageError(f"{source} is given more than once", "name each prompt file once")
        places.add(place)


def _read_file(
    source: str | Path, prompt_names: Sequence[str], skipped: list[Skipped], *, skip_bad: bool
) -> list[Entry]:
    """The entries of one file; rows without an id of their own have an empty one."""
    entries = []
    number = 0
    for number, row in enumerate(rows.read(source, prompt_names), 1):
        try:
            entries.append(_entry(row, number, prompt_names))
        except BadRowError as bad:
            if not skip_bad:
                where = rows.place(row.source, row.line, number)
                raise UsageError(f"{where}: {bad.reason}", f"{bad.hint}; {GO_ON}") from bad
            skipped.append(Skipped(row.source, number, row.line, bad.reason))
    if not number:
        raise UsageError(f"{rows.name_of(source)} holds no prompts", "name another prompt file")
    return _merged(entries)


# One row


def _entry(row: Row, number: int, prompt_names: Sequence[str]) -> Entry:
    """The entry of a row. Raises BadRowError."""
    if row.fault:
        raise BadRowError(row.fault, row.hint)
    columns = columns_of(row.content, prompt_names)
    prompt, id_, seed, negative = (
        column_of(columns, n) for n in (prompt_names, ID, SEED, NEGATIVE)
    )
    if prompt is None:
        raise BadRowError(*no_prompt(list(columns), prompt_names))
    return Entry(
        id=_id(columns.get(id_ or "")),
        prompt=_prompt(columns[prompt]),
        source=row.source,
        row=number,
        line=row.line,
        seed=_seed(columns.get(seed or "")),
        negative=_negative(columns.get(negative or "")),
        extra={name: value for name, value in columns.items() if name not in {prompt, id_, seed}},
    )


def _prompt(value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadRowError("the prompt is empty", "write one, or remove the row")
    if not isinstance(value, str):
        raise BadRowError(f"the prompt is {kind(value)}, not a text", "put quotes around it")
    return value


def _id(value: object) -> str:
    """The id as text; empty: the row has none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRowError(f"the id is {kind(value)}", "an id is a text or a number")
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _seed(value: object) -> int | None:
    text = "" if value is None else str(value).strip()
    if text in ("", rows.ANY_SEED, f"{rows.ANY_SEED}.0"):
        return None
    number = _WHOLE_NUMBER.fullmatch(text)
    if not number or len(text) > 20 or not 0 <= int(number[1]) < SEEDS:
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise BadRowError(f"seed {shown!r}", f"a seed is a whole number from 0 to {SEEDS - 1}")
    return int(number[1])


def _negative(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise BadRowError(f"the negative prompt is {kind(value)}", "put quotes around it")
    return (value or "").strip()


# All rows


def _merged(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a file: rows with the same id, prompt, seed and negative prompt are one."""
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        same = (entry.id, entry.prompt, entry.seed, entry.negative)
        key = same if entry.id else entry.row
        groups.setdefault(key, []).append(entry)
    return [
        replace(group[0], id=group[0].id or str(group[0].row), extra=_merged_extra(group))
        for group in groups.values()
    ]


def _merged_extra(group: list[Entry]) -> Mapping[str, object]:
    merged: dict[str, object] = {}
    for name in dict.fromkeys(name for entry in group for name in entry.extra):
        values = [entry.extra.get(name) for entry in group]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else values
    return merged


def _distinct(files: Mapping[str, list[Entry]]) -> list[Entry]:
    """The entries of all files, no two with one id."""
    owners = Counter(id_ for entries in files.values() for id_ in {e.id for e in entries})
    named: list[Entry] = []
    for source, entries in files.items():
        shared = any(owners[entry.id] > 1 for entry in entries)
        prefix = f"{Path(source).absolute().stem}-" if shared else ""
        named += [replace(entry, id=prefix + entry.id) for entry in entries]
    ids = {entry.id for entry in named}
    uses: Counter[str] = Counter()
    return [replace(entry, id=_numbered(entry.id, ids, uses)) for entry in named]


def _numbered(id_: str, ids: set[str], uses: Counter[str]) -> str:
    """The id itself the first time; later with the next number that makes it distinct."""
    uses[id_] += 1
    if uses[id_] == 1:
        return id_
    while (numbered := f"{id_}-{uses[id_]}") in ids:
        uses[id_] += 1
    ids.add(numbered)
    return numbered
