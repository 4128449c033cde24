"""Requests, as they are taken from users: checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.core.events import Notice
from gcr.core.guards import lost
from gcr.core.plaintext import shown
from gcr.core.records import Request
from gcr.critic import limits
from gcr.errors import UsageError
from gcr.files import paths
from gcr.inputs import source
from gcr.settings.schema import label

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.settings.schema import Settings
    from gcr.storage.provenance import Provenance


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


class Beginning(NamedTuple):
    """What a run begins with that goes on from an image.

    prompt: the user's, or else the image's. flags: the user's, and the image's where none is given.
    taken: names of the settings that are the image's. unusable: why others are not, in words.
    """

    image: Path
    story: Provenance
    prompt: str
    flags: Mapping[str, Any]
    taken: tuple[str, ...]
    unusable: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What is taken over, in words."""
        values = {name: self.flags[name] for name in self.taken if self.flags[name] != ""}
        words = ["prompt"] if self.prompt == self.story.prompt else []
        words += [
            label(name) if name == "negative" else f"{label(name)} {shown(value)}"
            for name, value in values.items()
        ]
        return ", ".join(words) or "nothing"

    def warnings(self, settings: Settings) -> list[Notice]:
        """What is not taken over, or not the same. settings: of the run."""
        notices = [Notice(reason) for reason in (*self.unusable, *self.story.remarks)]
        sampler = "" if "scheduler" in self.taken else self.story.sampler
        made = ", ".join(filter(None, (self.story.model, sampler)))
        if made and self.story.model != settings.generator:
            by = ", by its own sampler" if sampler else ""
            notices.append(
                Notice(
                    f"it was drawn by {made}; here {settings.generator} draws{by}",
                    "so equal settings do not draw an equal image; -m names another generator",
                )
            )
        return notices


def begin_from(
    image: Path, prompt: str | None, flags: Mapping[str, Any], *, edit: bool
) -> Beginning:
    """What a run begins with that goes on from an image. Flags that are given win.

    Raises UsageError for an image that cannot be read or says nothing of how it was drawn, and for
    one without a prompt where none is given.
    """
    from gcr import pocket
    from gcr.engine.machine import ThisMachine
    from gcr.settings.resolving import problem_of, resolve
    from gcr.storage import provenance

    carried = provenance.read(paths.expanded(image))
    story = carried.usable or next(iter(carried.stories), None)
    if story is None and prompt is not None:
        raise UsageError(
            f"{image} does not say how it was drawn, so there is nothing to begin with",
            "leave --from out; --image is for editing",
        )
    if story is None or (prompt is None and not story.prompt):
        why = "".join(f": {remark}" for remark in (story.remarks if story else ())[:1])
        raise UsageError(
            f"{image} names no prompt that it was drawn with{why}",
            f"gcr info {image} shows what it says; a PROMPT beside --from is taken instead",
        )
    values = {
        name: value
        for name, value in story.settings.items()
        if name != "prompt" and flags.get(name) is None
    }
    problems = {name: problem_of(name, value) for name, value in values.items()}
    unusable = [
        f"its {label(name)} of {shown(values.pop(name))} is not taken: it {problem}"
        for name, problem in problems.items()
        if problem
    ]
    settled = cache(lambda: resolve(flags, ThisMachine(), edit=edit).settings)
    prompt, more, without = _loras(story, prompt, flags, settled)
    values |= more
    unusable += without
    if values.keys() & {"scheduler", "clip_skip"}:
        from gcr.engine.models import unfit

        for name in ("scheduler", "clip_skip"):
            if name in values and (reason := unfit(settled(), name, values[name])):
                unusable.append(f"its {label(name)} is not taken: {reason}")
                del values[name]
    width, height = values.get("width"), values.get("height")
    if width or height:
        try:
            pocket.check_size(settled().generator, width, height)
        except UsageError as error:
            unusable.append(f"its size is not taken: {error.message}")
            values = {key: values[key] for key in values if key not in ("width", "height")}
    return Beginning(
        image,
        story,
        prompt,
        {**flags, **values},
        tuple(values),
        tuple(unusable),
    )


def _loras(
    story: Provenance,
    prompt: str | None,
    flags: Mapping[str, Any],
    settled: Callable[[], Settings],
) -> tuple[str, dict[str, Any], list[str]]:
    """The prompt to begin with, --lora for LoRAs that the image says apart from it, and why others
    are not drawn with. settled: the settings without what the image says.
    """
    from gcr.core import syntax
    from gcr.hub import weightfiles
    from gcr.settings.schema import split_scale

    text = (story.prompt or "") if prompt is None else prompt
    if not story.loras:
        return text, {}, []
    folder = settled().lora_dir
    if not folder:
        why = f"its LoRAs are not drawn with: {', '.join(story.loras)}; --lora-dir says where"
        return syntax.without_loras(text) if prompt is None else text, {}, [why]
    tagged = {lora.name for lora in syntax.loras(text)}
    given, without = list(flags.get("lora") or ()), []
    for lora in story.loras:
        name, scale = split_scale(lora)
        name = name.removesuffix(weightfiles.ENDING)
        if name in tagged:
            continue
        try:
            found = weightfiles.find_lora(name, 1.0, folder, elsewhere=True)
            given.append(f"{found.path}{scale}")
        except UsageError as error:
            without.append(f"its LoRA {name} is not drawn with: {error.message}")
    return text, {"lora": given} if given != list(flags.get("lora") or ()) else {}, without
