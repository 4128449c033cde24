"""Rows of prompt files: of plain lines, of JSON and YAML, of CSV, TSV and Parquet.

A plain line that begins with a flag of A1111's is read as its "prompts from file" does:
`--prompt "a dog" --seed 5`. A row's columns come out as JSON values.
"""

from __future__ import annotations

import csv
import logging
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import IO, Any

from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.files import paths, structured
from gcr.files.atomic import reading
from gcr.files.structured import (
    MOST_BYTES,
    MOST_DEPTH,
    MalformedError,
    first_flaw,
    is_text,
    lines_of,
    too_deep,
)

PROMPT = (
    "prompt",
    "prompts",
    "positive_prompt",
    "positive prompt",
    "prompt_en",
    "prompt_zh",
    "prompt_cn",
    "text",
    "caption",
    "instruction",
    "superficial_prompt",
    "reason_prompt",
    "short_description",
    "long_description",
)
"""What published files call the column of the prompts; the first of these is taken."""

MOST_ROWS = 1_000_000
"""Of a file."""
MOST_COLUMNS = 1000
MOST_CHARACTERS = 1 << 20
"""Of one cell."""

MOST_LINES = 4 * MOST_ROWS
"""Of a file: a prompt may take several lines."""

STDIN = "-"
UTF8 = "save it as UTF-8"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Attributes:
        source: the file's name, as the user gave it.
        line: where the row starts, from 1; 0 in a format without lines.
        content: the row's columns, or its text; anything else is no prompt.
        fault: why the row cannot be read; empty for a row that can.
        hint: what to do about the fault.
    """

    source: str
    line: int
    content: object = None
    fault: str = ""
    hint: str = ""


class BadRowError(ValueError):
    """A row that is no prompt.

    Attributes:
        reason: what is wrong with it.
        hint: what to do about it.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def column_of(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """The column that has the first of the names, ignoring case; None: no column has any.

    names: in lower case.
    """
    by_name = {column.strip().casefold(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), None)


def no_prompt(columns: Sequence[str], prompt_names: Sequence[str] = PROMPT) -> tuple[str, str]:
    """What is wrong with columns of which none holds prompts, and what to do about it."""
    shown = ", ".join(repr(name[:60]) for name in columns[:12])
    shown += ", …" if len(columns) > 12 else ""
    by_hand = prompt_names is not PROMPT
    message = f"no column {prompt_names[0]!r}" if by_hand else "no column of prompts"
    hint = "" if by_hand else f"it can be called {', '.join(PROMPT)}; --column names any other"
    for name in columns[:MOST_COLUMNS]:
        if similar := nearest(name[:60].strip(), prompt_names):
            hint = f"is {name[:60]!r} meant to be {similar!r}? {hint}".strip()
            break
    hint = hint or "--column takes the name of a column, as the file has it"
    return f"{message}; there is {shown or 'none at all'}", hint


def columns_of(content: object, prompt_names: Sequence[str]) -> dict[str, object]:
    """The columns of a row as JSON values; a row that is a text has its prompt alone.

    prompt_names: what the column of the prompts can be called.
    Raises BadRowError.
    """
    if isinstance(content, str):
        content = {prompt_names[0]: content}
    if not isinstance(content, dict):
        hint = "a prompt is a text, or an object with a prompt in it"
        raise BadRowError(f"{kind(content)} is no prompt", hint)
    if len(content) > MOST_COLUMNS:
        raise BadRowError(f"{len(content)} columns", f"{MOST_COLUMNS} are the most")
    return {str(_json(name, 0)): _json(value, 0) for name, value in content.items()}


def _json(value: object, depth: int) -> object:
    """A value as JSON: dates and the like as text, NaN and infinity as None.

    depth: how many lists and objects it is in.
    """
    if depth > MOST_DEPTH:
        raise BadRowError(too_deep(), "write it flatter")
    if isinstance(value, dict):
        return {str(_json(k, depth + 1)): _json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner, depth + 1) for inner in value]
    if isinstance(value, set):
        return sorted(str(_json(inner, depth + 1)) for inner in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and not is_text(value):
        raise BadRowError("a character that no text has", "remove its \\u escape")
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        most = f"{MOST_CHARACTERS} are the most"
        raise BadRowError(f"a text of {len(value)} characters", most)
    if value is None or isinstance(value, str | int):
        return value
    return value.isoformat() if isinstance(value, date | time) else str(value)


def kind(value: object) -> str:
    """What messages call a value that is not a text."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    return "an object" if isinstance(value, dict) else "a list"


logger = logging.getLogger(__name__)

FORM = "it holds a list of texts or objects, or one object of objects keyed by id"
QUOTE = "quote texts that hold `: ` or start with a mark"

READ = ("prompt", "negative_prompt", "seed")
"""Flags of A1111's that are read."""
IGNORED = (
    *("steps", "cfg_scale", "width", "height", "sampler_name", "sampler_index", "sd_model"),
    *("batch_size", "n_iter", "styles", "subseed", "subseed_strength", "restore_faces", "tiling"),
    *("seed_resize_from_h", "seed_resize_from_w", "outpath_samples", "outpath_grids"),
    *("prompt_for_display", "do_not_save_samples", "do_not_save_grid"),
)
"""Flags of A1111's that are ignored: a batch has one setting for all of its prompts."""
ANY_SEED = "-1"
"""A1111's word for a random seed."""

_FLAGS = re.compile(rf"--(?:{'|'.join((*READ, *IGNORED))})(?:\s|$)")
_BEHIND = re.compile(r"\s(--[a-z]{1,16})(?=\s)")
"""A flag behind a prompt, as Midjourney and trainers have them."""
_GAP = re.compile(r"[\s,:]*")
_JSON_KEY = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')


# Lines


class _BadFlagsError(ValueError):
    """A line of flags that cannot be read."""


def plain_lines(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .txt: a prompt on each line, or the flags of A1111."""
    ignored: dict[str, None] = {}
    behind: dict[str, None] = {}
    remarks = 0
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        words = line.strip()
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif _FLAGS.match(words):
            try:
                flags = _flags(words)
            except _BadFlagsError as error:
                yield Row(name, number, fault=str(error), hint='write --prompt "…" --seed 5')
                continue
            ignored |= dict.fromkeys(flag for flag in flags if flag in IGNORED)
            prompt = flags.pop("prompt")
            yield Row(name, number, {prompt_names[0]: prompt, **flags})
        elif words:
            behind |= dict.fromkeys(_BEHIND.findall(words))
            remarks += words.startswith("# ")
            yield Row(name, number, words)
    if behind:
        logger.warning(
            "%s: flags behind prompts are read as words of the prompt: %s; heeded are those of "
            'A1111: --prompt "…" --negative_prompt "…" --seed 5',
            name,
            ", ".join(behind),
        )
    if remarks:
        logger.warning("%s: lines that begin with # are read as prompts: %s", name, remarks)
    if ignored:
        listed = ", ".join(f"--{flag}" for flag in ignored)
        logger.warning(
            "%s: flags that are not heeded: %s; a batch has one setting for all of its prompts",
            name,
            listed,
        )


def _flags(line: str) -> dict[str, str]:
    """The flags of a line and their values; those of a prompt may be several words."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _BadFlagsError(f"malformed quotes: {error}") from error
    flags: dict[str, list[str]] = {}
    flag = ""
    for word in words:
        if not word.startswith("--"):
            flags[flag].append(word)
            continue
        flag = word.removeprefix("--")
        if flag not in (*READ, *IGNORED):
            raise _BadFlagsError(f"A1111 has no flag {word[:60]!r}")
        if flag in flags:
            raise _BadFlagsError(f"{word} stands twice")
        flags[flag] = []
    for flag, values in flags.items():
        if not values or (len(values) > 1 and flag not in ("prompt", "negative_prompt")):
            raise _BadFlagsError(f"--{flag} with {len(values)} values")
    if "prompt" not in flags:
        raise _BadFlagsError("no --prompt")
    if flags.get("seed") == [ANY_SEED]:
        del flags["seed"]
    return {flag: " ".join(values) for flag, values in flags.items()}


def json_lines(name: str, text: str, _names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .jsonl: an object, or a text, on each line."""
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif line.strip():
            try:
                yield Row(name, number, structured.parse_json(line))
            except MalformedError as error:
                hint = "each line must be a JSON object"
                yield Row(name, number, fault=error.problem, hint=hint)


# Documents


def json_document(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .json: a list, an object of objects, or one prompt."""
    with structured.readable(name, UTF8):
        structured.checked(text)
    with structured.readable(name, FORM):
        document = structured.parse_json(text, strict=False)
        if isinstance(document, list):
            for line, item in _items(text):
                yield Row(name, line, item)
        elif not isinstance(document, dict):
            raise UsageError(f"{name}: no list and no object", FORM)
        elif is_one_prompt(document, prompt_names):
            line = text.count("\n", 0, len(text) - len(text.lstrip())) + 1
            yield Row(name, line, structured.parse_json(text))
        else:
            items = _items(text)
            for line, key in items:
                yield _keyed(name, line, str(key), next(items)[1])


def yaml_document(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .yaml, as of a .json."""
    import yaml

    with structured.readable(name, UTF8):
        structured.checked(text)
    with structured.readable(name, QUOTE):
        root = structured.compose_yaml(text)
        if isinstance(root, yaml.SequenceNode):
            for node in root.value:
                yield Row(name, node.start_mark.line + 1, structured.construct_yaml(node))
        elif isinstance(root, yaml.MappingNode):
            document = structured.construct_yaml(root)
            if is_one_prompt(document, prompt_names):
                yield Row(name, root.start_mark.line + 1, document)
                return
            for key, node in root.value:
                value = structured.construct_yaml(node)
                yield _keyed(name, key.start_mark.line + 1, str(key.value), value)
        elif root is not None:
            raise UsageError(f"{name}: no list and no object", FORM)


def is_one_prompt(document: Mapping[object, object], prompt_names: Sequence[str]) -> bool:
    """Whether an object is itself a prompt with its columns, and no object of such objects."""
    prompt = column_of([name for name in document if isinstance(name, str)], prompt_names)
    if prompt is not None:
        return not isinstance(document[prompt], dict)
    return bool(document) and not any(isinstance(value, dict) for value in document.values())


def _items(text: str) -> Iterator[tuple[int, object]]:
    """The items of a valid JSON list, or the keys and values of an object, with their lines."""
    decode = structured.JSON.raw_decode
    bare = text.lstrip()
    before = len(text) - len(bare)
    line, counted, at = 1, 0, _after_gap(text, before + 1)
    while text[at] not in "]}":
        line, counted = line + text.count("\n", counted, at), at
        try:
            item, end = decode(text, at)
        except MalformedError as error:
            raise MalformedError(error.problem, line) from error
        yield line, item
        at = _after_gap(text, end)


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _keyed(name: str, line: int, key: str, value: object) -> Row:
    """A row of an object of objects: its key is one more column."""
    if isinstance(value, dict):
        return Row(name, line, {"key": key} | value)
    return Row(name, line, fault=f"{key[:60]!r} is no object with a prompt in it", hint=FORM)


HEADERLESS = ("seed", "category")
"""The columns after the prompt in a .tsv whose first row names none, as in DrawBench's."""

QUOTING = 'a cell that holds separators or quotes is put in quotes, and a quote in it is ""'

_SEPARATOR = re.compile(r"\"?sep=([^\w\s\"]|\t)\"?[\r\n]*", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of a table.

    Attributes:
        line: where it starts, from 1.
        cells: as text.
        fault: why there are no cells; empty where there are.
        hint: what to do about the fault.
    """

    line: int
    cells: list[str]
    fault: str = ""
    hint: str = ""


def csv_rows(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .csv: separated by commas, or as some spreadsheets do, by semicolons or tabs."""
    lines, separator = _declared_separator(lines_of(text))
    if separator:
        return _below_header(name, _records(lines, separator), prompt_names)
    tables = [_records(lines, ",")]
    for separator in ";\t":
        if tables[0] and not column_of(tables[0][0].cells, prompt_names):
            tables.append(_records(lines, separator))
    named = (table for table in tables if table and column_of(table[0].cells, prompt_names))
    return _below_header(name, next(named, tables[0]), prompt_names)


def tsv_rows(name: str, text: str, prompt_names: Sequence[str]) -> Iterator[Row]:
    """Rows of a .tsv. The first row names the columns unless its second cell is a seed."""
    lines, separator = _declared_separator(lines_of(text))
    if separator:
        return _below_header(name, _records(lines, separator), prompt_names)
    records = _records(lines, "\t", _quoting(lines))
    cells = records[0].cells if records else []
    headerless = len(cells) == 1 or (len(cells) > 1 and _WHOLE_NUMBER.fullmatch(cells[1]))
    if column_of(cells, prompt_names) or not headerless:
        return _below_header(name, records, prompt_names)
    columns = [prompt_names[0], *HEADERLESS, *(_unnamed(n) for n in range(4, len(cells) + 1))]
    return _rows(name, columns[: len(cells)], records)


def _declared_separator(lines: list[str]) -> tuple[list[str], str]:
    """The lines, and the separator that the first of them names, as in Excel's `sep=;`; else ""."""
    mark = _SEPARATOR.fullmatch(lines[0]) if lines else None
    return (["\n", *lines[1:]], mark[1]) if mark else (lines, "")


IMAGES_AT_ONCE = 8
"""Rows with images that are unpacked together."""


def parquet_rows(
    name: str, content: IO[bytes], prompt_names: Sequence[str], images: Sequence[str] = ()
) -> Iterator[Row]:
    """Rows of a Parquet file, without the columns that hold bytes, as images do, except those that
    are called as one of `images`.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"{name}: no pyarrow to read it", "pip install 'gcr[parquet]'") from error
    try:
        with parquet.ParquetFile(content) as file:
            schema = file.schema_arrow
            _checked(name, schema.names, prompt_names)
            texts = [field.name for field in schema if not _holds_bytes(field.type)]
            at_once = _rows_at_once(name, file.metadata, texts)
            pictures = [
                column
                for column in schema.names
                if column not in texts and column.strip().casefold() in images
            ]
            at_once = min(at_once, IMAGES_AT_ONCE) if pictures else at_once
            unpacked = 0
            for batch in file.iter_batches(batch_size=at_once, columns=[*texts, *pictures]):
                for row in batch.to_pylist():
                    unpacked += _size({column: row[column] for column in texts})
                    if unpacked > MOST_BYTES:
                        raise _too_large(name)
                    yield Row(name, 0, row)
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise UsageError(f"cannot read {name}: {problem}", "is it a whole Parquet file?") from error


def _rows_at_once(name: str, about: Any, texts: Sequence[str]) -> int:
    """How many rows to unpack together, so that they fit even if each has the largest cell.

    about: the file's metadata. Raises UsageError where they say that the file is too large.
    """
    if about.num_rows > MOST_ROWS:
        message = f"{name}: {about.num_rows} rows, and {MOST_ROWS} are the most"
        raise UsageError(message, "split it into several files")
    groups = (about.row_group(index) for index in range(about.num_row_groups))
    columns = (group.column(index) for group in groups for index in range(group.num_columns))
    parts = [part for part in columns if part.path_in_schema.split(".")[0] in texts]
    size = sum(part.total_uncompressed_size + part.num_values for part in parts)
    if size > MOST_BYTES:
        raise _too_large(name)
    largest = max((part.total_uncompressed_size for part in parts), default=0)
    return min(max(4 * MOST_BYTES // max(largest, 1), 1), 1024)


def _size(value: object) -> int:
    """Of a cell, or a row: its characters, and 1 for each value that is not a text."""
    if isinstance(value, str | bytes):
        return len(value) + 1
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return 1 + (sum(map(_size, value)) if isinstance(value, list) else 0)


def _too_large(name: str) -> UsageError:
    message = f"{name}: more than {MOST_BYTES >> 20} MiB of texts and numbers"
    return UsageError(message, "remove the columns that are of no use, or split it")


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _records(lines: list[str], separator: str, quoting: Any = csv.QUOTE_MINIMAL) -> list[_Record]:
    """The records that are not blank. After a malformed one, the next line starts a record."""
    records: list[_Record] = []
    at = 0
    with _long_cells():
        while at < len(lines) and len(records) <= MOST_ROWS + 1:  # more are refused anyway
            rest = map(lines.__getitem__, range(at, len(lines)))
            reader = csv.reader(rest, delimiter=separator, quoting=quoting, strict=True)
            try:
                cells, fault, length = next(reader), "", reader.line_num
            except csv.Error as error:
                cells, fault, length = [], _unreadable(error), 1
            line, flaw = first_flaw(lines[at : at + length])
            if fault or flaw or any(cell.strip() for cell in cells):
                hint = UTF8 if flaw else QUOTING
                records.append(_Record(at + line, cells, flaw or fault, hint))
            at += length
    return records


def _unreadable(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a cell of more than {MOST_CHARACTERS} characters, or a quote that is not closed"
    return f"malformed quotes: {error}"


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(MOST_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _quoting(lines: list[str]) -> Any:
    """Whether quotes in a file with tabs enclose cells: only if all of them can be read so.

    Many such files are written without any quoting, and a prompt may well begin with a quote.
    """
    with _long_cells():
        try:
            for _ in csv.reader(lines, delimiter="\t", strict=True):
                pass
        except csv.Error:
            return csv.QUOTE_NONE
    return csv.QUOTE_MINIMAL


def _below_header(name: str, records: list[_Record], prompt_names: Sequence[str]) -> Iterator[Row]:
    if not records:
        return iter(())
    header, *rest = records
    if header.fault:
        raise UsageError(f"{name}, line {header.line}: {header.fault}", header.hint)
    return _rows(name, _checked(name, header.cells, prompt_names), rest)


def _checked(name: str, names: Sequence[str], prompt_names: Sequence[str]) -> list[str]:
    """Column names without spaces around them; one without a name is called by its number."""
    if len(names) > MOST_COLUMNS:
        message = f"{name}: {len(names)} columns, and {MOST_COLUMNS} are the most"
        raise UsageError(message, "remove those that are of no use")
    columns = [cell.strip() or _unnamed(number) for number, cell in enumerate(names, 1)]
    twice = next((c for c in columns if columns.count(c) > 1), None)
    if twice is not None:
        raise UsageError(f"{name}: two columns are called {twice[:60]!r}", "rename one of them")
    if column_of(columns, prompt_names) is None:
        message, hint = no_prompt(columns, prompt_names)
        raise UsageError(f"{name}: {message}", hint)
    return columns


def _unnamed(number: int) -> str:
    return f"column {number}"


def _rows(name: str, columns: list[str], records: Iterable[_Record]) -> Iterator[Row]:
    for record in records:
        fault = record.fault
        if not fault and len(record.cells) != len(columns):
            fields = "1 field" if len(record.cells) == 1 else f"{len(record.cells)} fields"
            fault = f"{fields} where there are {len(columns)} columns"
        content = None if fault else dict(zip(columns, record.cells, strict=True))
        yield Row(name, record.line, content, fault, record.hint)


# Files


def place(source: str, line: int, row: int) -> str:
    return f"{source}, line {line}" if line else f"{source}, row {row}"


def name_of(source: str | Path) -> str:
    """What messages and records call a source."""
    return "stdin" if source == STDIN else str(source)


def read(
    source: str | Path, prompt_names: Sequence[str], images: Sequence[str] = ()
) -> Iterator[Row]:
    """The rows of a file, of a folder, or of standard input.

    Arguments:
        source: a path, or STDIN.
        prompt_names: what the column of the prompts can be called, in lower case; the first that
            is there is taken.
        images: columns of a Parquet file that are read though they hold bytes.

    Raises UsageError for a file that is not there, or that has no rows of its format.
    """
    for number, row in enumerate(_by_format(source, prompt_names, images), 1):
        if number > MOST_ROWS:
            message = f"{name_of(source)}: more than {MOST_ROWS} rows"
            raise UsageError(message, "split it into several files")
        yield row


def _by_format(
    source: str | Path, prompt_names: Sequence[str], images: Sequence[str]
) -> Iterable[Row]:
    name = name_of(source)
    if source == STDIN:
        return _stdin(name, prompt_names)
    path = paths.expanded(source)
    if paths.is_folder(path):
        return _folder(name, path, prompt_names)
    if not paths.exists(path):
        raise UsageError(f"no file {name!r}", "give prompt files, folders of .txt files, or -")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(name, path, prompt_names, images)
    if suffix not in _READERS:
        endings = ", ".join([*_READERS, ".parquet"])
        raise UsageError(f"{name}: a prompt file is known by its ending", f"one of {endings}")
    return _READERS[suffix](name, _text(name, path), prompt_names)


def _parquet(
    name: str, path: Path, prompt_names: Sequence[str], images: Sequence[str]
) -> Iterator[Row]:
    with ExitStack() as stack:
        with _opening(name):
            file = stack.enter_context(reading(path))
        yield from parquet_rows(name, file, prompt_names, images)


def _text(name: str, path: Path) -> str:
    with _opening(name):
        return _of_lines(structured.decoded(structured.content(path)))


def _opening(name: str) -> AbstractContextManager[None]:
    """Turn what is wrong with a file as such into a message with a hint."""
    hint = "check its permissions, or pipe it to -"
    return structured.readable(name, hint, f"{UTF8}, and split one that is too large")


def _of_lines(text: str) -> str:
    """The text itself. Raises MalformedError for too many lines."""
    if text.count("\n") > MOST_LINES:
        raise MalformedError(f"more than {MOST_LINES} lines")
    return text


def _folder(name: str, folder: Path, prompt_names: Sequence[str]) -> Iterator[Row]:
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".txt" and path.is_file() and not path.name.startswith(".")
    )
    if not paths:
        raise UsageError(f"no .txt files in the folder {name}", "name the prompt files themselves")
    for path in paths:
        text = _text(str(path), path)
        line, flaw = first_flaw(lines_of(text))
        content = {"id": path.stem, prompt_names[0]: text.strip()}
        yield Row(str(path), line, content, flaw, UTF8)


def _stdin(name: str, prompt_names: Sequence[str]) -> Iterable[Row]:
    with _opening(name):
        read = structured.up_to(sys.stdin.buffer, structured.MOST_BYTES)
        text = _of_lines(structured.decoded(read))
    first = next((line.strip() for line in lines_of(text) if line.strip()), "")
    try:
        document = structured.parse_json(text, strict=False)
    except MalformedError:
        document = None  # not one document: lines, or plain text
    if isinstance(document, dict | list) or first in {"{", "["}:
        return json_document(name, text, prompt_names)
    reader = json_lines if _JSON_KEY.match(first) else plain_lines
    return reader(name, text, prompt_names)


_READERS: dict[str, Callable[[str, str, Sequence[str]], Iterable[Row]]] = {
    ".txt": plain_lines,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".jsonl": json_lines,
    ".json": json_document,
    ".yaml": yaml_document,
    ".yml": yaml_document,
}
