"""Options of commands: those that several share and that are no settings, each a type; and those
of settings, as `gcr.settings.schema` declares them, which commands are given by decorators.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from gcr.errors import UsageError
from gcr.hub import consent
from gcr.settings.schema import IMAGE, LISTS, LOOP, MODELS, OPTIONS, OUTPUT, declared

if TYPE_CHECKING:
    from rich.console import Console

    from gcr.ui.terminal import Terminal


def switch(*flags_and_help: str, panel: str | None = None) -> Any:
    """An option without a value, which has no `--no-` form: its flags, and last its help."""
    *flags, words = flags_and_help
    return typer.Option(*flags, metavar="", help=words, rich_help_panel=panel)


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
        "image says it was drawn with, by gcr, A1111, Forge, ComfyUI, InvokeAI and others; what is "
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
    switch(
        "--approve",
        "Ask after every round: go on, edit the next prompt, go on from an image or keep it, "
        "draw more like it, say what is missing, or stop.",
        panel=LOOP,
    ),
]

TrustEndpoint = Annotated[
    bool,
    switch(
        "--trust-endpoint",
        "Send the API key also to a server that only a file names: gcr.yaml in this folder, "
        "a profile's file, or the folder of a run.",
        panel=MODELS,
    ),
]
Offline = Annotated[
    bool,
    switch(
        "--offline",
        "Make no connection; models must be in the cache: gcr pull fetches them.",
        panel=MODELS,
    ),
]

Yes = Annotated[
    bool,
    switch(
        "-y",
        "--yes",
        "Fetch models that are not here, however large, without asking.",
        panel=MODELS,
    ),
]

DryRun = Annotated[
    bool,
    switch(
        "--dry-run",
        "Show settings and where each came from, the memory plan, and an estimate of images "
        "and time; load and draw nothing.",
        panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    switch("--json", "Print one JSON object instead of the path.", panel=OUTPUT),
]
Listed = Annotated[bool, switch("--json", "Print JSON.")]
Quiet = Annotated[
    bool,
    switch("-q", "--quiet", "Show errors only.", panel=OUTPUT),
]
Verbose = Annotated[
    bool,
    switch(
        "-v", "--verbose", "Show the critic's replies as they came, and log records.", panel=OUTPUT
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


@contextmanager
def watching(*, quiet: bool) -> Iterator["Terminal | None"]:
    """A terminal that shows what happens inside; none where only errors are wanted."""
    from gcr.ui.terminal import Terminal

    terminal = None if quiet else Terminal()
    try:
        yield terminal
    finally:
        if terminal:
            terminal.close()


PIPED = 240
"""Columns where nobody's terminal says how many there are."""


def console(width: int) -> "Console":
    """Stdout. width: of its lines where nobody's terminal says how long they may be."""
    from rich.console import Console

    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=width)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text under their headings: wrapped to a terminal, and with whole lines where a
    pipe or a file reads. A cell may have several lines.
    """
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")  # nothing is cut off
    for row in rows:
        made.add_row(*(Text(plain(cell, keep_lines=True)) for cell in row))
    console(PIPED).print(made)


# Those of settings


SWITCHES: Mapping[str, Any] = {
    "trust_endpoint": TrustEndpoint,
    "offline": Offline,
    "yes": Yes,
}
"""What goes with settings, and is none: no file may say it."""


def settings_only(
    *names: str, switches: Collection[str] = tuple(SWITCHES)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these settings, and the switches that go with them.

    The command is called with their values as `flags`, in which None is for what was not given;
    --trust-endpoint is among them. --offline and --yes are heeded before it is called.
    """
    return lambda command: _with_options(command, names, switches)


def settings_but(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `settings_only`, for all settings but these."""
    return settings_only(*(name for name in OPTIONS if name not in names))


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """As `settings_only`, for all settings."""
    return settings_but()(command)


def _with_options(
    command: Callable[..., None], names: Collection[str], switches: Collection[str]
) -> Callable[..., None]:
    """The command with more options: Typer reads a signature, so that is what is made here."""
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    del parameters["flags"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    arguments = [each for each in parameters.values() if each.kind is not keyword]
    others = [each for each in parameters.values() if each.kind is keyword]
    settings = [
        inspect.Parameter(name, keyword, default=None, annotation=_annotation(name))
        for name in OPTIONS
        if name in names
    ]
    settings += [
        inspect.Parameter(name, keyword, default=False, annotation=annotation)
        for name, annotation in SWITCHES.items()
        if name in switches
    ]
    signature = inspect.Signature([*arguments, *settings, *others], return_annotation=None)

    @wraps(command)
    def call(*arguments: Any, **values: Any) -> None:
        flags = {name: values.pop(name, None) for name in (*names, *switches)}
        if "offline" in flags:
            consent.go_offline(forbid=flags.pop("offline"))
        if "yes" in flags:
            consent.set_up(agreed=flags.pop("yes"), quiet=values["quiet"])
        for name in (*LISTS, "trust_endpoint"):  # which Typer gives, though empty
            if name in flags:
                flags[name] = flags[name] or None
        command(*arguments, **values, flags=flags)

    call.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _annotation(name: str) -> Any:
    """A setting's option for Typer. None is for what is not given."""
    option = OPTIONS[name]
    kind, choices = declared(name), option.choices
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        kind = str  # of a wrong name, settings say more
    elif name in LISTS:
        kind = list[str]
    made = typer.Option(
        *option.flags,
        metavar=option.metavar,
        help=option.help,
        rich_help_panel=option.panel,
        autocompletion=_offered(choices) if choices else None,
    )
    return Annotated[kind | None, made]


def _offered(choices: Collection[str]) -> Callable[[str], list[str]]:
    """What a shell is to offer for a name that is begun."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
