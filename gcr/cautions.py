"""What a user should know before anything is drawn, though nothing forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr import profiles, store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.records import Generator, Request
    from gcr.settings import Settings
    from gcr.view import View


def of_pocket(request: Request, settings: Settings, view: View) -> None:
    """Say what the embedded pair cannot do, before anything is drawn."""
    from gcr import pocket

    larger = [profiles.AUTO, *(name for name in profiles.known() if name != profiles.EMBEDDED)]
    hint = f"it knows coloured shapes only; larger pairs: --profile {', '.join(larger)}"
    if settings.chosen and settings.profile == profiles.EMBEDDED:
        view.warn(f"auto: {settings.chosen}", hint)
    models = (settings.generator, settings.critic)
    if any(model.startswith(f"{profiles.EMBEDDED}:") for model in models):
        unknown = pocket.unknown_words(f"{request.prompt} {request.negative}")
        if unknown:
            view.warn(f"the embedded pair does not know: {', '.join(unknown)}", hint)
        elif trouble := pocket.not_understood(request.prompt):
            view.warn(f"the embedded pair may not understand the prompt: {trouble}", hint)


def of_length(request: Request, generator: Generator, view: View) -> None:
    """Say that the end of the prompt will be judged, but not drawn."""
    if over := generator.excess(request.prompt):
        view.warn(
            f"the prompt is too long: {over}",
            "the rest is judged, but not drawn; shorten it, or take another generator",
        )


def of_changes(folder: store.RunFolder, revisions: Mapping[str, str | None], view: View) -> None:
    """Say when a run goes on with other software or models than it was begun with."""
    for key, now in (("versions", store.versions()), ("revisions", revisions)):
        before = folder.story.get(key)
        if before != now:
            view.warn(
                f"{folder.path} was begun with the {key} {before}, and goes on with {now}",
                "images from here on may differ from those of an uninterrupted run",
            )
