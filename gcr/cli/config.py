"""`gcr config list`: every setting, its value and where that came from."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options, table
from gcr.cli.flags import with_settings
from gcr.core.plaintext import shown
from gcr.errors import UsageError
from gcr.settings.schema import OPTIONS

if TYPE_CHECKING:
    from gcr.settings.schema import Settings

HEADINGS = ("setting", "value", "from")
LEFT_TO_PIPELINE = ("width", "height", "steps", "guidance")


Action = Annotated[str, typer.Argument(metavar="list", help="Show settings, the default.")]


@with_settings
def config(
    action: Action = "list",
    *,
    as_json: options.Listed = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, object],
) -> None:
    """Show every setting as a run would have it here: its value, and where that came from.

    With the options of gcr refine, as they would change it. No model is loaded and no server asked.
    The files that were looked for are told on stderr.
    """
    if action != "list":
        raise UsageError(f"gcr config cannot {action!r}", "gcr config list shows every setting")
    from gcr.engine.machine import ThisMachine
    from gcr.settings.resolving import config_files, traced

    class Unconnected(ThisMachine):
        def model_at(self, server: object, *, trusted: bool) -> str:  # noqa: ARG002
            return ""

    settings, origins, _ = traced(flags, Unconnected())
    if as_json:
        values = settings.as_json().items()
        listed = {name: {"value": value, "from": origins[name]} for name, value in values}
        typer.echo(json.dumps(listed, ensure_ascii=False))
        return
    table.show(HEADINGS, rows(settings, origins))
    if not quiet:
        for path in config_files():
            typer.echo(f"{path}{'' if path.exists() else ' is not there'}", err=True)


def rows(settings: "Settings", origins: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A row of the table for each setting that a user or a profile can set."""
    return [
        (name, _shown(name, value), origins[name])
        for name, value in settings.as_json().items()
        if name in OPTIONS or origins[name] != "default"
    ]


def _shown(name: str, value: object) -> str:
    if value is None:
        return "the pipeline's own" if name in LEFT_TO_PIPELINE else "not set"
    return shown(value)
