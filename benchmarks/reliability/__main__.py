"""Runs the pieces and writes docs/reliability.json, and docs/reliability.md from it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.reliability import ROOT, Tally

RECORD = ROOT / "docs" / "reliability.json"
PAGE = RECORD.with_suffix(".md")
LIBRARIES = ("torch", "diffusers", "transformers", "pillow", "ray")


@dataclass(frozen=True, slots=True)
class Piece:
    """One kind of attempts.

    run: the function that makes them, as `module:name`. title, text: on the page. minutes: of the
    hour, after which no more attempts begin. in_memory: whether its files may be in memory, where
    nothing waits for a disk. mended: what it showed earlier that was wrong, and is so no more.
    """

    run: str
    title: str
    text: str
    minutes: float
    in_memory: bool = True
    mended: str = ""

    def load(self) -> Callable[[Path, int, float, Tally], None]:
        module, _, name = self.run.partition(":")
        function: Callable[[Path, int, float, Tally], None] = getattr(
            import_module(f"benchmarks.reliability.{module}"), name
        )
        return function


PIECES = {
    "kills": Piece(
        "processes:kills",
        "Kills",
        "`gcr refine`, `gcr batch`, `gcr compare` and workers of `gcr batch --ray local` on the "
        "embedded pair, ended with SIGKILL: half of them at any moment of the whole run, start "
        "included, half within 50 ms of a change in the folder. Each time the folder must list, "
        "show and report, and every round and image that was finished must be as it was. Then "
        "`gcr resume` goes on, to be killed again or to come to the end, where all images must "
        "equal those of an undisturbed run byte for byte, and no temporary file may be left.",
        18,
        in_memory=False,
    ),
    "disk": Piece(
        "processes:disk_full",
        "A full disk",
        "The same commands where no file may be longer than a limit (`RLIMIT_FSIZE`), on a file "
        "system in memory with a few kilobytes free, and with a stdout that takes nothing "
        "(`/dev/full`). Each must end in one error with a hint, and go on to equal images when "
        "there is room again.",
        5,
        mended=(
            "Where not even a temporary file could be written, torch could not be imported, and "
            "the error called itself a defect of gcr; and so did one that came where the disk was "
            "full by the time the quantized critic was to be kept, which is now a warning."
        ),
    ),
    "signals": Piece(
        "processes:signals",
        "Signals",
        "SIGINT, SIGTERM and SIGHUP at the moments of the kills, half of them twice. The exit code "
        "must be 128 and the signal's number, or 0 where the work was done; what was finished must "
        "stay, and be gone on with to equal images.",
        6,
    ),
    "models": Piece(
        "models:run",
        "Hostile models",
        "Checkpoints that were made to do harm: pickles, code of their own, indices that lead out "
        "of the folder, wrong shapes, headers without end, weights that are no numbers, chat "
        "templates that loop, configurations of the wrong type. `gcr refine` runs on each, in a "
        "process of its own with bounded memory and time. None may run code, open a connection, "
        "write outside of its folder or end in anything but images, or one error with a hint.",
        5,
    ),
    "prompts": Piece(
        "prompts:run",
        "Hostile prompts",
        "Prompts of control tokens, syntax of templates and of other tools, markup and escape "
        "sequences, paths, words to the judge, any code point and up to 30,000 characters, in "
        "prompt files of six formats, refined by `gcr batch` on fakes that draw at once, with a "
        "critic that answers with more of them. Each must be read as it was written or be refused "
        "with file and line; without wildcards the PNG must name exactly that prompt; its chat "
        "must have no more control tokens than any other; nothing may be written elsewhere; no "
        "page may have a script, handler or link of its making; no list may have a control "
        "character.",
        8,
    ),
    "replies": Piece(
        "replies:run",
        "Replies",
        "Replies in the forms that RationalRewards and the embedded critic were trained to write, "
        "and others that critics are known to write, bent up to twelve times: pieces inserted, "
        "repeated, cut out, lines shuffled, letters turned. The reader must raise nothing, and "
        "every score must be a number from 1 to 4 that stands in the reply at the place that is "
        "named for it; where one is missing, there is no score. (By RationalRewards' own rule for "
        "single images a 7 counts as 4, so there a wrong number can be a score.)",
        6,
        mended=(
            "A reply that broke off within a score was given a number from the aspect's heading "
            "instead; the number that a list begins with was taken for a score."
        ),
    ),
    "images": Piece(
        "images:run",
        "Images",
        "Files of 14 formats with what five programs write into them, bent in their bytes, in "
        "their texts and, with right checksums, in their chunks; and files made to do harm: "
        "headers of 65,535 × 65,535 pixels, texts that unpack to 256 MiB, 100,000 texts, graphs "
        "that lead to themselves, pipes, links to devices. Each is read as a source image, shown "
        "by `gcr info`, and begun from as `--from` does, with 2 GiB of memory and 20 seconds of "
        "processor at most.",
        4,
        mended=(
            "A damaged AVIF ended in an error that called itself a defect of gcr, and so did, "
            "where memory is limited, a JPEG 2000 whose header promises gigabytes."
        ),
    ),
    "servers": Piece(
        "servers:run",
        "Servers",
        "Servers on loopback that speak as OpenAI's do, and then do not, as the critic of the real "
        "`gcr critique`: slow, cut off, wrong types, refusals, redirects, pages of HTML, endless "
        "and packed bodies, lies about images. Each must end in a score that the server gave, or "
        "in one error with a hint, in bounded time and memory; the key must be in no output.",
        4,
        mended=(
            "`gcr critique` imported torch, transformers and diffusers, though its critic was "
            "behind a server and needed none of them."
        ),
    ),
    "inflation": Piece(
        "inflation:run",
        "Inflated scores",
        "The critic chooses the best of N of 16 raw images of each request; truth, which the "
        "critic never sees, says how many of the chosen are right. The more images there are "
        "to choose from, the more of the choice could fall on images that only look right to "
        "the critic. Requests of the training world, embedded pair.",
        6,
    ),
}


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Pieces: {', '.join(PIECES)}.")] = None,
    scale: Annotated[float, typer.Option(help="Attempts, as a share of the whole.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 1,
    minutes: Annotated[
        float | None, typer.Option(help="For each piece; by default its part of an hour.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The figures; the page is beside them.")] = RECORD,
) -> None:
    """Try to break the tool, count what came of it, and write it down."""
    for name in only or PIECES:
        if name not in PIECES:
            raise typer.BadParameter(f"there is no piece {name}: {', '.join(PIECES)}")
        sys.stderr.write(f"{name}\n")
        record = measured(PIECES[name], seed, scale, minutes)
        written = json.loads(output.read_text()) if output.exists() else {}
        written[name] = record
        ordered = {piece: written[piece] for piece in PIECES if piece in written}
        output.write_text(f"{json.dumps(ordered, indent=1, ensure_ascii=False)}\n")
        output.with_suffix(".md").write_text(page(ordered))
        failed = f", {len(record['failures'])} FAILED" if record["failures"] else ""
        typer.echo(f"{name}: {record['attempts']} in {record['seconds']:.0f} s{failed}")


def measured(piece: Piece, seed: int, scale: float, minutes: float | None) -> dict[str, Any]:
    """Run one piece; what came of it."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
    near = memory if piece.in_memory and memory.is_dir() and os.access(memory, os.W_OK) else None
    began, tally = time.monotonic(), Tally()
    tally.until = began + 60 * (piece.minutes if minutes is None else minutes)
    before = Path.cwd()
    with TemporaryDirectory(prefix="gcr-reliability-", dir=near) as place:
        piece.load()(Path(place), seed, scale, tally)
        os.chdir(before)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "gcr": version("gcr"),
        "load": round(os.getloadavg()[2], 1),
        "machine": machine(),
        "seed": seed,
        "scale": scale,
        "seconds": round(time.monotonic() - began, 1),
        "attempts": tally.attempts,
        "outcomes": [[*key, count] for key, count in sorted(tally.outcomes.items())],
        "failures": tally.failures,
        "figures": tally.figures,
        "absent": tally.absent,
    }


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    libraries = []
    for name in LIBRARIES:
        try:
            libraries.append(f"{name} {version(name)}")
        except ImportError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    return f"{cores} cores, {system}, Python {platform.python_version()}, {', '.join(libraries)}"


