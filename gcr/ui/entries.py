"""What there is below the output folder, on stdout: blocks on a terminal, else lines with tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from gcr.core.phrases import count
from gcr.core.plaintext import plain, shortened
from gcr.results.report.page import NAME, moment
from gcr.ui.terminal import colour, linked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.results.listing import Entry

LEFT = (0, 0, 0, 2)
LONGEST = 300  # characters of a title or a problem that are shown; --json has all


def show(entries: Sequence[Entry], console: Console | None = None) -> None:
    """Print entries in their order. On a terminal, folders are links to their pages."""
    console = console or Console(highlight=False)
    for entry in entries:
        if console.is_terminal:
            _block(entry, console)
        else:
            console.file.write(f"{_line(entry)}\n")  # Rich would make spaces of tabs


def _line(entry: Entry) -> str:
    score = "" if entry.score is None else f"{entry.score:.2f}"
    cells = (entry.began, entry.kind, score, str(entry.images))
    words = (_short(entry.problem or entry.end), plain(str(entry.folder)), _short(entry.title))
    return "\t".join((*map(plain, cells), *words))


def _short(text: str) -> str:
    return shortened(plain(text), LONGEST)


def _block(entry: Entry, console: Console) -> None:
    score = Text("   –")
    if entry.score is not None:
        score = Text(f"{entry.score:.2f}", f"bold {colour(entry.score)}")
    head = Text(f"{plain(moment(entry.began)):<16}  ", "dim").append_text(score)
    if entry.untrusted:
        head.append(" untrusted", "yellow")
    if entry.stars:
        head.append(f" {'★' * entry.stars}", "cyan")
    kind = "" if entry.kind == "run" else f"{entry.kind}, "
    head.append(f"  {kind}{count(entry.images, 'image')}, {entry.end}", "dim")
    console.print(head)
    console.print(Padding(Text(_short(entry.title)), LEFT))
    if entry.problem:
        console.print(Padding(Text(_short(entry.problem), "red"), LEFT))
    # Whole, however narrow the terminal: it is to be copied.
    page = entry.folder / NAME
    link = Style(dim=True) + linked(page if page.exists() else entry.folder)
    folder = Text("  ").append(plain(str(entry.folder)), link)
    console.print(folder, soft_wrap=True)
