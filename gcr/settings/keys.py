"""API keys, and which servers may have them.

OPENAI_API_KEY is OpenAI's, so it goes to OpenAI's own host alone. GCR_API_KEY goes to servers that
the user named: by a flag, in the environment, or in the user's config folder. A file of the working
folder, a profile's file or a run's folder may be somebody else's, who would like to have the key;
to a server that only such a file names it goes where the user vouches for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gcr.errors import UsageError
from gcr.settings import address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.settings.address import Address
    from gcr.settings.resolving import Given

OURS, OPENAI = "GCR_API_KEY", "OPENAI_API_KEY"
TRUST = "trust_endpoint"
"""The flag by which the user vouches for a server. It can stand in no file."""


def key_for(server: Address, environ: Mapping[str, str], *, trusted: bool) -> str:
    """The key to send to a server; empty for none. trusted: whether the user named the server.

    Raises UsageError for what cannot be a key.
    """
    ours = _value(OURS, environ) if trusted else ""
    return ours or (_value(OPENAI, environ) if server.is_openai else "")


def trusts_setting(critic: Given, flags: Mapping[str, object], environ: Mapping[str, str]) -> bool:
    """Whether the server that a setting names may have GCR_API_KEY.

    Raises UsageError for a bad address, and where it may not have the key and there is one.
    """
    if critic.by_user or flags.get(TRUST):
        return True
    _check_nothing_to_lose(address.parse(str(critic.value)), critic.origin, environ)
    return False


def trusts_record(
    critic: str, given: Mapping[str, Given], environ: Mapping[str, str], *, vouched: bool
) -> bool:
    """Whether the critic that a folder records may have GCR_API_KEY.

    given: what is set here, which counts where the user names the same server.
    vouched: whether the user vouches for it.
    Raises UsageError where it may not have the key and there is one.
    """
    if not address.is_address(critic):
        return False
    server, named = address.parse(critic), given.get("critic")
    if vouched or (named and named.by_user and _is_at(server, str(named.value))):
        return True
    _check_nothing_to_lose(server, "the folder", environ)
    return False


def _is_at(server: Address, critic: str) -> bool:
    return address.is_address(critic) and address.parse(critic).url == server.url


def _check_nothing_to_lose(server: Address, origin: str, environ: Mapping[str, str]) -> None:
    """Raise UsageError where the user has a key, and it might be meant for this server."""
    if not _value(OURS, environ) or key_for(server, environ, trusted=False):
        return
    raise UsageError(
        f"{OURS} is set, and would be sent to {server.url}, which only {origin} names",
        f"--trust-endpoint sends it there; or name the server with --critic, or unset {OURS}",
    )


def advice(server: Address, environ: Mapping[str, str]) -> str:
    """What to do where a server wants a key and was sent none."""
    if environ.get(OPENAI) and not server.is_openai:
        return f"set {OURS} ({OPENAI} goes to api.openai.com alone)"
    return f"set {OURS}"


def _value(name: str, environ: Mapping[str, str]) -> str:
    key = environ.get(name, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise UsageError("the API key holds characters that no key has", f"look at {name}")
    return key
