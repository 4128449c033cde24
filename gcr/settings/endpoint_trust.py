"""Which servers are the user's own choice, so that an API key may go there.

Flags, the environment and the user's config folder are the user's word. A file of the working
folder, a profile's file or a run's folder may be somebody else's, who would like to have the key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gcr.critic import endpoint, keys
from gcr.settings import address
from gcr.settings.sources import Given

if TYPE_CHECKING:
    from collections.abc import Mapping

FLAG = "trust_endpoint"
"""What the user says with --trust-endpoint. It can stand in no file."""


def settled(
    critic: Given, environ: Mapping[str, str], flags: Mapping[str, object]
) -> dict[str, Given]:
    """What an address settles: which model is there, whether the server gets the key, and how many
    requests it gets at once.

    flags: with FLAG the user vouches for a server that only a file names. Raises UsageError where
    nobody does and there is a key to lose, and as `endpoint.settled` does.
    """
    trusted = critic.by_user or bool(flags.get(FLAG))
    if not trusted:
        keys.check(address.parse(str(critic.value)), critic.origin, environ)
    return {
        "critic": critic._replace(value=endpoint.settled(str(critic.value), trusted=trusted)),
        "trusted": Given(trusted, critic.origin),
        "judge_batch": Given(endpoint.AT_ONCE, "requests at once"),
    }


def of_record(critic: str, given: Mapping[str, Given], *, trust: bool) -> bool:
    """Whether the critic that a folder records may have the key.

    given: what is set here, which counts where it names the same server. trust: whether the user
    vouches for it. Raises UsageError where it may not, and there is a key to lose.
    """
    if not address.is_address(critic):
        return False
    server, named = address.parse(critic), given.get("critic")
    if trust or (named and named.by_user and _is_at(server, str(named.value))):
        return True
    keys.check(server, "the folder", os.environ)
    return False


def _is_at(server: address.Address, critic: str) -> bool:
    return address.is_address(critic) and address.parse(critic).url == server.url
