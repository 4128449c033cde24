"""YAML within the bounds of `gcr.files.structured`.

yaml's own composer recurses, in C without any bound, and aliases of aliases can stand for values of
any size. This one makes the same nodes without recursion, and counts what aliases stand for.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gcr.files.structured import (
    MOST_DEPTH,
    MOST_DIGITS,
    MOST_VALUES,
    TOO_LONG_A_NUMBER,
    MalformedError,
    is_text,
    stands_twice,
    too_deep,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml

LENGTH_OF_VALUE = 64
"""Characters of a text that count as one value: long texts repeated by aliases are large, too."""

_STANDARD = "tag:yaml.org,2002:"
_NUMBERS = (f"{_STANDARD}int", f"{_STANDARD}float")


def parse(text: str) -> Any:
    """The value of a document; None where there is none. Raises MalformedError."""
    root = compose(text)
    return None if root is None else construct(root)


def construct(node: Any) -> Any:
    """The value of a node that `compose` made. Raises MalformedError."""
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


def compose(text: str) -> Any:
    """A document as nodes; None where there is none. Raises MalformedError."""
    import yaml

    try:
        with _no_collection():
            return _Composer().compose(text)
    except yaml.YAMLError as error:
        raise _malformed(error, text.count("\n") + 1) from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection: with so many nodes it would take four times as long as the rest."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _malformed(error: yaml.YAMLError, lines: int) -> MalformedError:
    """lines: how many the text has; libyaml places what is not closed behind the last one."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "a character that it does not allow"
    return MalformedError(f"not YAML: {problem}", min(mark.line + 1, lines) if mark else 0)


@dataclass(slots=True)
class _Open:
    """A list or an object that has not ended. before: the values that were counted before it."""

    node: Any
    anchor: str | None
    before: int
    key: Any = None
    names: set[str] = field(default_factory=set)

    def add(self, node: Any) -> None:
        """Add an item, or a key and then its value."""
        if self.node.id == "sequence":
            self.node.value.append(node)
        elif self.key is not None:
            self.node.value.append((self.key, node))
            self.key = None
        else:
            self.key = node
            self._check_name(node)

    def _check_name(self, key: Any) -> None:
        if key.id != "scalar" or key.tag == f"{_STANDARD}merge":
            return
        if key.value in self.names:
            raise MalformedError(stands_twice(key.value), key.start_mark.line + 1)
        self.names.add(key.value)


class _Composer:
    """Makes nodes of events."""

    def __init__(self) -> None:
        from yaml.resolver import Resolver

        self._resolver: Any = Resolver()
        self._open: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._count = 0

    def compose(self, text: str) -> Any:
        import yaml

        root = None
        for event in self._events(text):
            if isinstance(event, yaml.CollectionEndEvent):
                self._close(event)
                continue
            node = self._node(event)
            if self._open:
                self._open[-1].add(node)
            elif root is None:
                root = node
            else:
                problem = "not YAML: a second document"
                raise MalformedError(problem, event.start_mark.line + 1)
            if isinstance(event, yaml.CollectionStartEvent):
                self._open.append(_Open(node, event.anchor, self._count))
        return root

    def _events(self, text: str) -> Iterator[Any]:
        """The events that begin and end nodes, within bounds."""
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        kinds = (yaml.NodeEvent, yaml.CollectionEndEvent)
        events: Iterator[Any] = yaml.parse(text, Loader=loader)
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, kinds):
                yield event
            if len(self._open) > MOST_DEPTH:
                raise MalformedError(too_deep(), line)
            if self._count > MOST_VALUES:
                raise MalformedError(f"more than {MOST_VALUES} values", line)

    def _close(self, event: Any) -> None:
        ended = self._open.pop()
        ended.node.end_mark = event.end_mark
        if ended.anchor:
            self._sizes[ended.anchor] = self._count - ended.before

    def _node(self, event: Any) -> Any:
        """The node that an event begins, counted."""
        import yaml

        anchor, line = event.anchor, event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if anchor not in self._sizes:  # none is so called, or one that has not ended
                raise MalformedError(f"not YAML: nothing whole is called {anchor[:60]!r}", line)
            self._count += 1 + self._sizes[anchor]
            return self._anchors[anchor]
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._made(yaml.SequenceNode, event)
        else:
            node = self._made(yaml.MappingNode, event)
        size = 1 + (len(event.value) // LENGTH_OF_VALUE if node.id == "scalar" else 0)
        self._count += size
        if anchor:
            self._anchors[anchor] = node
            self._sizes.pop(anchor, None)  # of an earlier one of this name
            if node.id == "scalar":
                self._sizes[anchor] = size
        return node

    def _scalar(self, event: Any) -> Any:
        import yaml

        node = self._made(yaml.ScalarNode, event)
        line = event.start_mark.line + 1
        if node.tag in _NUMBERS and len(event.value) > MOST_DIGITS:
            raise MalformedError(TOO_LONG_A_NUMBER, line)
        if not is_text(event.value):
            raise MalformedError("a character that no text has", line)
        return node

    def _made(self, kind: Any, event: Any) -> Any:
        """A node without what is in it, if it is a list or an object."""
        value = getattr(event, "value", None)
        tag = event.tag
        if tag in (None, "!"):
            tag = self._resolver.resolve(kind, value, event.implicit)
        return kind(tag, [] if value is None else value, event.start_mark, event.end_mark)
