"""Options that several commands share and that are no settings, each a type.

Those of settings are in `gcr.settings.schema`, and `gcr.cli.flags` gives them to commands.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gcr.errors import UsageError
from gcr.settings.schema import IMAGE, LOOP, MODELS, OUTPUT

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to draw, or how to change --image; - reads it from stdin. With --from it may be "
        "left out; at a terminal, too: then prompts are asked for.",
    ),
]

From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Begin with the prompt, negative prompt, seed, steps, guidance and size that this "
        "image says it was drawn with, by gcr, A1111, Forge, InvokeAI, Fooocus or ComfyUI; what is "
        "given here wins.",
        rich_help_panel=IMAGE,
    ),
]


def named(text: str) -> Path:
    """A path that a user gives. Raises UsageError for "", which to Path is the working folder."""
    if not text.strip():
        raise UsageError("a file name is empty", "name a file, or . for the folder you are in")
    return Path(text)


Source = Annotated[
    Path | None,
    typer.Option(
        "-i",
        "--image",
        metavar="FILE",
        help="An image to edit; PROMPT says how. Needs an editing pipeline and a critic other "
        "than the embedded pair.",
        rich_help_panel=IMAGE,
    ),
]

Approve = Annotated[
    bool,
    typer.Option(
        "--approve",
        metavar="",
        help="Ask after every round: go on, edit the next prompt, go on from an image or keep it, "
        "draw more like it, say what is missing, or stop.",
        rich_help_panel=LOOP,
    ),
]

TrustEndpoint = Annotated[
    bool,
    typer.Option(
        "--trust-endpoint",
        metavar="",
        help="Send the API key also to a server that only a file names: gcr.yaml in this folder, "
        "a profile's file, or the folder of a run.",
        rich_help_panel=MODELS,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        metavar="",
        help="Make no connection; models must be in the cache: gcr pull fetches them.",
        rich_help_panel=MODELS,
    ),
]

Yes = Annotated[
    bool,
    typer.Option(
        "-y",
        "--yes",
        metavar="",
        help="Fetch models that are not here, however large, without asking.",
        rich_help_panel=MODELS,
    ),
]

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Show settings and where each came from, the memory plan, and an estimate of images "
        "and time; load and draw nothing.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Print one JSON object instead of the path.",
        rich_help_panel=OUTPUT,
    ),
]
Listed = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", metavar="", help="Show errors only.", rich_help_panel=OUTPUT),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        metavar="",
        help="Show the critic's replies as they came, and log records.",
        rich_help_panel=OUTPUT,
    ),
]


def read_stdin() -> str:
    """The prompt on stdin, for a PROMPT of `-`."""
    if sys.stdin is None:  # closed by whoever started us
        raise UsageError("there is no stdin to read the prompt from", "give the prompt itself")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"the prompt on stdin is not {error.encoding}", "give UTF-8") from error
