"""`gcr critique IMAGE… PROMPT`: the critic alone, on pictures from anywhere."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options
from gcr.cli.options import settings_only
from gcr.errors import BatchError, GcrError, UsageError

if TYPE_CHECKING:
    from gcr.engine.judging import Ranking

Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE",
        parser=options.path,
        help="The pictures, such as PNG, JPEG or WebP files.",
    ),
]
Prompt = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT", help="What they are to show; - reads it from stdin.", show_default=False
    ),
]


@settings_only(
    *("profile", "critic", "rubric", "score", "judges", "quantize_critic", "verify", "aspect"),
    "negative",
)
def critique(
    images: Images = None,  # where one word is given, Typer takes it for PROMPT
    *,
    prompt: Prompt,
    as_json: options.Listed = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, object],
) -> None:
    """Judge pictures against PROMPT, best first: scores, what is wrong, and a prompt to try.

    Nothing is drawn or written. Exit code 3 says that some of the pictures could not be scored.

    Prints the critiques. Progress, hints and errors go to stderr.
    """
    from rich.console import Console

    from gcr.core.events import ignore
    from gcr.engine import judging
    from gcr.engine.machine import ThisMachine
    from gcr.files import paths
    from gcr.settings.resolving import resolve
    from gcr.ui.terminal import Terminal

    if not prompt.strip():
        raise UsageError(
            "the prompt is empty",
            'say what the pictures are to show: gcr critique image.png "a red circle"',
        )
    if prompt != "-" and paths.is_file(prompt):
        raise UsageError(
            f"there is no prompt: the last argument, {prompt}, is a file",
            f'say what the pictures are to show: gcr critique {prompt} "a red circle"',
        )
    if not images:
        raise UsageError(
            "there are no images to judge",
            'name them before the prompt: gcr critique image.png "a red circle"',
        )
    words = options.read_stdin() if prompt == "-" else prompt
    settings = resolve(flags, ThisMachine()).settings
    with options.watching(quiet=quiet) as terminal:
        ranking = judging.critique(images, words, settings, emit=terminal or ignore)
    if as_json:
        typer.echo(json.dumps(ranking.as_json()))
    else:
        Terminal(verbose=verbose, console=Console(highlight=False)).ranking(ranking)
    _check(ranking)


def _check(ranking: "Ranking") -> None:
    """Raise for pictures without a score, whose critiques are printed all the same."""
    unscored = ranking.unscored
    hint = "-v shows what the critic replied; another --critic or --rubric may be read better"
    if len(unscored) == len(ranking.judgements):
        raise GcrError("no image could be scored", hint)
    if unscored:
        named = ", ".join(judged.image for judged in unscored)
        raise BatchError(f"{len(unscored)} of {len(ranking.judgements)} unscored: {named}", hint)