def page(records: dict[str, Any]) -> str:
    """docs/reliability.md."""
    lines = [
        "# What breaks",
        "",
        *wrapped(
            "For whoever asks how far gcr can be relied on: attempts to make it lose work, crash, "
            "hang or lie, and what came of each. `make "
            "reliability` makes them all again, each kind within its part of an hour, and writes "
            "this page and `reliability.json`; `python -m benchmarks.reliability --only kills "
            "--scale 0.1` makes a part. All that is random comes from the seed. A piece that runs "
            "out of its part of the hour ends with fewer attempts; the numbers here are those "
            "that were made, on the day and by the version that the table names."
        ),
        "",
        "| | attempts | failed | seconds | date | gcr |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name, record in records.items():
        title = PIECES[name].title
        cells = (
            f"[{title}](#{title.lower().replace(' ', '-')})",
            f"{record['attempts']:,}",
            f"{len(record['failures'])}",
            f"{record['seconds']:.0f}",
            record["date"],
            record["gcr"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    machines = dict.fromkeys(record["machine"] for record in records.values())
    lines += ["", f"Machine: {'; '.join(machines)}."]
    for name, record in records.items():
        lines += ["", f"## {PIECES[name].title}", "", *wrapped(PIECES[name].text), ""]
        lines += ["| what | what came of it |", "|---|---|", *_outcomes(record["outcomes"])]
        if record["figures"]:
            lines += ["", *_figures(record["figures"])]
        lines += ["", f"Seed {record['seed']}, {record['seconds']:.0f} seconds{_busy(record)}."]
        if mended := PIECES[name].mended:
            lines += ["", *wrapped(f"Found by it and mended: {mended}")]
        for reason in record["absent"]:
            lines += ["", *wrapped(f"Not tried: {reason}.")]
        if record["failures"]:
            lines += ["", "Failed:", "", "```"]
            lines += [failure.strip()[:600] for failure in record["failures"][:20]]
            lines += ["```"]
    return "\n".join(lines) + "\n"


def _outcomes(outcomes: Sequence[tuple[str, str, int]]) -> list[str]:
    """Rows of a table: one for each kind of attempt, or for each outcome, whichever are fewer."""
    kinds, ends = (dict.fromkeys(outcome[part] for outcome in outcomes) for part in (0, 1))
    by_end = len(ends) < len(kinds)
    once = all(count == 1 for *_, count in outcomes)

    def joined(same: str) -> str:
        parts = [(kind, end, n) for kind, end, n in outcomes if (end if by_end else kind) == same]
        words = ((kind if by_end else end) + ("" if once else f": {n:,}") for kind, end, n in parts)
        return "; ".join(words)

    if by_end:
        return [f"| {joined(end)} | {end} |" for end in ends]
    return [f"| {kind} | {joined(kind)} |" for kind in kinds]


def _busy(record: dict[str, Any]) -> str:
    """How much else the machine had to do, where that was more than the piece itself."""
    load = record.get("load", 0.0)
    return f" on a machine with a load of {load:.0f}" if load > 3 else ""


def wrapped(text: str, width: int = 105) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _figures(figures: dict[str, Any]) -> list[str]:
    """Figures as a table: a row each, or several columns where a figure has parts."""
    parts = [value for value in figures.values() if isinstance(value, dict)]
    if not parts:
        return [
            "| | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in figures.items()),
        ]
    columns = list(parts[0])
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [
        f"| {name} | {' | '.join(str(value[column]) for column in columns)} |"
        for name, value in figures.items()
        if isinstance(value, dict)
    ]
    return lines


if __name__ == "__main__":
    typer.run(main)
