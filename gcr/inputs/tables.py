"""Rows of tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from gcr.errors import UsageError
from gcr.files.structured import MOST_BYTES, first_flaw, lines_of
from gcr.inputs.rows import (
    MOST_CHARACTERS,
    MOST_COLUMNS,
    MOST_ROWS,
    UTF8,
    Row,
    column_of,
    no_prompt,
)

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
