"""Rows of JSON lines, JSON and YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gcr.errors import UsageError
from gcr.formats.rows import UTF8, Row, first_flaw, lines_of

if TYPE_CHECKING:
    import yaml

FORM = "it holds a list of texts or objects, or one object of objects keyed by id"

_GAP = re.compile(r"[\s,:]*")


def json_lines(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text), 1):
        _, flaw = first_flaw([line])
        if flaw:
            yield Row(name, number, fault=flaw, hint=UTF8)
        elif line.strip():
            try:
                yield Row(name, number, json.loads(line))
            except (ValueError, RecursionError) as error:
                hint = "each line must be a JSON object"
                yield Row(name, number, fault=f"not JSON: {_said(error)}", hint=hint)


def json_document(name: str, text: str) -> Iterator[Row]:
    _check_text(name, text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{name}{line}: not JSON: {_said(error)}", FORM) from error
    if isinstance(document, list):
        return (Row(name, line, item) for line, item in _items(text))
    if isinstance(document, dict):
        items = _items(text)
        return (_keyed(name, line, str(key), next(items)[1]) for line, key in items)
    raise UsageError(f"{name}: no list and no object", FORM)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many brackets in each other"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return str(error)


def _check_text(name: str, text: str) -> None:
    line, flaw = first_flaw(lines_of(text))
    if flaw:
        raise UsageError(f"{name}, line {line}: {flaw}", UTF8)


def _items(text: str) -> Iterator[tuple[int, object]]:
    """The items of a valid JSON list, or the keys and values of an object, with their lines."""
    decode = json.JSONDecoder().raw_decode
    bare = text.lstrip()
    before = len(text) - len(bare)
    line, counted, at = 1, 0, _after_gap(text, before + 1)
    while text[at] not in "]}":
        line, counted = line + text.count("\n", counted, at), at
        item, end = decode(text, at)
        yield line, item
        at = _after_gap(text, end)


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _keyed(name: str, line: int, key: str, value: object) -> Row:
    """A row of an object of objects: its key is one more column."""
    if isinstance(value, dict):
        return Row(name, line, {"key": key} | value)
    return Row(name, line, fault=f"{key!r} is no object with a prompt in it", hint=FORM)


def yaml_document(name: str, text: str) -> Iterator[Row]:
    import yaml

    _check_text(name, text)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        try:
            yield from _nodes(name, loader)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark else name
        hint = "quote texts that hold `: ` or start with a mark"
        raise UsageError(f"{where}: not YAML", hint) from error


def _nodes(name: str, loader: yaml.SafeLoader) -> Iterator[Row]:
    import yaml

    document = loader.get_single_node()
    if isinstance(document, yaml.SequenceNode):
        for node in document.value:
            yield Row(name, node.start_mark.line + 1, loader.construct_object(node, deep=True))
    elif isinstance(document, yaml.MappingNode):
        for key, node in document.value:
            value = loader.construct_object(node, deep=True)
            yield _keyed(name, key.start_mark.line + 1, str(key.value), value)
    elif document is not None:
        raise UsageError(f"{name}: no list and no object", FORM)
