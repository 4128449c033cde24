"""`gcr info IMAGE`, and `gcr refine --from IMAGE`: how an image was made, and a run like that."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gcr.cli import options
from gcr.core.syntax import without_loras
from gcr.errors import UsageError
from gcr.files import paths

if TYPE_CHECKING:
    from gcr.settings.schema import Settings
    from gcr.storage.provenance import Carried, Provenance

NAMES = {"negative": "negative prompt", "clip_skip": "CLIP skip"}
"""Settings by what people call them, where that is another word."""

Image = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="An image file, such as PNG, JPEG or WebP.")
]


def info(image: Image, *, as_json: options.Listed = False) -> None:
    """Show what IMAGE says of how it was made: by gcr, A1111, Forge, InvokeAI, Fooocus or ComfyUI.

    Of ComfyUI's graphs those are read that have one sampler and values written in place.

    gcr refine --from IMAGE begins with what is shown.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=False)
    from gcr.storage import provenance

    carried = provenance.read(paths.expanded(image))
    if as_json:
        typer.echo(json.dumps({"file": str(image), **carried.as_json()}))
    else:
        _show(image, carried)


def _show(image: Path, carried: "Carried") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=1 << 16)  # one line each, for whatever reads it
    console.print(
        Text.assemble(
            (plain(str(image)), "bold"), f"  {carried.kind}, {carried.width}×{carried.height}"
        )
    )
    hidden = _repeated(carried)
    shown = [story for story in carried.stories if story not in hidden]
    for story in shown:
        console.print()
        taken = len(shown) > 1 and story is carried.usable
        mark = "  gcr refine --from takes this" if taken else ""
        console.print(Text.assemble((story.form, "bold"), (mark, "dim")))
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for name, value in _rows(story):
            table.add_row(Text(plain(name)), Text(plain(value)))
        console.print(table)
        for remark in story.remarks:
            console.print(Text(plain(remark), "yellow"))
    if hidden:
        console.print()
        console.print(Text(f"the same for {', '.join(story.form for story in hidden)}", "dim"))
    if not carried.stories:
        console.print()
        console.print("it says nothing of how it was made, or in no form that is known here")


def _repeated(carried: "Carried") -> "list[Provenance]":
    """Those that only repeat what gcr's own says: gcr writes it in the forms of others, too."""
    ours = next((story for story in carried.stories if story.form == "gcr"), None)
    if ours is None or ours.prompt is None:
        return []
    # In others' forms the size is that of the image, whatever was asked for.
    size = {"width": carried.width, "height": carried.height}
    known = {"negative": "", **ours.settings, **size}
    known["prompt"] = without_loras(str(known["prompt"]))
    # The sampler is ours to say only where somebody chose it, and LoRAs stand elsewhere.
    return [
        story
        for story in carried.stories
        if story is not ours
        and {**story.settings, "prompt": without_loras(story.prompt or "")}.items()
        <= {"scheduler": story.settings.get("scheduler"), **known}.items()
    ]


def _rows(story: "Provenance") -> list[tuple[str, str]]:
    size = story.width and story.height and f"{story.width}×{story.height}"
    known = {
        "prompt": story.prompt,
        "negative prompt": story.negative,
        "seed": story.seed,
        "steps": story.steps,
        "guidance": story.guidance,
        "size": size,
        "model": story.model,
        "sampler": story.sampler,
        "CLIP skip": story.clip_skip,
        "LoRAs": ", ".join(story.loras),
        **story.more,
    }
    return [(name, _shown(value)) for name, value in known.items() if value not in (None, "")]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Beginning(NamedTuple):
    """What a run begins with that goes on from an image.

    prompt: the user's, or else the image's. flags: the user's, and the image's where none is given.
    taken: names of the settings that are the image's. unusable: why others are not, in words.
    """

    image: Path
    story: "Provenance"
    prompt: str
    flags: Mapping[str, Any]
    taken: tuple[str, ...]
    unusable: tuple[str, ...]

    def tell(self, settings: "Settings") -> None:
        """Say on stderr what is taken over, and what is not."""
        from gcr.storage.provenance import SETTINGS
        from gcr.ui.terminal import Terminal

        terminal, story = Terminal(), self.story
        values = {name: self.flags[name] for name in self.taken if self.flags[name] != ""}
        words = ["prompt"] if self.prompt == story.prompt else []
        words += [NAMES.get(name, f"{name} {_shown(value)}") for name, value in values.items()]
        terminal.say(f"from {self.image} ({story.form}): {', '.join(words) or 'nothing'}")
        usual = (name for name in SETTINGS if name != "clip_skip")
        absent = [NAMES.get(name, name) for name in usual if name not in story.settings]
        if absent:
            terminal.say(f"it does not say: {', '.join(absent)}")
        for reason in (*self.unusable, *story.remarks):
            terminal.warn(reason, "")
        sampler = "" if "scheduler" in self.taken else story.sampler
        made = ", ".join(filter(None, (story.model, sampler)))
        if made and story.model != settings.generator:
            by = ", by its own sampler" if sampler else ""
            terminal.warn(
                f"it was drawn by {made}; here {settings.generator} draws{by}",
                "so equal settings do not draw an equal image; -m names another generator",
            )


def begin_from(
    image: Path, prompt: str | None, flags: Mapping[str, Any], *, edit: bool
) -> Beginning:
    """What a run begins with that goes on from an image. Flags that are given win.

    Raises UsageError for an image that cannot be read, and for one without a prompt where none is
    given.
    """
    from gcr import pocket
    from gcr.engine.machine import ThisMachine
    from gcr.settings.resolving import problem_of, resolve
    from gcr.storage import provenance

    carried = provenance.read(paths.expanded(image))
    story = carried.usable or next(iter(carried.stories), None)
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
        f"its {NAMES.get(name, name)} of {_shown(values.pop(name))} is not taken: it {problem}"
        for name, problem in problems.items()
        if problem
    ]
    settled = cache(lambda: resolve(flags, ThisMachine(), edit=edit))
    prompt, more, without = _loras(story, prompt, flags, settled)
    values |= more
    unusable += without
    if values.keys() & {"scheduler", "clip_skip"}:
        from gcr.engine.models import unfit

        for name in ("scheduler", "clip_skip"):
            if name in values and (reason := unfit(settled(), name, values[name])):
                unusable.append(f"its {NAMES.get(name, name)} is not taken: {reason}")
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
    story: "Provenance",
    prompt: str | None,
    flags: Mapping[str, Any],
    settled: "Callable[[], Settings]",
) -> tuple[str, dict[str, Any], list[str]]:
    """The prompt to begin with, --lora for LoRAs that the image says apart from it, and why others
    are not drawn with. settled: the settings without what the image says.
    """
    from gcr.core import syntax
    from gcr.hub import weightfiles
    from gcr.settings.recorded import split_scale

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
            given.append(f"{weightfiles.find_lora(name, 1.0, folder).path}{scale}")
        except UsageError as error:
            without.append(f"its LoRA {name} is not drawn with: {error.message}")
    return text, {"lora": given} if given != list(flags.get("lora") or ()) else {}, without
