"""`gcr show RUN`: a run again, as the terminal showed it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gcr.cli import options
from gcr.cli.flags import settings_only
from gcr.errors import UsageError

Run = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Its folder, or a part of the folder's name; the newest run where none is named.",
    ),
]


@settings_only("output", switches=())
def show(
    run: Run = None,
    *,
    as_json: options.Listed = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, Any],
) -> None:
    """Show a run again: rounds, scores, prompts and the best image, also while it goes on.

    Of a batch its prompts and what came of each. Prints what the terminal showed; with --json what
    gcr refine --json printed, without the seconds of that call.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=verbose, quiet=False)
    from dataclasses import asdict

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
