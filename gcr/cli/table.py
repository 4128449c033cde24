"""A table on stdout: wrapped to a terminal, and with whole lines where a pipe or a file reads."""

from collections.abc import Iterable, Sequence

PIPED = 240
"""Columns where nobody's terminal says how many there are."""


def show(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text under their headings. A cell may have several lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")  # nothing is cut off
    for row in rows:
        table.add_row(*(Text(plain(cell, keep_lines=True)) for cell in row))
    console.print(table)
