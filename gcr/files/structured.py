"""Text, JSON and YAML that others wrote, read within bounds, and what is wrong with their values.

A file that is larger or deeper than any real one of its kind is refused before it takes the
machine's memory or the interpreter's stack. A name that stands twice in one object is an error,
because one of the two values would be lost.

libyaml's own composer recurses in C without any bound, and aliases of aliases can stand for values
of any size. Here yaml's composer in Python is told how deep it may go, and counts what aliases
stand for.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from gcr.core.background import no_collection
from gcr.core.plaintext import shortened
from gcr.errors import UsageError
from gcr.files.atomic import reading

if TYPE_CHECKING:
    import yaml
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails


MOST_BYTES = 64 << 20
"""Of a file of prompts; a hundred thousand of them have some ten million."""
CONFIG_BYTES = 1 << 20
"""Of a file that a person wrote to set something."""
RECORD_BYTES = 1 << 29
"""Of a file that gcr wrote: that of a batch holds all of its prompts and their columns."""
MOST_VALUES = 1_000_000
"""In one document, aliases counted as what they stand for; in JSON only lists and objects."""
MOST_DEPTH = 64
"""Lists and objects inside each other."""
RECORD_DEPTH = 2 * MOST_DEPTH
"""In a file that gcr wrote, which has the columns of prompt files inside."""
MOST_DIGITS = 1000
"""Of one number."""

LENGTH_OF_VALUE = 64
"""Characters of a text that count as one value: long texts repeated by aliases are large, too."""

TOO_LONG_A_NUMBER = f"a number of more than {MOST_DIGITS} digits"

_STANDARD = "tag:yaml.org,2002:"
_NUMBERS = (f"{_STANDARD}int", f"{_STANDARD}float")
_SHAPE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_FLAW = re.compile("[\0\udc80-\udcff]")
_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")


class MalformedError(ValueError):
    """A text that is not of its format, or is beyond a bound.

    Attributes:
        problem: what is wrong.
        line: where, from 1; 0: unknown.
    """

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.problem = problem
        self.line = line

    def place(self, name: object) -> str:
        """The file and the line, as messages name them."""
        return f"{name}, line {self.line}" if self.line else str(name)


def damage(path: Path, error: Exception, line: int = 0) -> str:
    """The message for a record of ours that cannot be read: which file, which line, and why.

    line: from 1; 0: the one that the error names, if any.
    """
    problem = " ".join(str(error).split())
    if isinstance(error, MalformedError):
        line = line or error.line
        problem = error.problem.removeprefix("not JSON: ")
    elif isinstance(error, KeyError):
        problem = f"it has no {error}"
    return f"{path}{f', line {line}' if line else ''}, is damaged: {problem}"


@contextmanager
def readable(name: object, hint: str, malformed: str = "") -> Iterator[None]:
    """Have what is wrong with a file of somebody's name the file, and the line.

    name: of the file. hint: where it cannot be read. malformed: the hint for what is not of its
    format, where that is another one.
    Raises UsageError.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}", hint) from error
    except MalformedError as error:
        raise UsageError(f"{error.place(name)}: {error.problem}", malformed or hint) from error


# Files and their text


def content(path: Path, most: int = MOST_BYTES) -> bytes:
    """All of a regular file. Raises OSError, and MalformedError for more than `most` bytes."""
    with reading(path) as file:
        return up_to(file, most)


def up_to(file: IO[bytes], most: int) -> bytes:
    """All that is left of a file. Raises MalformedError for more than `most` bytes."""
    read = file.read(most + 1)
    if len(read) > most:
        size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
        raise MalformedError(f"larger than {size}")
    return read


def decoded(content: bytes) -> str:
    """The text of a file, in which a byte that is not UTF-8 is a lone surrogate: a flaw.

    Raises MalformedError for UTF-16.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MalformedError("UTF-16 instead of UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def text(path: Path, most: int = CONFIG_BYTES) -> str:
    """The text of a file without a flaw. Raises OSError and MalformedError."""
    return checked(decoded(content(path, most)))


def checked(text: str) -> str:
    """The text itself. Raises MalformedError for a flaw."""
    line, flaw = first_flaw(lines_of(text))
    if flaw:
        raise MalformedError(flaw, line)
    return text


def lines_of(text: str) -> list[str]:
    """Lines with their ends: only what every editor calls a line, unlike `str.splitlines`."""
    return list(io.StringIO(text, newline=""))


def first_flaw(lines: Iterable[str]) -> tuple[int, str]:
    """The line, from 1, of the first byte that is not text, and what it is; else 1 and ""."""
    for number, line in enumerate(lines, 1):
        if match := _FLAW.search(line):
            byte = ord(match[0]) & 0xFF
            return number, f"byte 0x{byte:02x} is not UTF-8" if byte else "a NUL byte"
    return 1, ""


def is_text(value: str) -> bool:
    """Whether it has neither NUL nor lone surrogates."""
    return not _NO_CHARACTER.search(value)


# JSON


def record(path: Path) -> Any:
    """What a JSON file of ours holds. Raises OSError and MalformedError."""
    return parse_record(content(path, RECORD_BYTES))


def parse_record(written: bytes) -> Any:
    """As `record`, of a file's content or of one line. Raises MalformedError."""
    return _parsed(checked(decoded(written)), RECORD_BYTES, RECORD_DEPTH, JSON)


