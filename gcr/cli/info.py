"""`gcr info IMAGE`: how an image was made; and what `gcr refine --from IMAGE` takes of that."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options
from gcr.core.plaintext import shown
from gcr.core.syntax import without_loras
from gcr.files import paths

if TYPE_CHECKING:
    from gcr.engine.requests import Beginning
    from gcr.settings.schema import Settings
    from gcr.storage.provenance import Carried, Provenance

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
    return [(name, shown(value)) for name, value in known.items() if value not in (None, "")]


def tell(beginning: "Beginning", settings: "Settings") -> None:
    """Say on stderr what a run that goes on from an image takes over, and what it does not."""
    from gcr.settings.schema import label
    from gcr.storage.provenance import SETTINGS
    from gcr.ui.terminal import Terminal

    terminal, story = Terminal(), beginning.story
    terminal.say(f"from {beginning.image} ({story.form}): {beginning.summary}")
    usual = (name for name in SETTINGS if name != "clip_skip")
    absent = [label(name) for name in usual if name not in story.settings]
    if absent:
        terminal.say(f"it does not say: {', '.join(absent)}")
    for notice in beginning.warnings(settings):
        terminal.warn(notice.message, notice.hint)
