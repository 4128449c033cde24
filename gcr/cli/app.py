"""The command line: `gcr --help`, `gcr --version`, and the commands.

Typer's rich help and error boxes are as slow to import as Typer itself, so the top help and the
errors do without them; a command's own help, where there are panels of options, has them.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import gcr
from gcr import signals
from gcr.errors import UsageError

INTERRUPTED = 130
"""What Typer makes of every KeyboardInterrupt."""

COMMANDS: Mapping[str, str] = {
    "refine": "Refine one prompt.",
    "batch": "Refine every prompt of prompt files.",
    "compare": "Compare refined images with raw ones.",
    "resume": "Go on with a run, a batch or a comparison.",
    "export": "Write images for a benchmark's scorer, or pairs for training.",
    "report": "Write the page of a run, a batch or a comparison.",
    "pull": "Fetch models ahead of a run.",
    "doctor": "Look at what gcr stands on.",
    "calibrate": "Measure how much of the critic's score is chance.",
    "bench": "Measure seconds and memory of your models here.",
    "profiles": "List pairs of models and what they need.",
}
"""What each command does. It is the function of its name in the module of its name."""


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
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(getattr(import_module(f"gcr.cli.{cmd_name}"), cmd_name))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=Root,
    name="gcr",
    add_completion=False,
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
        raise UsageError("no command", "gcr --help lists them; most often: gcr refine PROMPT")


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        code = app(list(arguments), prog_name="gcr", standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message().rstrip(".")
        command = arguments[0] if arguments[:1] and arguments[0] in COMMANDS else ""
        hint = f"gcr {command} --help lists the options" if command else "gcr --help lists commands"
        if command == "refine" and "extra argument" in message:
            hint = "put quotes around a prompt of several words"
        raise UsageError(message, hint) from error
    if code == INTERRUPTED:
        return signals.exit_code()
    return code if isinstance(code, int) else 0
