"""`gcr report FOLDER`: a page to look at."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Of a run, a batch or a comparison.")
]
Output = Annotated[
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
    typer.Option(
        "--standalone",
        metavar="",
        help="Put the images into the file, so that it can be sent away by itself.",
    ),
]


def report(folder: Folder, *, output: Output = None, standalone: Standalone = False) -> None:
    """Write what is in FOLDER as a page for a browser, also of a run that is still going on.

    The page loads nothing but the images in FOLDER. Without --standalone, leave it beside them.

    Prints the path of the page.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=False)
    from gcr.results import report as pages

    typer.echo(pages.report(folder, output, standalone=standalone))
