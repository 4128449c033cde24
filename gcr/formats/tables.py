"""Rows of tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gcr.errors import UsageError
from gcr.formats.rows import PROMPT, UTF8, Row, column, first_flaw, lines_of, no_prompt

if TYPE_CHECKING:
    from pathlib import Path

HEADERLESS = ("prompt", "seed", "category")
"""The columns of a file with tabs whose first row does not name them, as DrawBench's."""

LONGEST_CELL = (1 << 31) - 1
QUOTING = 'a cell that holds separators or quotes is put in quotes, and a quote in it is ""'

_WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of one record, which starts on this line; or why there are none."""

    line: int
    cells: list[str]
    fault: str = ""
    hint: str = ""


def with_commas(name: str, text: str) -> Iterator[Row]:
    """Rows of a .csv: separated by commas, or as some spreadsheets do, by semicolons or tabs."""
    lines = lines_of(text)
    tables = [_records(lines, ",")]
    for separator in ";\t":
        if tables[0] and not column(tables[0][0].cells, PROMPT):
            tables.append(_records(lines, separator))
    named = (table for table in tables if table and column(table[0].cells, PROMPT))
    return _below_header(name, next(named, tables[0]))


def with_tabs(name: str, text: str) -> Iterator[Row]:
    """Rows of a .tsv. The first row names the columns unless its second cell is a seed."""
    lines = lines_of(text)
    records = _records(lines, "\t", _quoting(lines))
    cells = records[0].cells if records else []
    headerless = len(cells) == 1 or (len(cells) > 1 and _WHOLE_NUMBER.fullmatch(cells[1]))
    if column(cells, PROMPT) or not headerless:
        return _below_header(name, records)
    columns = [*HEADERLESS, *(_unnamed(n) for n in range(len(HEADERLESS) + 1, len(cells) + 1))]
    return _rows(name, columns[: len(cells)], records)


def parquet(name: str, path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, without the columns that hold bytes: those are images."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"{name}: no pyarrow to read it", "pip install 'gcr[parquet]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            _checked(name, schema.names)
            texts = [field.name for field in schema if not _holds_bytes(field.type)]
            for batch in file.iter_batches(batch_size=1024, columns=texts):
                for content in batch.to_pylist():
                    yield Row(name, 0, content)
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"cannot read {name}: {said}", "is it a whole Parquet file?") from error


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _records(lines: list[str], separator: str, quoting: Any = csv.QUOTE_MINIMAL) -> list[_Record]:
    """The records that are not blank. After one that cannot be read, the next line starts anew."""
    found = []
    at = 0
    with _cells_of_any_length():
        while at < len(lines):
            rest = map(lines.__getitem__, range(at, len(lines)))
            reader = csv.reader(rest, delimiter=separator, quoting=quoting, strict=True)
            try:
                cells, fault, taken = next(reader), "", reader.line_num
            except csv.Error as error:
                cells, fault, taken = [], f"malformed quotes: {error}", 1
            line, flaw = first_flaw(lines[at : at + taken])
            if fault or flaw or any(cell.strip() for cell in cells):
                hint = UTF8 if flaw else QUOTING
                found.append(_Record(at + line, cells, flaw or fault, hint))
            at += taken
    return found


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _quoting(lines: list[str]) -> Any:
    """Whether quotes in a file with tabs enclose cells: only if all of them can be read so.

    Many such files are written without any quoting, and a prompt may well begin with a quote.
    """
    with _cells_of_any_length():
        try:
            for _ in csv.reader(lines, delimiter="\t", strict=True):
                pass
        except csv.Error:
            return csv.QUOTE_NONE
    return csv.QUOTE_MINIMAL


def _below_header(name: str, records: list[_Record]) -> Iterator[Row]:
    if not records:
        return iter(())
    header, *rest = records
    if header.fault:
        raise UsageError(f"{name}, line {header.line}: {header.fault}", header.hint)
    return _rows(name, _checked(name, header.cells), rest)


def _checked(name: str, names: Sequence[str]) -> list[str]:
    """Column names without spaces around them; one without a name is called by its number."""
    columns = [cell.strip() or _unnamed(number) for number, cell in enumerate(names, 1)]
    twice = next((c for c in columns if columns.count(c) > 1), None)
    if twice is not None:
        raise UsageError(f"{name}: two columns are called {twice!r}", "rename one of them")
    if column(columns, PROMPT) is None:
        message, hint = no_prompt(columns)
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
