"""`gcr list`: the runs, batches and comparisons that there are."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcr.cli import options
from gcr.cli.flags import settings_only
from gcr.errors import UsageError

if TYPE_CHECKING:
    from gcr.results.listing import Entry

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[WORD]...", help="Only those with these words in prompt or folder."),
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
    typer.Option(
        "--page", metavar="", help="Write them as a gallery for a browser, and print its path."
    ),
]
MOST = 20


@settings_only("output", switches=())
def list(  # noqa: A001 - the command's name
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
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=True)  # entries say themselves what is damaged
    from gcr.results import listing
    from gcr.results.report import gallery
    from gcr.settings.resolving import output_folder
    from gcr.ui import terminal

    if page and as_json:
        raise UsageError("--page and --json are two forms of the result", "leave one out")
    output = output_folder(flags)
    entries = listing.entries(output)
    most = limit or (None if page else MOST)
    shown = listing.chosen(entries, words or (), min_score, most)
    if page:
        typer.echo(gallery.write(output, shown))
    elif as_json:
        typer.echo(json.dumps([entry.as_json() for entry in shown]))
    else:
        terminal.entries(shown)
        _say_how_many(shown, listing.chosen(entries, words or (), min_score), entries)


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
