"""`gcr compare FILE…`: what refining is worth, by an evaluator that did not steer it."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import batch, options
from gcr.cli.flags import settings_but
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
        parser=options.named,
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
        help="What all arms but raw may use as much of for a prompt: --max-images (default: 8), or "
        "--max-seconds.",
        rich_help_panel=COMPARISON,
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="Compare within the categories of this column, too (default: tag or category, where "
        "there is one).",
        rich_help_panel=COMPARISON,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        metavar="",
        help="Let the critic that steers be the evaluator.",
        rich_help_panel=COMPARISON,
    ),
]

Benchmark = Annotated[
    str,
    typer.Option(
        metavar="NAME",
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
    by: By = "",
    force: Force = False,
    benchmark: Benchmark = "",
    scores: ScoreFiles = None,
    into: batch.Into = None,
    wildcards: batch.Wildcards = None,
    literal: batch.Literal = False,
    column: batch.Column = None,
    skip_bad: batch.SkipBad = False,
    wave: batch.Wave = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, object],
) -> None:
    """Draw every prompt of FILE raw and by several strategies, and say which is better.

    All arms have the same seeds and the same budget. An evaluator that did not steer them measures
    the results; with fewer than 20 prompts there is no verdict.

    Prints the path of compare.json. All else goes to stderr and into the comparison's folder; gcr
    resume goes on with one that was interrupted.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=verbose, quiet=quiet)
    from gcr.comparison import comparing, drawn_folders
    from gcr.comparison.arms import USUAL
    from gcr.engine import plan as plans
    from gcr.results import benchmarks, scorers

    if scores:
        given = {**flags, "arm": arms, "benchmark": benchmark, "by": by, "into": into}
        take = partial(scorers.take, files, scores, given, evaluator=evaluators)
        work(lambda emit, _: take(emit=emit), as_json=as_json, quiet=quiet, lay_out=False)
        return
    if drawn_folders.are(files):
        given = {**flags, "arm": arms, "benchmark": benchmark or None}
        again = partial(drawn_folders.compare, files, given, into=into, evaluator=evaluators, by=by)
        work(lambda emit, _: again(force=force, emit=emit), as_json=as_json, quiet=quiet)
        return
    settings = comparing.shared(flags, equal)
    reading = plans.Reading(column, wildcards, literal, skip_bad)
    plan = plans.make(files, settings, reading)
    if benchmark:
        benchmarks.check(benchmark, plan.jobs)
    contest = comparing.prepare(
        plan,
        arms=arms or USUAL,
        equal=equal,
        evaluator=evaluators,
        by=by,
        force=force,
        benchmark=benchmark,
    )
    work(
        lambda emit, stop: comparing.run(contest, into, wave, emit=emit, stop=stop),
        as_json=as_json,
        quiet=quiet,
    )


def work(
    act: "Callable[[Consumer, Callable[[], bool]], Comparison]",
    *,
    as_json: bool,
    quiet: bool,
    lay_out: bool = True,
) -> None:
    """Do a comparison under the eyes of whoever is at the terminal, and print what came of it.

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
            say_nothing_is_saved(terminal.end if terminal else None)
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
    from gcr.results import scorers

    lines = [line for layout in scorers.laid_out(comparison) for line in layout.said()]
    if terminal:
        for line in lines:
            terminal.say(line)


def _check(comparison: "Comparison") -> None:
    if failed := sum(arm.failed for arm in comparison.arms):
        raise BatchError(
            f"{failed} of {len(comparison.arms) * len(comparison.prompts)} results are missing",
            f"reasons are in {comparison.table}; gcr resume tries what failed again",
        )