def parse_json(text: str, *, strict: bool = True) -> Any:
    """A JSON document. strict: refuse repeated names and very long numbers.

    Raises MalformedError.
    """
    return _parsed(text, MOST_VALUES, MOST_DEPTH, JSON if strict else _LAX)


def _parsed(text: str, most: int, deepest: int, decoder: json.JSONDecoder) -> Any:
    _check_shape(text, most, deepest)
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"not JSON: {error.msg}, column {error.colno}", error.lineno
        ) from error
    except RecursionError as error:
        raise MalformedError(too_deep(deepest)) from error


def _check_shape(text: str, most: int, deepest: int) -> None:
    """Raise MalformedError for JSON that is too deep, or has too many lists and objects."""
    depth = count = 0
    for mark in _SHAPE.finditer(text):
        sign = mark[0]
        if sign in "[{":
            depth, count = depth + 1, count + 1
        elif sign in "]}":
            depth -= 1
        if depth > deepest:
            raise MalformedError(too_deep(deepest), text.count("\n", 0, mark.start()) + 1)
        if count > most:
            raise MalformedError(f"more than {most} lists and objects")


def too_deep(most: int = MOST_DEPTH) -> str:
    """The problem of a document that is too deep."""
    return f"more than {most} lists and objects inside each other"


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise MalformedError(TOO_LONG_A_NUMBER)
    return int(digits)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise MalformedError(stands_twice(name))
    return values


def stands_twice(name: str) -> str:
    """The problem of an object that has a name twice."""
    return f"{name[:60]!r} stands twice in one object"


JSON = json.JSONDecoder(parse_int=_whole_number, object_pairs_hook=_object)
"""Decodes JSON whose shape was checked. Raises ValueError."""
_LAX = json.JSONDecoder(parse_int=float)


# YAML


def parse_yaml(text: str) -> Any:
    """The value of a document; None where there is none. Raises MalformedError."""
    root = compose_yaml(text)
    return None if root is None else construct_yaml(root)


def construct_yaml(node: Any) -> Any:
    """The value of a node that `compose_yaml` made. Raises MalformedError."""
    from yaml import YAMLError
    from yaml.constructor import SafeConstructor

    line = node.start_mark.line + 1
    try:
        return SafeConstructor().construct_document(node)
    except YAMLError as error:
        raise _malformed(error, node.end_mark.line + 1) from error
    # SafeConstructor raises these for a value that is not of the type of its tag.
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise MalformedError("not YAML: a value that is not of its type", line) from error
    except RecursionError as error:
        raise MalformedError(too_deep(), line) from error


def compose_yaml(text: str) -> Any:
    """A document as nodes; None where there is none. Raises MalformedError."""
    import yaml

    try:
        with no_collection():  # nodes, none of them garbage
            loader = _loader()(text)
            loader.get_event()  # where the stream starts
            at_end = loader.check_event(yaml.StreamEndEvent)
            root = None if at_end else loader.compose_document()
            if not loader.check_event(yaml.StreamEndEvent):
                loader.get_event()  # where another document starts
                line = loader.peek_event().start_mark.line + 1
                raise MalformedError("not YAML: a second document", line)
            return root
    except yaml.YAMLError as error:
        raise _malformed(error, text.count("\n") + 1) from error


