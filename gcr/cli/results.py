"""Commands on what there is already: list, show, rate, info, export and report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcr.cli import options
from gcr.cli.options import settings_only
from gcr.core.plaintext import shown
from gcr.core.syntax import without_loras
from gcr.errors import UsageError
from gcr.files import paths

if TYPE_CHECKING:
    from gcr.engine.requests import Beginning
    from gcr.results.listing import Entry
    from gcr.settings.schema import Settings
    from gcr.storage.provenance import Carried, Provenance

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Its folder, or a part of the folder's name.")
]


# gcr list


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORD", help="Only those with these words in prompt or folder."),
]
MinScore = Annotated[
    float | None,
    typer.Option(metavar="X", help="Only those with this score, 0-1, or more.", min=0.0, max=1.0),
]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", help="So many at most (default: 20; with --page all).", min=1),
]
Page = Annotated[
    bool,
    options.switch("--page", "Write them as a gallery for a browser, and print its path."),
]
MOST = 20


@settings_only("output", switches=())
def list_runs(
    words: Words = None,
    *,
    min_score: MinScore = None,
    limit: Limit = None,
    page: Page = False,
    as_json: options.Listed = False,
    flags: Mapping[str, Any],
) -> None:
    """List runs, batches and comparisons below the output folder, newest first.

    Of a batch the score is the mean of its best images; of a comparison the highest mean of its
    arms, by its evaluator. Damaged folders are listed whatever is asked for.

    Prints one block for each on a terminal, and elsewhere a line with tabs: when it began, kind,
    score, images, end, folder, prompt.
    """
    from gcr.results import listing
    from gcr.results.report import gallery
    from gcr.settings.resolving import output_folder
    from gcr.ui import logs, terminal

    logs.set_up(verbose=False, quiet=True)  # entries say themselves what is damaged
    if page and as_json:
        raise UsageError("--page and --json are two forms of the result", "leave one out")
    output = output_folder(flags)
    entries = listing.entries(output)
    most = limit or (None if page else MOST)
    chosen = listing.chosen(entries, words or (), min_score, most)
    if page:
        typer.echo(gallery.write(output, chosen))
    elif as_json:
        typer.echo(json.dumps([entry.as_json() for entry in chosen]))
    else:
        terminal.entries(chosen)
        _say_how_many(chosen, listing.chosen(entries, words or (), min_score), entries)


def _say_how_many(
    shown: "Sequence[Entry]", fit: "Sequence[Entry]", entries: "Sequence[Entry]"
) -> None:
    """Say on stderr what is left out."""
    from gcr.ui.terminal import Terminal

    if len(shown) < len(fit):
        more = len(fit) - len(shown)
        Terminal().say(f"{more} older {'one' if more == 1 else 'ones'}: --limit {len(fit)}")
    elif not shown:
        Terminal().say(f"nothing fits; there are {len(entries)} in all")


# gcr show


OneRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Its folder, or a part of the folder's name; the newest run where none is named.",
    ),
]


@settings_only("output", switches=())
def show(
    run: OneRun = None,
    *,
    as_json: options.Listed = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, Any],
) -> None:
    """Show a run again: rounds, scores, prompts and the best image, also while it goes on.

    Of a batch its prompts and what came of each. Prints what the terminal showed; with --json what
    gcr refine --json printed, without the seconds of that call.
    """
    from rich.console import Console

    from gcr.engine.outcome import Outcome
    from gcr.results import listing
    from gcr.settings.resolving import output_folder
    from gcr.storage import batchfolder, runfolder
    from gcr.ui.batch_terminal import BatchTerminal
    from gcr.ui.terminal import Terminal

    output = output_folder(flags)
    folder = listing.find(run, output) if run else listing.newest_run(output)
    console = Console(highlight=False)
    if (folder / listing.COMPARED).exists() or (folder / listing.CONTESTED).exists():
        raise UsageError(f"{folder} is a comparison", f"gcr report {folder} shows it")
    if (folder / batchfolder.NAME).exists():
        batch = batchfolder.BatchFolder.open(folder)
        results = batch.results()
        if as_json:
            typer.echo(json.dumps([asdict(result) for result in results]))
        else:
            BatchTerminal(console).again(results, len(batch.jobs))
        return
    shown = runfolder.load_run(folder)
    if as_json:
        values = Outcome.of(shown, folder).as_json()
        del values["seconds"], values["loading_seconds"]  # of the call that drew it
        typer.echo(json.dumps(values))
    else:
        Terminal(verbose=verbose, console=console).again(shown, folder)


# gcr rate


ImageName = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Such as 02-1.png, or best.png for the best one.")
]
Value = Annotated[
    str,
    typer.Argument(
        metavar="RATING", help="1 to 5, keep or discard; none takes an earlier one back."
    ),
]


@settings_only("output", switches=())
def rate(run: Run, image: ImageName, value: Value, *, flags: Mapping[str, Any]) -> None:
    """Say what you think of an image: it is kept with the run, and changes no score.

    gcr list, gcr show and the pages show it, and gcr export makes preference pairs of it, before
    what the critic prefers.
    """
    from gcr import api
    from gcr.results import listing
    from gcr.settings.resolving import output_folder
    from gcr.ui.terminal import Terminal

    folder = listing.find(run, output_folder(flags))
    rating = api.rate(folder, image, value)
    words = "no rating any more" if rating.value is None else str(rating)
    Terminal().say(f"{folder / rating.image}: {words}")


# gcr info


ImageFile = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="An image file, such as PNG, JPEG or WebP.")
]


def info(image: ImageFile, *, as_json: options.Listed = False) -> None:
    """Show what IMAGE says of how it was made: by gcr, A1111, Forge, ComfyUI, InvokeAI and others.

    Of ComfyUI's graphs those are read in which one sampler begins; what is not read is said.

    gcr refine --from IMAGE begins with what is shown.
    """
    from gcr.storage import provenance

    carried = provenance.read(paths.expanded(image))
    if as_json:
        typer.echo(json.dumps({"file": str(image), **carried.as_json()}))
    else:
        _show_story(image, carried)


def _show_story(image: Path, carried: "Carried") -> None:
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    console = options.console(1 << 16)  # one line each, for whatever reads it
    console.print(
        Text.assemble(
            (plain(str(image)), "bold"), f"  {carried.kind}, {carried.width}×{carried.height}"
        )
    )
    hidden = _repeated(carried)
    told = [story for story in carried.stories if story not in hidden]
    for story in told:
        console.print()
        taken = len(told) > 1 and story is carried.usable
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


# gcr export


PAIRS = "Preference pairs"

Folders = Annotated[
    list[Path],
    typer.Argument(metavar="FOLDER", help="Of a batch; for pairs also of a run; or of several."),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="A benchmark's scorer (geneval, geneval2, unigenbench, t2i-compbench, dpg), or pairs "
        "for preference training (preference, pick-a-pic).",
    ),
]
ExportOutput = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="The layout's folder, or the file of pairs: .jsonl or .parquet (default: in FOLDER, "
        "named after the format).",
    ),
]
AllPairs = Annotated[
    bool,
    options.switch(
        "--all-pairs",
        "Of every two images of a run, and not only of its best and the request as it is.",
        panel=PAIRS,
    ),
]
MinGap = Annotated[
    float,
    typer.Option(
        metavar="X",
        help="Leave out pairs whose scores are closer, between 0 and 1.",
        min=0.0,
        max=1.0,
        rich_help_panel=PAIRS,
    ),
]


def export(
    folders: Folders,
    form: Form,
    *,
    output: ExportOutput = None,
    all_pairs: AllPairs = False,
    min_gap: MinGap = 0.0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the images of batches as a benchmark's scorer reads them, or pairs for training.

    A layout has two folders, raw and refined, for the scorer to be run on each. Pairs have the
    user's request as their prompt, and are only those that the critic is sure of, or that you
    rated differently with gcr rate.

    Prints the path of what was written.
    """
    from gcr.results import benchmarks, pairs
    from gcr.results.benchmarks import LAYOUTS

    if form not in (known := (*LAYOUTS, *pairs.SUFFIXES)):
        raise UsageError(f"no format {form!r}", f"known: {', '.join(known)}")
    if form in LAYOUTS:
        if all_pairs or min_gap:
            raise UsageError(f"--all-pairs and --min-gap are not for {form}", "leave them out")
        layout = benchmarks.export(folders, form, output)
        said, told, path = layout.summary(), layout.as_json(), layout.folder
    else:
        file = pairs.export(folders, form, output, every=all_pairs, min_gap=min_gap)
        said, told, path = [file.preferences.summary()], file.as_json(), file.path
    say(said, quiet=quiet)
    typer.echo(json.dumps(told) if as_json else path)


def say(lines: list[str], *, quiet: bool) -> None:
    """Tell a person, on stderr."""
    from gcr.ui.terminal import Terminal

    if not quiet:
        terminal = Terminal()
        for line in lines:
            terminal.say(line)


# gcr report


Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Of a run, a batch or a comparison.")
]
PageOutput = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write this one file (default: index.html in FOLDER, and one for each run in it).",
    ),
]
Standalone = Annotated[
    bool,
    options.switch(
        "--standalone", "Put the images into the file, so that it can be sent away by itself."
    ),
]


def report(folder: Folder, *, output: PageOutput = None, standalone: Standalone = False) -> None:
    """Write what is in FOLDER as a page for a browser, also of a run that is still going on.

    The page loads nothing but the images in FOLDER. Without --standalone, leave it beside them.

    Prints the path of the page.
    """
    from gcr.results import report as pages

    typer.echo(pages.report(folder, output, standalone=standalone))
