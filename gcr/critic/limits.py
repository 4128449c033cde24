"""What the embedded critic does not understand, and what follows from that.

It knows a small world of coloured shapes. Asked about anything else it still writes a critique,
with a score that nobody should believe. So a request of which it understands nothing is refused,
and where it understands a part, every score is marked as untrusted.

Before it scores, it lists what it sees, and then says what on that list stands for each thing that
is wanted. Where it names what it has not listed, or one thing twice, it sees what it was asked for,
and a perfect score is not believed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.core.phrases import quoted
from gcr.core.syntax import words
from gcr.critic import scoring
from gcr.errors import UsageError
from gcr.settings import profiles

if TYPE_CHECKING:
    from gcr.core.records import Critique, Request
    from gcr.settings.schema import Settings

EXAMPLE = "a red circle and a blue star"
SHOWN = 60  # characters of a prompt in a message
DOUBTED = 3.0  # points, 1-4, at most for an account that contradicts itself: as for a single fault
_LISTED = re.compile(r"\ban? (?:small |large )?(\w+ \w+ at the [a-z ]+?)(?=,| on )")
_CHECKED = re.compile(r": (?:(?:small|medium|large) )?(\w+ \w+ at the [a-z ]+?),")


def is_limited(model: str) -> bool:
    """Whether a model is of the embedded pair."""
    return model.startswith(f"{profiles.EMBEDDED}:")


def ignored(request: Request) -> tuple[str, ...]:
    """Phrases of a request that the embedded pair does not understand, in order."""
    from gcr.pocket import language

    return () if request.source else language.understand(words(request.prompt)).ignored


def contradiction(account: str) -> str:
    """The first thing that an account of the embedded critic checks off more often than it lists
    it; empty where it holds together. Sizes do not count: between two of them the critic may say
    either, and be right in the end.

    account: `Seen: a red star at the top on white. Check: red star: red star at the top, right.`
    """
    seen, _, checks = account.partition("Check:")
    listed = Counter(_LISTED.findall(seen))
    checked = Counter(_CHECKED.findall(checks))
    return next(iter(checked - listed), "")


def doubted(critique: Critique) -> Critique:
    """The critique with no more than `DOUBTED` points for an account that contradicts itself, and a
    word on it.
    """
    aspects = [
        replace(
            aspect,
            score=DOUBTED,
            justification=f"{aspect.justification} Contradicts itself: no other {thing} is listed.",
        )
        if (aspect.score or 0.0) > DOUBTED and (thing := contradiction(aspect.justification))
        else aspect
        for aspect in critique.aspects
    ]
    if critique.overall is None or aspects == list(critique.aspects):
        return critique
    scores = [aspect.score for aspect in aspects if aspect.score is not None]
    return replace(critique, aspects=tuple(aspects), overall=scoring.overall(scores))


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
