"""`gcr doctor`: what gcr stands on, and what is wrong with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli.flags import settings_only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gcr.diagnose.doctor import Finding

STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}

Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print a JSON list instead of the table.")
]


@settings_only("profile", "generator", "critic", "rubric", switches=("trust_endpoint", "offline"))
def doctor(*, as_json: Json = False, flags: Mapping[str, object]) -> None:
    """Look at libraries, GPU, caches and configuration, and say what to do about what is wrong.

    Exit code 1 says that something is broken.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=True)
    from gcr.diagnose.doctor import examine

    findings = list(examine(flags))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _show(findings: "Iterable[Finding]") -> None:
    """The table, on stdout: it is the result."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(plain(finding.said))
        if finding.hint:
            said.append(f"\n{plain(finding.hint)}", "dim")
        table.add_row(Text(finding.state, STYLES[finding.state]), finding.name, said)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # one line each, for whatever reads it
    console.print(table)
