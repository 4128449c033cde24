"""Whether something large may be fetched: agreed to ahead, or asked at the terminal.

Only commands ask. Python callers and workers agree ahead with GCR_YES=1, or are refused.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

from gcr.core.plaintext import plain
from gcr.errors import UsageError
from gcr.hub.offline import is_set

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "GCR_YES"

_may_speak: ContextVar[bool] = ContextVar("may_speak", default=False)
"""Whether this is a command without --quiet, which may print and ask."""


def set_up(*, agreed: bool, quiet: bool) -> None:
    """Called by a command at its start.

    Arguments:
        agreed: to everything that would be asked, in this process and in those it starts.
        quiet: print and ask nothing.
    """
    if agreed:
        os.environ[VARIABLE] = "1"
    _may_speak.set(not quiet)


def obtain(lines: Iterable[str], question: str, refusal: UsageError) -> None:
    """Return if the user agrees.

    Arguments:
        lines: what is going to be done, printed before the question.
        question: to be answered with y or n.
        refusal: raised where nobody can be asked.

    Raises UsageError where the answer is no.
    """
    may_speak = _may_speak.get()
    if may_speak:
        for line in lines:
            sys.stderr.write(f"{plain(line)}\n")
    if is_set(VARIABLE):
        return
    if not (may_speak and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise refusal
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError("not agreed to, so nothing was done", refusal.hint)


def _is_terminal(stream: object) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", bool)())
