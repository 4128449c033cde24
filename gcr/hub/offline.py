"""Whether connections may be made. `--offline` and `GCR_OFFLINE=1` forbid them."""

from __future__ import annotations

import os
import sys

VARIABLE = "GCR_OFFLINE"
HUB_VARIABLE = "HF_HUB_OFFLINE"
"""What says the same to the library that fetches models, for it and for all that use it."""


def set_up(*, forbid: bool) -> None:
    """Make no connection from now on, in this process and in those it starts, if that is wanted
    or the environment says so already.
    """
    if forbid:
        os.environ[VARIABLE] = "1"
    obey()


def forbidden() -> bool:
    """Whether no connection may be made at all."""
    return _is_set(VARIABLE)


def hub_forbidden() -> bool:
    """Whether models may not be fetched."""
    return _is_set(VARIABLE) or _is_set(HUB_VARIABLE)


def obey() -> None:
    """Tell the hub's library what the environment says; call before models are looked for."""
    if not forbidden():
        return
    os.environ[HUB_VARIABLE] = "1"
    # It looks once, while being imported; whoever called us may have done that before.
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").casefold() not in ("", "0", "false", "no", "off")
