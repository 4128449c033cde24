"""`gcr ui`: a page to work in, with models that stay loaded."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gcr.cli import options
from gcr.cli.options import settings_but
from gcr.errors import UsageError

Port = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Of 127.0.0.1 (default: 7866, or the next free one).", min=1, max=65535
    ),
]
Open = Annotated[
    bool, typer.Option("--open/--no-open", metavar="", help="Open the page in a browser.")
]


@settings_but()
def ui(
    *,
    port: Port = None,
    open_page: Open = True,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001 - app has heeded it
    flags: Mapping[str, object],
) -> None:
    """Work in a browser: prompts, rounds as they finish, approval, ratings, all that was drawn.

    Models stay loaded from one prompt to the next. The settings given here are those that the page
    begins with. The page is for this machine only: it listens on 127.0.0.1, its address holds a
    key, and it asks nothing of any other host.

    Prints the address of the page. Ctrl-C ends it, after the round that is going on.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UsageError("gcr ui needs starlette and uvicorn", "pip install 'gcr[ui]'")
    from gcr.engine.machine import ThisMachine
    from gcr.settings.resolving import resolve
    from gcr.storage import runfolder
    from gcr.ui import web
    from gcr.ui.studio import Studio
    from gcr.ui.terminal import Terminal

    settings = resolve(flags, ThisMachine()).settings  # what is wrong with them is said here
    runfolder.check_writable(settings.output)
    # Where work is kept stays, also where gcr.yaml is changed meanwhile.
    studio, terminal = Studio({**flags, "output": settings.output}), Terminal()

    def tell(address: str) -> None:
        typer.echo(address)
        if not quiet:
            terminal.say(f"work is kept in {settings.output}; Ctrl-C ends this")

    def show(page: Path) -> None:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())

    opens = open_page and _has_browser()
    try:
        web.serve(studio, settings.output, port, tell, show if opens else None)
    except KeyboardInterrupt:
        if studio.busy() and not quiet:
            terminal.say("stopping after this round; Ctrl-C again stops at once")
        studio.close()
        raise


def _has_browser() -> bool:
    """Whether there is a screen to show one on: else a browser might take over the terminal."""
    return (
        os.name == "nt"
        or sys.platform == "darwin"
        or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    )
