"""What pydantic finds wrong with files and values, in words for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

PREFIXES = ("Input ", "String ", "Value error, ")


class Problem(NamedTuple):
    """One thing that is wrong.

    kind: `unknown` for a key that there is not, `missing` for one that is needed, else `value`.
    path: the keys that lead to it; empty where it is wrong with all together.
    reason: what is wrong, to be read after the key: `should be a valid integer`.
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


def first_problem(error: ValidationError) -> Problem:
    """The first problem. An unknown key goes before all others: a misspelt one is missing, too."""
    problems = [_problem(details) for details in error.errors(include_url=False)]
    return min(problems, key=lambda problem: problem.kind != "unknown")


def _problem(details: ErrorDetails) -> Problem:
    path = tuple(map(str, details["loc"]))
    if details["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return Problem("unknown", path, "is not known", details["input"])
    if details["type"] == "missing":
        return Problem("missing", path, "is missing", details["input"])
    reason = details["msg"]
    for prefix in PREFIXES:
        reason = reason.removeprefix(prefix)
    if details["type"] == "tuple_type":  # which files call a list
        reason = "should be a list"
    return Problem("value", path, reason, details["input"])
