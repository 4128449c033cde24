"""Whether connections may be made: `--offline` and `GCR_OFFLINE=1` forbid them."""

from __future__ import annotations

import os
import sys

VARIABLE = "GCR_OFFLINE"
HUB_VARIABLE = "HF_HUB_OFFLINE"
"""The same switch of huggingface_hub, for it and for all libraries that use it."""


def set_up(*, forbid: bool) -> None:
    """Make no connection from now on, if `forbid` or the environment says so.

    That holds for this process and for those that it starts.
    """
    if forbid:
        os.environ[VARIABLE] = "1"
    obey()


def forbidden() -> bool:
    """Whether no connection may be made at all."""
    return is_set(VARIABLE)


def hub_forbidden() -> bool:
    """Whether models may not be fetched."""
    return is_set(VARIABLE) or is_set(HUB_VARIABLE)


def obey() -> None:
    """Pass the environment's switch on to huggingface_hub; call before models are looked for."""
    if not forbidden():
        return
    os.environ[HUB_VARIABLE] = "1"
    # The library reads the variable when it is imported, which may have been before.
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def is_set(name: str) -> bool:
    """Whether a variable of the environment is switched on."""
    return os.environ.get(name, "").casefold() not in ("", "0", "false", "no", "off")