def _malformed(error: yaml.YAMLError, lines: int) -> MalformedError:
    """lines: how many the text has; libyaml places what is not closed behind the last one."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "a character that it does not allow"
    return MalformedError(f"not YAML: {problem}", min(mark.line + 1, lines) if mark else 0)


@cache
def _loader() -> Any:
    """A loader of yaml's that makes nodes within bounds."""
    import yaml
    from yaml.composer import Composer

    kinds: Any = (Composer, yaml.CSafeLoader) if yaml.__with_libyaml__ else (yaml.SafeLoader,)

    class Bounded(*kinds):  # type: ignore[misc]
        """libyaml's parser, with the composer in Python."""

        def __init__(self, text: str) -> None:
            kinds[-1].__init__(self, text)
            self.anchors: dict[str, Any] = {}
            self.sizes: dict[str, int] = {}  # of what anchors stand for, once it has ended
            self.count = self.depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            anchor, line = event.anchor, event.start_mark.line + 1
            before = self.count
            is_alias = isinstance(event, yaml.AliasEvent)
            if is_alias:
                if anchor not in self.sizes:  # none is so called, or one that has not ended
                    raise MalformedError(f"not YAML: nothing whole is called {anchor[:60]!r}", line)
                self.count += self.sizes[anchor]
            elif anchor:  # which may have named something else before
                self.anchors.pop(anchor, None)
                self.sizes.pop(anchor, None)
            is_open = isinstance(event, yaml.CollectionStartEvent)
            is_scalar = isinstance(event, yaml.ScalarEvent)
            self.depth += is_open
            self.count += 1 + (len(event.value) // LENGTH_OF_VALUE if is_scalar else 0)
            if self.depth > MOST_DEPTH:
                raise MalformedError(too_deep(), line)
            if self.count > MOST_VALUES:
                raise MalformedError(f"more than {MOST_VALUES} values", line)
            node = super().compose_node(parent, index)
            self.depth -= is_open
            if anchor and not is_alias:
                self.sizes[anchor] = self.count - before
            return node if is_alias else _checked(node)

    return Bounded


def _checked(node: Any) -> Any:
    """The node itself. Raises MalformedError for what it must not hold."""
    if node.id == "scalar":
        line = node.start_mark.line + 1
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise MalformedError(TOO_LONG_A_NUMBER, line)
        if not is_text(node.value):
            raise MalformedError("a character that no text has", line)
    elif node.id == "mapping":
        names: set[object] = set()
        for key, _ in node.value:
            if key.id == "scalar" and key.tag != f"{_STANDARD}merge":
                # 1 and 0x1 are written otherwise, and would be one key.
                value = key.value if key.tag == f"{_STANDARD}str" else construct_yaml(key)
                if not names.isdisjoint((key.value, value)):
                    raise MalformedError(stands_twice(key.value), key.start_mark.line + 1)
                names |= {key.value, value}
    return node


# Values that are not as they should be

PREFIXES = ("Input ", "Value error, ")
WHOLE = "should be a whole number"
REASONS: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "should be a list"),
    "dict_type": "should be a mapping",
    "string_type": "should be text",
    "path_type": "should be a path",
    "predicate_failed": "should be a finite number",
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "string_too_short": "should have at least {min_length} characters",
}
"""What is said of pydantic's kinds of errors: its own words are for whoever declares the fields."""
LONGEST_SHOWN = 100
"""Characters of a value that is wrong."""
EMPTY = "is empty"


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks, reads and writes records of a kind, as its fields are declared."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def valid(kind: Any, given: object) -> Any:
    """A record of a kind. given: its values, or JSON as bytes.

    Raises ValueError that says what is wrong first.
    """
    from pydantic import ValidationError

    read = adapter(kind)
    try:
        return (
            read.validate_json(given) if isinstance(given, bytes) else read.validate_python(given)
        )
    except ValidationError as error:
        problem = first_problem(error)
        number = problem.value if isinstance(problem.value, int | float) else None
        shown = "" if number is None else f", not {shortened(repr(number), LONGEST_SHOWN)}"
        raise ValueError(f"{problem}{shown}") from error


class Problem(NamedTuple):
    """One thing that is wrong.

    kind: `unknown` for a key that there is not, `missing` for one that is needed, else `value`.
    path: the keys that lead to it; empty where it is wrong with all together.
    reason: what is wrong, to be read after the key: `should be a whole number`.
    value: what was given.
    """

    kind: Literal["unknown", "missing", "value"]
    path: tuple[str, ...]
    reason: str
    value: object

    @property
    def key(self) -> str:
        return ".".join(self.path)

    def __str__(self) -> str:
        return f"{self.key} {self.reason}" if self.path else self.reason

    def of(self, name: str) -> str:
        """What is wrong with a value, by the name of what it was given for, and the value."""
        if self.reason == EMPTY:
            return f"{name} {EMPTY}"
        return f"{name} {self.reason}, not {shortened(repr(self.value), LONGEST_SHOWN)}"


def first_problem(error: ValidationError) -> Problem:
    """The first problem. An unknown key goes before all others: a misspelt one is missing, too."""
    problems = [_problem(details) for details in error.errors(include_url=False)]
    return min(problems, key=lambda problem: problem.kind != "unknown")


def _problem(details: ErrorDetails) -> Problem:
    path = tuple(map(str, details["loc"]))
    if details["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return Problem("unknown", path, "is not known", details["input"])
    if details["type"] in {"missing", "missing_argument"}:
        return Problem("missing", path, "is missing", details["input"])
    if details["type"] == "string_too_short" and not details["input"]:
        reason = EMPTY
    elif details["type"] in REASONS:
        limits = {name: _brief(limit) for name, limit in details.get("ctx", {}).items()}
        reason = REASONS[details["type"]].format_map(limits)
    else:
        reason = details["msg"]
        for prefix in PREFIXES:
            reason = reason.removeprefix(prefix)
    return Problem("value", path, reason, details["input"])


def _brief(limit: object) -> object:
    """A number without a fraction of nothing."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
