"""The formats of prompt files: a file as rows, each with the line it stands on.

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
than any real one, is an error. A row that cannot be read is a row with a fault: the caller decides
whether to go on. `gcr.inputs.promptfile` makes prompts of the rows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gcr.errors import UsageError
from gcr.files import structured
from gcr.files.atomic import reading
from gcr.files.structured import MalformedError, first_flaw, lines_of
from gcr.inputs import documents, tables
from gcr.inputs.rows import MOST_ROWS, PROMPT, UTF8, Row

__all__ = ["STDIN", "Row", "name_of", "read"]

STDIN = "-"

MOST_LINES = 4 * MOST_ROWS
"""Of a file: a prompt may take several lines."""

_JSON_KEY = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')


def name_of(source: str | Path) -> str:
    """What messages and records call a source."""
    return "stdin" if source == STDIN else str(source)


def read(source: str | Path, prompt_names: Sequence[str] = PROMPT) -> Iterator[Row]:
    """The rows of a file, of a folder, or of standard input.

    Arguments:
        source: a path, or STDIN.
        prompt_names: what the column of the prompts can be called, in lower case; the first that
            is there is taken.

    Raises UsageError for a file that is not there, or that has no rows of its format.
    """
    for number, row in enumerate(_rows(source, prompt_names), 1):
        if number > MOST_ROWS:
            message = f"{name_of(source)}: more than {MOST_ROWS} rows"
            raise UsageError(message, "split it into several files")
        yield row


def _rows(source: str | Path, prompt_names: Sequence[str]) -> Iterable[Row]:
    name = name_of(source)
    if source == STDIN:
        return _stdin(name, prompt_names)
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(name, path, prompt_names)
    if not path.exists():
        raise UsageError(f"no file {name!r}", "give prompt files, folders of .txt files, or -")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(name, path, prompt_names)
    if suffix not in _READERS:
        endings = ", ".join([*_READERS, ".parquet"])
        raise UsageError(f"{name}: a prompt file is known by its ending", f"one of {endings}")
    return _READERS[suffix](name, _text(name, path), prompt_names)


def _parquet(name: str, path: Path, prompt_names: Sequence[str]) -> Iterator[Row]:
    with ExitStack() as stack:
        with _opening(name):
            file = stack.enter_context(reading(path))
        yield from tables.parquet_rows(name, file, prompt_names)


def _text(name: str, path: Path) -> str:
    with _opening(name):
        return _of_lines(structured.decoded(structured.content(path)))


@contextmanager
def _opening(name: str) -> Iterator[None]:
    """Turn what is wrong with a file as such into a message with a hint."""
    try:
        yield
    except OSError as error:
        hint = "check its permissions, or pipe it to -"
        raise UsageError(f"cannot read {name}: {error.strerror}", hint) from error
    except MalformedError as error:
        hint = f"{UTF8}, and split one that is too large"
        raise UsageError(f"{name}: {error.problem}", hint) from error


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
        return documents.json_document(name, text, prompt_names)
    reader = documents.json_lines if _JSON_KEY.match(first) else documents.plain_lines
    return reader(name, text, prompt_names)


_READERS: dict[str, Callable[[str, str, Sequence[str]], Iterable[Row]]] = {
    ".txt": documents.plain_lines,
    ".csv": tables.csv_rows,
    ".tsv": tables.tsv_rows,
    ".jsonl": documents.json_lines,
    ".json": documents.json_document,
    ".yaml": documents.yaml_document,
    ".yml": documents.yaml_document,
}
