"""Requests, as they are taken from users: checked before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.core.guards import lost
from gcr.core.records import Request
from gcr.critic import limits
from gcr.errors import UsageError
from gcr.inputs import source

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.settings.schema import Settings


def checked_prompt(prompt: str) -> str:
    """The prompt without the space around it. Raises UsageError for one that says nothing."""
    stripped = prompt.strip()
    if not stripped:
        raise UsageError("the prompt is empty", 'say what to draw: gcr refine "a red circle"')
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the prompt is not UTF-8", "check the terminal's encoding") from error
    return stripped


def make_request(prompt: str, settings: Settings, edited: Image | None) -> Request:
    """The request. edited: the image it says how to edit.

    Raises UsageError where these settings do not fit it.
    """
    for span in lost(settings.keep, prompt):
        raise UsageError(
            f"--keep {span!r} is not in the prompt", "copy the words as the prompt has them"
        )
    limits.check(prompt, settings, edit=edited is not None)
    if edited is None:
        return Request(prompt, settings.negative, settings.keep)
    return Request(prompt, settings.negative, settings.keep, source.NAME, source.digest(edited))
