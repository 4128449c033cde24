"""Whether something large may be done: agreed to ahead, or asked of whoever is at the terminal.

Only commands ask. In Python and in workers somebody agrees ahead, by GCR_YES=1, or it is refused.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

from gcr.core.plaintext import plain
from gcr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "GCR_YES"

_may_speak: ContextVar[bool] = ContextVar("may_speak", default=False)
"""Whether this is a command that a person gave, and not with --quiet."""


def set_up(*, agreed: bool, quiet: bool) -> None:
    """What a command says at its start. agreed: to all that will be asked, in this process and in
    those it starts. quiet: ask nothing, and say nothing.
    """
    if agreed:
        os.environ[VARIABLE] = "1"
    _may_speak.set(not quiet)


def obtain(what: Iterable[str], question: str, refusal: UsageError) -> None:
    """Tell what is going to be done, and return if somebody agrees to it.

    Raises UsageError where the answer is no, and `refusal` where nobody can be asked.
    """
    speaks = _may_speak.get()
    if speaks:
        for line in what:
            sys.stderr.write(f"{plain(line)}\n")
    if os.environ.get(VARIABLE, "").casefold() not in ("", "0", "false", "no", "off"):
        return
    if not (speaks and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise refusal
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError("not agreed to, so nothing was done", refusal.hint)


def _is_terminal(stream: object) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", bool)())
