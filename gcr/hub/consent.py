"""What the user lets gcr do: make connections, and fetch something large.

`--offline` and `GCR_OFFLINE=1` forbid connections. What is large is agreed to ahead, or asked at
the terminal; only commands ask. Python callers and workers agree ahead with GCR_YES=1, or are
refused.
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

OFFLINE = "GCR_OFFLINE"
HUB_OFFLINE = "HF_HUB_OFFLINE"
"""The same switch of huggingface_hub, for it and for all libraries that use it."""
YES = "GCR_YES"

_may_speak: ContextVar[bool] = ContextVar("may_speak", default=False)
"""Whether this is a command without --quiet, which may print and ask."""


def set_up(*, agreed: bool, quiet: bool) -> None:
    """Called by a command at its start.

    Arguments:
        agreed: to everything that would be asked, in this process and in those it starts.
        quiet: print and ask nothing.
    """
    if agreed:
        os.environ[YES] = "1"
    _may_speak.set(not quiet)


def go_offline(*, forbid: bool) -> None:
    """Make no connection from now on, if `forbid` or the environment says so.

    That holds for this process and for those that it starts.
    """
    if forbid:
        os.environ[OFFLINE] = "1"
    obey()


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
    if is_set(YES):
        return
    if not (may_speak and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise refusal
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError("not agreed to, so nothing was done", refusal.hint)


def _is_terminal(stream: object) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", bool)())


def is_offline() -> bool:
    """Whether no connection may be made at all."""
    return is_set(OFFLINE)


def is_hub_offline() -> bool:
    """Whether models may not be fetched."""
    return is_set(OFFLINE) or is_set(HUB_OFFLINE)


def obey() -> None:
    """Pass the environment's switch on to huggingface_hub; call before models are looked for."""
    if not is_offline():
        return
    os.environ[HUB_OFFLINE] = "1"
    # The library reads the variable when it is imported, which may have been before.
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def is_set(name: str) -> bool:
    """Whether a variable of the environment is switched on."""
    return os.environ.get(name, "").casefold() not in ("", "0", "false", "no", "off")
