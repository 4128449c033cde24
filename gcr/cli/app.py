"""The command line: `gcr --help`, `gcr --version`, and the commands.

Typer's rich help and error boxes are as slow to import as Typer itself, so the top help and the
errors do without them; a command's own help, where there are panels of options, has them.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import gcr
from gcr.engine import signals
from gcr.errors import UsageError

INTERRUPTED = 130
"""What Typer makes of every KeyboardInterrupt."""

HELP = {"help_option_names": ["-h", "--help"]}


class Command(NamedTuple):
    """What a command does, in a line, and its function, in a module of `gcr.cli`."""

    about: str
    function: str


COMMANDS: Mapping[str, Command] = {
    "refine": Command("Refine one prompt.", "refine:refine"),
    "ui": Command("Work in a browser, with models that stay loaded.", "ui:ui"),
    "batch": Command("Refine every prompt of prompt files.", "batch:batch"),
    "critique": Command("Judge and rank pictures against a prompt.", "critique:critique"),
    "compare": Command("Compare refined images with raw ones.", "compare:compare"),
    "resume": Command("Go on with a run, a batch or a comparison.", "resume:resume"),
    "list": Command("List runs, batches and comparisons, newest first.", "results:list_runs"),
    "show": Command("Show a run again.", "results:show"),
    "rate": Command("Say what you think of an image.", "results:rate"),
    "info": Command("Show what an image file says of how it was made.", "results:info"),
    "export": Command(
        "Write images for a benchmark's scorer, or pairs for training.", "results:export"
    ),
    "report": Command("Write the page of a run, a batch or a comparison.", "results:report"),
    "pull": Command("Fetch models ahead of a run.", "environment:pull"),
    "doctor": Command("Look at what gcr stands on.", "environment:doctor"),
    "calibrate": Command(
        "Measure how much of the critic's score is chance.", "calibrate:calibrate"
    ),
    "bench": Command("Measure seconds and memory of your models here.", "bench:bench"),
    "config": Command("Show every setting and where its value comes from.", "environment:config"),
    "profiles": Command("List pairs of models and what they need.", "environment:profiles"),
}


class Root(TyperGroup):
    """A group whose own help is plain text, and which loads a command when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "rich_markup_mode": None})
        names: Any = dict.fromkeys(COMMANDS)
        self.commands = names  # alone: what a misspelt one is near to

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as the base class has it
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as in list_commands
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(add_completion=False, context_settings=HELP)
        module, _, function = COMMANDS[cmd_name].function.partition(":")
        command = getattr(import_module(f"gcr.cli.{module}"), function)
        alone.command(cmd_name, help=_words(command))(_with_logs(command))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.about) for name, command in COMMANDS.items()])


def _words(command: Callable[..., None]) -> str:
    """Its docstring with a line for each paragraph, which the terminal wraps as it is wide."""
    paragraphs = (command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _with_logs(command: Callable[..., None]) -> Callable[..., None]:
    """The command, told what of the libraries' own words is shown before it imports any."""

    @wraps(command)
    def call(*arguments: Any, **values: Any) -> None:
        from gcr.ui import logs  # it takes a while, which --help need not wait for

        logs.set_up(verbose=values.get("verbose", False), quiet=values.get("quiet", False))
        command(*arguments, **values)

    return call


app = typer.Typer(
    cls=Root,
    name="gcr",
    add_completion=True,
    context_settings=HELP,
    pretty_exceptions_enable=False,
    epilog='Try: gcr refine "two red circles, a blue star and a green square"',
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Refine prompts at test time: draw, judge, rewrite, until the image shows what was asked."""
    if version:
        typer.echo(f"gcr {gcr.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)  # stdout is for results, and there is none
        raise typer.Exit(UsageError.exit_code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = app(list(arguments), prog_name="gcr", standalone_mode=False)
    except typer.TyperException as error:
        message = _plain(error)
        raise UsageError(message, _hint(arguments, message)) from error
    if code == INTERRUPTED:
        return signals.exit_code()
    return code if isinstance(code, int) else 0


def _plain(error: typer.TyperException) -> str:
    """What is wrong with a command line; with a value, in the words that settings have for it."""
    message = error.format_message().rstrip(".")
    of_value = re.match(r"Invalid value for (?:'[^']*' / )*'([^']*)': ", message)
    if of_value:
        from pydantic import ValidationError  # Typer has imported it, or nothing was validated

        from gcr.files.structured import first_problem

        if isinstance(error.__cause__, ValidationError):
            return first_problem(error.__cause__).of(of_value[1])
    return message


def _hint(arguments: Sequence[str], message: str) -> str:
    """What to do about a wrong command line, by what Typer says of it."""
    words = [word for word in arguments if not word.startswith("-")]
    command = words[0] if words else ""
    if command in COMMANDS:
        if command == "refine" and "extra argument" in message:
            return "put quotes around a prompt of several words"
        return f"gcr {command} --help lists the options"
    if "No such command" in message and "Did you mean" not in message:
        prompt = shlex.quote(" ".join(words))
        return f"to refine a prompt: gcr refine {prompt}"
    return "gcr --help lists commands"
