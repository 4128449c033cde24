"""`gcr resume FOLDER`: go on with a run, a batch or a comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gcr.cli import batch, compare, options, refine
from gcr.cli.options import settings_only
from gcr.errors import UsageError
from gcr.files import paths

LOOP = "More of a run that is over, or stopped"

Rounds = Annotated[
    str | None,
    typer.Option(metavar="+N", help="Draw so many rounds more, such as +3.", rich_help_panel=LOOP),
]
MaxImages = Annotated[
    str | None,
    typer.Option(
        metavar="+N",
        help="Draw so many images more at most; alone it lifts the limit on rounds.",
        rich_help_panel=LOOP,
    ),
]
MaxSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="+X",
        help="Take so many seconds more at most; alone it lifts the limit on rounds.",
        rich_help_panel=LOOP,
    ),
]
Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Of a run, a batch or a comparison, as gcr made it."),
]


@settings_only("residency", "overlap")
def resume(
    folder: Folder,
    *,
    rounds: Rounds = None,
    max_images: MaxImages = None,
    max_seconds: MaxSeconds = None,
    wave: batch.Wave = None,
    shard: batch.Shard = None,
    max_failures: batch.MaxFailures = None,
    ray: batch.Ray = None,
    workers: batch.Workers = None,
    evaluators: compare.Evaluators = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    flags: Mapping[str, Any],
) -> None:
    """Go on with what is in FOLDER, with the prompts and settings it was begun with.

    Rounds that are on disk are not drawn again. Prompts of a batch that failed are tried again. An
    evaluator that is a command line has to be given again.

    A single run that is over goes on with --rounds +3, or with a larger budget. That is recorded
    beside its settings, which stay; target and patience then count from there.

    Prints what gcr refine, gcr batch or gcr compare prints.
    """
    from gcr.comparison import comparing
    from gcr.comparison import folder as comparefolder
    from gcr.engine import batching, single
    from gcr.storage import batchfolder

    if evaluators and not paths.exists(folder / comparefolder.NAME):
        raise UsageError("--evaluator is for comparisons", f"gcr resume {folder} goes on with this")
    more = single.More(
        _more("--rounds", rounds, int),
        _more("--max-images", max_images, int),
        _more("--max-seconds", max_seconds, float),
    )
    extends = any(value is not None for value in more)
    if extends:
        _check_extensible(folder)
    here = dict(flags)
    overlap = here.pop("overlap")
    pace = batching.paced(wave, shard, max_failures, ray, workers)
    if paths.exists(folder / batchfolder.NAME):
        batch.work(
            lambda emit, stop: batching.resume(
                folder, pace, emit=emit, stop=stop, overlap=overlap, **here
            ),
            as_json=as_json,
            quiet=quiet,
        )
    elif ray:
        raise UsageError("--ray is for batches", f"gcr resume {folder} goes on with this")
    elif paths.exists(folder / comparefolder.NAME):
        compare.work(
            lambda emit, stop: comparing.resume(
                folder,
                wave,
                evaluator=evaluators,
                emit=emit,
                stop=stop,
                overlap=overlap,
                **here,
            ),
            as_json=as_json,
            quiet=quiet,
        )
    else:
        if extends:
            here["more"] = more
        _run(folder, here, as_json=as_json, quiet=quiet, verbose=verbose)


def _more(flag: str, text: str | None, kind: type[float]) -> Any:
    """The number of `+3`. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        value = kind(text.removeprefix("+"))
    except ValueError:
        value = 0
    if not text.startswith("+") or not 0 < value < float("inf"):
        raise UsageError(
            f"{flag} {text!r} is not of the form +3",
            f"{flag} +3 means three more than there are now",
        )
    return value


def _check_extensible(folder: Path) -> None:
    """Raise UsageError for what is of a batch or a comparison, where all runs have one budget."""
    from gcr.comparison import folder as comparefolder
    from gcr.storage import batchfolder

    inside = batchfolder.holds(folder)
    if inside or any(paths.exists(folder / x.NAME) for x in (batchfolder, comparefolder)):
        raise UsageError(
            f"{folder} is no single run, and only those are extended",
            "the budget of a batch or a comparison is the same for all of its runs; "
            "gcr refine begins a run of its own",
        )


def _run(folder: Path, here: dict[str, Any], *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Go on with a single run. here: what is not in its folder."""
    from gcr.engine import single

    if not paths.exists(folder / "run.json"):
        raise UsageError(
            f"no run and no batch in {folder}",
            "name a folder that gcr refine, gcr batch or gcr compare made",
        )
    refine.work(
        lambda emit, stop, _: single.resume(folder, emit=emit, stop=stop, **here),
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )
