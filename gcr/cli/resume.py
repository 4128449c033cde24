"""`gcr resume RUN`: go on with a run, a batch or a comparison."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gcr.cli import batch, compare, options, refine
from gcr.cli.options import settings_only
from gcr.errors import UsageError
from gcr.files import paths

LOOP = "More of a run that is over, or stopped"

Rounds = Annotated[
    str | None,
    typer.Option(
        metavar="+N",
        help="Draw so many rounds more, such as +3; alone it lifts other limits.",
        rich_help_panel=LOOP,
    ),
]
MaxImages = Annotated[
    str | None,
    typer.Option(
        metavar="+N",
        help="Draw so many images more at most; alone it lifts other limits.",
        rich_help_panel=LOOP,
    ),
]
MaxSeconds = Annotated[
    str | None,
    typer.Option(
        metavar="+X",
        help="Take so many seconds more at most; alone it lifts other limits.",
        rich_help_panel=LOOP,
    ),
]
FromAttempt = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE",
        help="Go on from this image of the run instead of the best, such as 01-0, best, or its "
        "path; of a run that is over, three rounds unless said otherwise.",
        rich_help_panel=LOOP,
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="The folder of a run, a batch or a comparison, or a part of the folder's name.",
    ),
]


@settings_only("output", "residency", "overlap")
def resume(
    run: Run,
    *,
    rounds: Rounds = None,
    max_images: MaxImages = None,
    max_seconds: MaxSeconds = None,
    from_attempt: FromAttempt = None,
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
    """Go on with a run, a batch or a comparison, with the settings it was begun with.

    Rounds that are on disk are not drawn again. Prompts of a batch that failed are tried again. An
    evaluator that is a command line has to be given again.

    A single run that is over goes on with --rounds +3, with a larger budget, or from one of its
    images. That is recorded beside its settings, which stay; target and patience then count from
    there. Nothing that was drawn is lost.

    Prints what gcr refine, gcr batch or gcr compare prints.
    """
    from gcr.comparison import comparing
    from gcr.comparison import folder as comparefolder
    from gcr.engine import batching, single
    from gcr.results import listing
    from gcr.settings.resolving import output_folder
    from gcr.storage import batchfolder, runfolder

    here = dict(flags)
    folder = listing.find(run, output_folder({"output": here.pop("output")}))
    if evaluators and not paths.exists(folder / comparefolder.NAME):
        raise UsageError("--evaluator is for comparisons", f"gcr resume {folder} goes on with this")
    more = single.More(
        _more("--rounds", rounds, int),
        _more("--max-images", max_images, int),
        _more("--max-seconds", max_seconds, float),
    )
    if from_attempt is not None and not from_attempt.strip():
        raise UsageError("the name of the image is empty", f"gcr show {folder} lists its images")
    if more != single.More() or from_attempt:
        single.check_single(folder)
    overlap = here.pop("overlap")
    pace = batching.paced(wave, shard, max_failures, ray, workers)
    if paths.exists(folder / batchfolder.NAME):
        batch.work(
            lambda emit, stop: batching.resume(
                folder, pace, emit=emit, stop=stop, overlap=overlap, **here
            ),
            folder=folder,
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
            folder=folder,
            as_json=as_json,
            quiet=quiet,
        )
    elif not paths.exists(folder / runfolder.NAME):
        raise UsageError(
            f"no run and no batch in {folder}",
            "name a folder that gcr refine, gcr batch or gcr compare made",
        )
    else:
        refine.work(
            lambda emit, stop, _: single.resume(
                folder, more=more, from_attempt=from_attempt or "", emit=emit, stop=stop, **here
            ),
            folder=folder,
            as_json=as_json,
            quiet=quiet,
            verbose=verbose,
        )


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
