"""`gcr compare FILE…`: what refining is worth, by an evaluator that did not steer it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import batch, options
from gcr.cli.options import settings_but
from gcr.errors import BatchError

if TYPE_CHECKING:
    from gcr.comparison.measuring import Comparison
    from gcr.core.events import Consumer
    from gcr.ui.comparison_terminal import CompareTerminal

COMPARISON = "Comparison"

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        parser=options.path,
        help="Prompt files, as gcr batch reads them; or folders that gcr batch and gcr compare "
        "made, to be compared as they are.",
    ),
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="NAME",
        help="What to compare: raw (one image), a strategy, or refine-screened, which is refine "
        "with --critique best and needs --score checklist; can be given again (default: raw, "
        "best-of-n, refine).",
        rich_help_panel=COMPARISON,
    ),
]
Evaluators = Annotated[
    list[str] | None,
    typer.Option(
        "--evaluator",
        metavar="NAME",
        help="What says how good an image is: vqascore:MODEL, clipscore:MODEL, ocr, ocr-exact, "
        "detect:MODEL, command:LINE, or truth, the default with the embedded pair and for it "
        "alone. Never the critic. Can be given again: the first decides, others stand beside it.",
        rich_help_panel=COMPARISON,
    ),
]
Equal = Annotated[
    str,
    typer.Option(
        metavar="images|seconds",
        help="What every arm but raw gets equally much of for each prompt: --max-images (8, where "
        "none is given) or --max-seconds.",
        rich_help_panel=COMPARISON,
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        parser=options.text,
        help="Compare within the categories of this column, too (default: tag or category, where "
        "there is one).",
        rich_help_panel=COMPARISON,
    ),
]
Force = Annotated[
    bool,
    options.switch("--force", "Let the critic that steers be the evaluator.", panel=COMPARISON),
]

Benchmark = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=options.text,
        help="Lay the arms out for the scorer of this benchmark, whose published prompt file FILE "
        "is: geneval, geneval2, unigenbench, t2i-compbench or dpg. It is an evaluator then.",
        rich_help_panel=COMPARISON,
    ),
]
ScoreFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--scores",
        metavar="[ARM=]FILE",
        help="Take back what the scorer of --benchmark wrote for an arm of FILE, which is the "
        "comparison's folder; can be given again.",
        rich_help_panel=COMPARISON,
    ),
]


@settings_but("strategy", "compare", "format")
def compare(
    files: Files,
    *,
    arms: Arms = None,
    evaluators: Evaluators = None,
    equal: Equal = "images",
    by: By = None,
    force: Force = False,
    benchmark: Benchmark = None,
    scores: ScoreFiles = None,
    into: batch.Into = None,
    wildcards: batch.Wildcards = None,
    literal: batch.Literal = False,
    column: batch.Column = None,
    skip_bad: batch.SkipBad = False,
    wave: batch.Wave = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001 - app has heeded it
    flags: Mapping[str, object],
) -> None:
    """Draw every prompt of FILE raw and by several strategies, and say which is better.

    All arms have the same seeds and the same budget. An evaluator that did not steer them measures
    the results; with fewer than 20 prompts there is no verdict.

    Prints the path of compare.json. All else goes to stderr and into the comparison's folder; gcr
    resume goes on with one that was interrupted.
    """
    from gcr import api
    from gcr.engine.plan import Reading

    work(
        lambda emit, stop: api.compared(
            files,
            flags,
            Reading(column, wildcards, literal, skip_bad),
            evaluator=evaluators,
            arms=arms,
            equal=equal,
            by=by or "",
            force=force,
            benchmark=benchmark or "",
            scores=scores or (),
            into=into,
            wave=wave,
            emit=emit,
            stop=stop,
        ),
        folder=into,
        as_json=as_json,
        quiet=quiet,
        lay_out=not scores,
    )


def work(
    act: "Callable[[Consumer, Callable[[], bool]], Comparison]",
    *,
    folder: Path | None,
    as_json: bool,
    quiet: bool,
    lay_out: bool = True,
) -> None:
    """Do a comparison under the eyes of whoever is at the terminal, and print what came of it.

    folder: of the comparison, which may be there already; None: a new one.
    lay_out: for the scorers that are among its evaluators.
    """
    from gcr.comparison.folder import NAME, CompareInterrupted
    from gcr.core.events import ignore
    from gcr.ui.comparison_terminal import CompareTerminal
    from gcr.ui.interruption import Interruption, say_nothing_is_saved

    terminal = None if quiet else CompareTerminal()
    interruption = Interruption(terminal or ignore)
    try:
        comparison = act(interruption, interruption.requested)
    except KeyboardInterrupt as stopped:
        if not isinstance(stopped, CompareInterrupted):
            say_nothing_is_saved(terminal.end if terminal else None, folder)
        elif terminal:
            known = (stopped.folder / NAME).exists()
            how = "gcr resume" if known else "the same command with --into"
            terminal.say(f"{how} {stopped.folder} goes on from here")
        raise
    finally:
        if terminal:
            terminal.end()
    typer.echo(json.dumps(comparison.as_json()) if as_json else comparison.path)
    if terminal:
        terminal.tell(comparison)
    batch.each_of(
        lambda: _check(comparison),
        lambda: _lay_out(comparison, terminal) if lay_out else None,
        lambda: batch.show(comparison.path.parent, "all of it", terminal),
    )


def _lay_out(comparison: "Comparison", terminal: "CompareTerminal | None") -> None:
    from gcr.results import benchmarks

    lines = [line for layout in benchmarks.laid_out(comparison) for line in layout.summary()]
    if terminal:
        for line in lines:
            terminal.say(line)


def _check(comparison: "Comparison") -> None:
    if failed := sum(arm.failed for arm in comparison.arms):
        raise BatchError(
            f"{failed} of {len(comparison.arms) * len(comparison.prompts)} results are missing",
            f"reasons are in {comparison.table}; gcr resume tries what failed again",
        )
