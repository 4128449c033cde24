"""`gcr batch FILE…`: every prompt of the files refined, in waves."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import environment, options
from gcr.cli.options import with_settings
from gcr.errors import BatchError, GcrError, UsageError

if TYPE_CHECKING:
    from gcr.core.events import Consumer
    from gcr.engine.outcome import BatchOutcome, BatchStopped
    from gcr.ui.batch_terminal import BatchTerminal
    from gcr.ui.comparison_terminal import CompareTerminal

BATCH = "Batch"

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        parser=options.path,
        help="Prompt files: .txt, .csv, .tsv, .jsonl, .json, .yaml, .parquet; folders of .txt "
        "files; - for stdin.",
    ),
]
Into = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        parser=options.path,
        help="The batch's own folder; where it holds this batch already, what is missing is done.",
        rich_help_panel=BATCH,
    ),
]
Wildcards = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        parser=options.path,
        help="Where the files are that wildcards such as __colours__ name.",
        rich_help_panel=BATCH,
    ),
]
Literal = Annotated[
    bool,
    options.switch("--literal", "Leave {a|b} and __name__ in prompts as they are.", panel=BATCH),
]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=options.text,
        help="The column that holds the prompts (default: prompt, text, caption or another usual "
        "name).",
        rich_help_panel=BATCH,
    ),
]
SkipBad = Annotated[
    bool,
    options.switch("--skip-bad", "Leave out rows that cannot be read.", panel=BATCH),
]
Wave = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Prompts that advance together: all are drawn, then all are judged (default: 16, or "
        "as many as fill the batches with which gcr bench found the critic fastest).",
        min=1,
        rich_help_panel=BATCH,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        parser=options.text,
        help="Do the I-th of N parts, such as 2/3; all parts share one --into.",
        rich_help_panel=BATCH,
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Stop when so many prompts failed (default: do all others).",
        min=1,
        rich_help_panel=BATCH,
    ),
]
Layout = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=options.text,
        help="At the end also write raw and refined images as a benchmark's scorer reads them: "
        "geneval, geneval2, unigenbench, t2i-compbench or dpg (gcr export does it later).",
        rich_help_panel=BATCH,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        parser=options.text,
        help="Do the work on Ray: on a cluster started here for this batch (local), on the one "
        "that runs here (auto), or on one elsewhere; all its machines must share the batch's "
        "folder. Dead workers are replaced, and their prompts resumed.",
        rich_help_panel=BATCH,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Workers on Ray, each with its own models (default: one for each GPU, or for every "
        "two CPUs where there is none).",
        min=1,
        rich_help_panel=BATCH,
    ),
]


@with_settings
def batch(
    files: Files,
    *,
    into: Into = None,
    wildcards: Wildcards = None,
    literal: Literal = False,
    column: Column = None,
    skip_bad: SkipBad = False,
    wave: Wave = None,
    shard: Shard = None,
    max_failures: MaxFailures = None,
    layout: Layout = None,
    ray: Ray = None,
    workers: Workers = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001 - app has heeded it
    flags: Mapping[str, object],
) -> None:
    """Refine every prompt of FILE, and write down what came of each.

    A prompt that fails does not hold up the others; exit code 3 says that some did.

    Prints the path of summary.jsonl, which has a line for each prompt. All else goes to stderr and
    into the batch's folder; gcr resume goes on with one that was interrupted.
    """
    if shard and not into:
        raise UsageError("--shard needs --into", "name one folder that all shards share")
    from gcr.engine import batching
    from gcr.engine import plan as plans
    from gcr.engine.machine import ThisMachine
    from gcr.inputs import jobs
    from gcr.results import benchmarks
    from gcr.settings.resolving import resolve

    pace = batching.paced(wave, shard, max_failures, ray, workers)
    resolved = resolve(flags, ThisMachine())
    reading = plans.Reading(column, wildcards, literal, skip_bad)
    plan = plans.make(files, resolved.settings, reading)
    if layout:
        benchmarks.check(layout, plan.jobs)
    if dry_run:
        prompts = [job.prompt for job in jobs.shard(plan.jobs, *pace.shard)]
        environment.show_forecast(resolved, prompts, as_json=as_json)
        return
    work(
        lambda emit, stop: batching.run(plan, into, pace, emit=emit, stop=stop),
        folder=into,
        layout=layout,
        as_json=as_json,
        quiet=quiet,
    )


def work(
    act: "Callable[[Consumer, Callable[[], bool]], BatchOutcome]",
    *,
    folder: Path | None,
    layout: str | None = None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do a batch under the eyes of whoever is at the terminal, and print what came of it.

    folder: of the batch, which may be there already; None: a new one.
    """
    from gcr.core.events import ignore
    from gcr.engine.outcome import BatchInterrupted, BatchStopped
    from gcr.ui.batch_terminal import BatchTerminal
    from gcr.ui.interruption import Interruption, say_nothing_is_saved

    terminal = None if quiet else BatchTerminal()
    interruption = Interruption(terminal or ignore)
    lost: BatchStopped | None = None
    try:
        outcome = act(interruption, interruption.requested)
    except BatchStopped as error:
        outcome, lost = error.outcome, error
    except KeyboardInterrupt as stopped:
        if not isinstance(stopped, BatchInterrupted):
            say_nothing_is_saved(terminal.end if terminal else None, folder)
        else:
            _print(stopped.outcome, as_json=as_json)
            begun = stopped.outcome.folder
            if terminal:
                terminal.say(f"gcr resume {begun} goes on from here")
            if terminal and layout:
                terminal.say(f"then gcr export {begun} --format {layout}")
        raise
    finally:
        if terminal:
            terminal.end()
    _print(outcome, as_json=as_json)
    if terminal:
        terminal.say(said(outcome))
    each_of(
        lambda: _check(outcome, lost),
        lambda: show(outcome.folder, "all of them", terminal),
        lambda: _lay_out(outcome, layout, quiet=quiet),
    )


