"""API keys, each bound to the servers that may have it.

OPENAI_API_KEY is OpenAI's, so it goes to OpenAI's own host alone. GCR_API_KEY is for whichever
server the user named; to one that only a file names it goes where the user trusts the file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gcr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.settings.address import Address

OURS, OPENAI = "GCR_API_KEY", "OPENAI_API_KEY"


def key_for(address: Address, environ: Mapping[str, str], *, trusted: bool) -> str:
    """The key to send to a server; empty for none. trusted: whether the user named the server.

    Raises UsageError for what cannot be a key.
    """
    ours = _value(OURS, environ) if trusted else ""
    return ours or (_value(OPENAI, environ) if address.is_openai else "")


def check(address: Address, origin: str, environ: Mapping[str, str]) -> None:
    """Raise UsageError where a key would go to a server that the user did not name.

    origin: what names the server, in words for the user.
    """
    if not _value(OURS, environ) or key_for(address, environ, trusted=False):
        return
    raise UsageError(
        f"{OURS} is set, and would be sent to {address.url}, which only {origin} names",
        f"--trust-endpoint sends it there; or name the server with --critic, or unset {OURS}",
    )


def advice(address: Address, environ: Mapping[str, str]) -> str:
    """What to do where a server wants a key and was sent none."""
    if environ.get(OPENAI) and not address.is_openai:
        return f"set {OURS} ({OPENAI} goes to api.openai.com alone)"
    return f"set {OURS}"


def _value(name: str, environ: Mapping[str, str]) -> str:
    key = environ.get(name, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise UsageError("the API key holds characters that no key has", f"look at {name}")
    return key
