"""`gcr export FOLDER --format NAME`: what came of batches and runs, as other programs read it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gcr.cli import options
from gcr.errors import UsageError

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
Output = Annotated[
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
    typer.Option(
        "--all-pairs",
        metavar="",
        help="Of every two images of a run, and not only of its best and the request as it is.",
        rich_help_panel=PAIRS,
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
    output: Output = None,
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
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=quiet)
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
