"""What the embedded critic does not understand, and what follows from that.

It knows a small world of coloured shapes. Asked about anything else it still writes a critique,
with a score that nobody should believe. So a request of which it understands nothing is refused,
and where it understands a part, every score is marked as untrusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.core.phrases import quoted
from gcr.core.syntax import words
from gcr.errors import UsageError
from gcr.settings import profiles

if TYPE_CHECKING:
    from gcr.core.records import Request
    from gcr.settings.schema import Settings

EXAMPLE = "a red circle and a blue star"
SHOWN = 60  # characters of a prompt in a message


def is_limited(model: str) -> bool:
    """Whether a model is of the embedded pair."""
    return model.startswith(f"{profiles.EMBEDDED}:")


def ignored(request: Request) -> tuple[str, ...]:
    """Phrases of a request that the embedded pair does not understand, in order."""
    from gcr.pocket import language

    return () if request.source else language.understand(words(request.prompt)).ignored


def refusal(prompt: str, settings: Settings) -> str:
    """Why the critic of these settings cannot judge images for a prompt; empty where it can."""
    if not is_limited(settings.critic):
        return ""
    from gcr.pocket import language

    if language.understand(words(prompt)).phrases:
        return ""
    shown = prompt if len(prompt) <= SHOWN else f"{prompt[: SHOWN - 1]}…"
    return f"the embedded critic understands nothing of {quoted([' '.join(shown.split())])}"


def check(prompt: str, settings: Settings, *, edit: bool = False) -> None:
    """Raise UsageError for what the embedded pair cannot do at all. edit: whether an image is to
    be edited.
    """
    roles = ((settings.generator, "edits no images"), (settings.critic, "judges no edits"))
    for model, does in roles if edit else ():
        if is_limited(model):
            raise UsageError(
                f"{model} {does}: it knows single pictures of coloured shapes",
                "name an editing pipeline with -m and a vision-language model with --critic",
            )
    if why := refusal(prompt, settings):
        raise UsageError(why, instead())


def instead() -> str:
    """What to do about a request of which nothing is understood."""
    names = [name for name in profiles.known() if name != profiles.EMBEDDED]
    larger = ", ".join(sorted(names, key=lambda name: (len(name), name)))  # 8gb before 12gb
    return f'gcr refine "{EXAMPLE}" works; for anything else take a larger --profile: {larger}'
