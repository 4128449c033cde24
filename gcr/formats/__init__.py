"""The formats of prompt files: a file as rows, each with the line it stands on.

    .txt            one prompt a line; blank lines are nothing
    a folder        each of its .txt files is one prompt, and the file's name its id
    .csv            the first row names the columns; separated by commas, semicolons or tabs
    .tsv            the same with tabs; without names the columns are prompt, seed, category
    .jsonl          a JSON object, or a text, on each line
    .json, .yaml    a list of texts or objects, or one object of objects keyed by id
    .parquet        a table
    -               standard input: JSON lines, a JSON document, or plain lines

All text is UTF-8, with or without a byte order mark. A file that is no such thing is an error. A
row that cannot be read is a row with a fault: whoever asked decides whether to go on.
`gcr.promptfile` makes prompts of the rows.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from gcr.errors import UsageError
from gcr.formats import documents, tables
from gcr.formats.rows import UTF8, Row, decoded, first_flaw, lines_of

__all__ = ["STDIN", "Row", "name", "read"]

STDIN = "-"

_JSON_KEY = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')


def name(source: str | Path) -> str:
    """What messages and records call a source."""
    return "stdin" if source == STDIN else str(source)


def read(source: str | Path) -> Iterator[Row]:
    """The rows of a file, of a folder, or of standard input.

    Raises UsageError for a file that is not there, or that has no rows of its format.
    """
    called = name(source)
    if source == STDIN:
        return iter(_stdin(called))
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(called, path)
    if not path.is_file():
        raise UsageError(f"no file {called!r}", "give prompt files, folders of .txt files, or -")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return tables.parquet(called, path)
    if suffix not in _READERS:
        known = ", ".join([*_READERS, ".parquet"])
        raise UsageError(f"{called}: a prompt file is known by its ending", f"one of {known}")
    return iter(_READERS[suffix](called, _text(called, path)))


def _text(name: str, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = "check its permissions"
        raise UsageError(f"cannot read {name}: {error.strerror}", hint) from error
    return decoded(name, content)


def _plain(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif line.strip():
            yield Row(name, number, line.strip())


def _folder(name: str, folder: Path) -> Iterator[Row]:
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
        content = {"id": path.stem, "prompt": text.strip()}
        yield Row(str(path), line, content, flaw, UTF8)


def _stdin(name: str) -> Iterable[Row]:
    text = decoded(name, sys.stdin.buffer.read())
    first = next((line for line in lines_of(text) if line.strip()), "")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and not all(isinstance(v, dict) for v in document.values()):
        return [Row(name, 1, document)]
    if isinstance(document, dict | list) or first.strip() in {"{", "["}:
        return documents.json_document(name, text)
    return (documents.json_lines if _JSON_KEY.match(first) else _plain)(name, text)


_READERS: dict[str, Callable[[str, str], Iterable[Row]]] = {
    ".txt": _plain,
    ".csv": tables.with_commas,
    ".tsv": tables.with_tabs,
    ".jsonl": documents.json_lines,
    ".json": documents.json_document,
    ".yaml": documents.yaml_document,
    ".yml": documents.yaml_document,
}