def each_of(*steps: "Callable[[], None]") -> None:
    """Do all steps, also after one that fails. Raises the first error; later ones are warnings."""
    from gcr.ui.terminal import Terminal

    failed: GcrError | None = None
    for step in steps:
        try:
            step()
        except GcrError as error:
            if failed:
                Terminal().warn(error.message, error.hint)
            failed = failed or error
    if failed:
        raise failed


def show(folder: Path, what: str, terminal: "BatchTerminal | CompareTerminal | None") -> None:
    """Write the page of a folder. what: it shows, in words."""
    from gcr.results.report import report

    page = report(folder)
    if terminal:
        terminal.say(f"{page} shows {what}")


def _lay_out(outcome: "BatchOutcome", layout: str | None, *, quiet: bool) -> None:
    """Write the layout, if one is wanted, of what is done, here or elsewhere; of nothing, none."""
    from gcr.cli.results import say
    from gcr.results import benchmarks

    if layout is None or len(outcome.failures) == len(outcome.results):
        return
    written = benchmarks.export([outcome.folder], layout)
    say([*written.summary(), f"its scorer's folders are in {written.folder}"], quiet=quiet)


def said(outcome: "BatchOutcome") -> str:
    """What came of a batch in one line."""
    done = len(outcome.results) - len(outcome.failures)
    counts = {"failed": len(outcome.failures), "not reached": outcome.unfinished}
    counts["left to other processes"] = outcome.busy
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{done} done{rest}; saved in {outcome.folder}"


def _print(outcome: "BatchOutcome", *, as_json: bool) -> None:
    typer.echo(json.dumps(outcome.as_json()) if as_json else outcome.summary)


def _check(outcome: "BatchOutcome", lost: "BatchStopped | None") -> None:
    from gcr.core.phrases import count

    if lost is not None:
        raise lost
    if not outcome.failures:
        return
    first = outcome.failures[0]
    more = len(outcome.failures) - 1
    listed = f"{first.id}: {first.failure}" + (f"; and {more} more" if more else "")
    raise BatchError(
        f"{count(more + 1, 'prompt')} failed ({listed})",
        f"reasons are in {outcome.summary}; gcr resume {outcome.folder} tries them again",
    )
