"""One run: a request and settings in, a run folder out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gcr.core import ranking, stopping
from gcr.core.events import Notice, RunFinished, WorkFinished, WorkStarted, ignore
from gcr.core.phrases import duration
from gcr.core.records import Extension
from gcr.engine import cautions, waves
from gcr.engine.machine import ThisMachine
from gcr.engine.outcome import Interrupted, Outcome
from gcr.engine.parts import Warm, load, with_rubric
from gcr.engine.requests import checked_prompt, make_request
from gcr.errors import UsageError
from gcr.files import paths
from gcr.files.locks import claimed
from gcr.inputs import source
from gcr.settings.resolving import problem_of, recalled
from gcr.settings.schema import Settings, as_begun, recorded
from gcr.storage import batchfolder, runfolder
from gcr.storage.runfolder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from PIL.Image import Image

    from gcr.core.events import Consumer
    from gcr.core.records import Approve, Run
    from gcr.settings.schema import ResumeOptions


class More(NamedTuple):
    """What a run is to have beyond what it has used: rounds, images, seconds.

    What is None limits the run no more, so that one of them is enough. All None: as it was.
    """

    rounds: int | None = None
    images: int | None = None
    seconds: float | None = None


ROUNDS_MORE = 3
"""Of a run that is over and goes on from an image, where nobody says how many."""


def run(  # noqa: PLR0913 - each for itself
    prompt: str,
    settings: Settings,
    *,
    image: Path | str | Image | None = None,
    resume: Path | str | None = None,
    more: More = More(),  # noqa: B008 - it is frozen
    from_attempt: str = "",
    like: bool = False,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = waves.never,
    approve: Approve | None = None,
    warm: Warm | None = None,
) -> Outcome:
    """Refine one prompt.

    image: what the prompt says how to edit, as a path or as an image of Pillow.
    resume: the folder of a run to go on with, under the settings it was begun with.
    more, from_attempt, like: as `resume` has them.
    stop, approve: as `waves.work` has them.
    warm: models of earlier runs, which this one uses if they will do, and leaves loaded.
    Raises GcrError; on Ctrl-C Interrupted, a KeyboardInterrupt.
    """
    started = time.perf_counter()
    edited = None if image is None else source.read(image)
    request = make_request(checked_prompt(prompt), settings, edited)
    settings, questions = with_rubric(settings)
    with ExitStack() as held:
        if resume is None:
            runfolder.check_writable(settings.output)
        else:
            folder = _reopened(Path(resume), held)
            settings = as_begun(settings, folder.run.settings)
            folder.check(request, recorded(settings, questions.sha256))
            changed = _changed(folder, more, from_attempt, like=like)
            if changed is None and _is_over(folder, emit):
                return _outcome(folder, started, 0.0)
        cautions.tell(emit, cautions.of_pocket(request, settings))
        cautions.tell(emit, cautions.of_verifier([request.prompt], settings))
        cautions.tell(emit, cautions.of_scales([request.prompt], settings))
        parts = (warm.load if warm else load)(
            settings, questions, emit, edit=edited is not None, prompts=[request.prompt]
        )
        cautions.tell(emit, cautions.of_length(request, parts.generator))
        if resume is None:
            folder = RunFolder.create(
                settings.output,
                request,
                recorded(settings, questions.sha256),
                parts.revisions,
                edited,
            )
            held.enter_context(claimed(folder.path))
        else:
            cautions.tell(emit, cautions.of_changes(folder, parts.revisions))
            if changed is not None:
                folder.decide(changed)
                cautions.tell(emit, cautions.of_kept(folder.run))
            parts = replace(parts, rule=stopping.rule_of(folder.run))
        loading_seconds = time.perf_counter() - started
        emit(WorkStarted(1))
        try:
            queue = waves.SingleRun(folder)
            waves.work(queue, parts, emit, stop=stop, approve=approve)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(_outcome(folder, started, loading_seconds)) from interrupt
        finally:
            emit(WorkFinished())
        return _outcome(folder, started, loading_seconds)


def resume(  # noqa: PLR0913 - each for itself
    path: Path | str,
    *,
    more: More = More(),  # noqa: B008 - it is frozen
    from_attempt: str = "",
    like: bool = False,
    emit: Consumer = ignore,
    stop: Callable[[], bool] = waves.never,
    approve: Approve | None = None,
    warm: Warm | None = None,
    **here: Unpack[ResumeOptions],
) -> Outcome:
    """Go on with the run of a folder, under the settings it was begun with; `gcr resume FOLDER`.

    more: beyond what it has drawn so far; nothing: what is left of it.
    from_attempt: the image to go on from instead of the best, as `runfolder.attempt` takes it;
        empty: none. Of a run that is over `ROUNDS_MORE` are drawn then, where `more` says nothing.
    like: whether the next round draws variations of that image.
    approve, warm: as `run` has them.
    here: what `recalled` takes besides. Raises as `run` does.
    """
    begun, _ = runfolder.read_beginning(Path(path))
    image = Path(path) / begun.request.source if begun.request.source else None
    settings = recalled(begun.settings, ThisMachine(), **here)
    return run(
        begun.request.prompt,
        settings,
        image=image,
        resume=path,
        more=more,
        from_attempt=from_attempt,
        like=like,
        emit=emit,
        stop=stop,
        approve=approve,
        warm=warm,
    )


def keep(path: Path | str, image: str) -> Run:
    """Take an image as the best one of a run that nobody is at work in, whatever its score.

    Later rounds go on from it. image: as `runfolder.attempt` takes it. Raises UsageError as that
    does, where somebody is at work there, and as `check_single` does.
    """
    check_single(Path(path))
    with ExitStack() as held:
        folder = _reopened(Path(path), held)
        before = runfolder.load_run(folder.path)
        attempt = runfolder.attempt(folder.path, before, image)
        folder.run = waves.branched(before, attempt, keep=True)
        folder.finish(before.stop, attempt, before.comparison)
        return folder.run


def check_single(path: Path) -> None:
    """Raise UsageError for a batch, a comparison, and a run of either: those are of one kind."""
    if batchfolder.holds(path) or not paths.exists(path / runfolder.NAME):
        raise UsageError(
            f"{path} is no single run, and only those are changed",
            "the runs of a batch or a comparison stay alike, and none has more than the others; "
            "gcr refine begins a run of its own",
        )


def _changed(folder: RunFolder, more: More, from_attempt: str, *, like: bool) -> Run | None:
    """The run of a folder with a larger budget and a branch, if either is wanted; else None.

    On disk its results stay until it ends anew, and a person's choice of the best even then.
    """
    if more == More() and not from_attempt:
        return None
    check_single(folder.path)
    before = runfolder.load_run(folder.path)
    run = replace(
        folder.run, comparison=before.comparison, kept=before.kept, settled=before.settled
    )
    if from_attempt:
        run = waves.branched(run, runfolder.attempt(folder.path, run, from_attempt), like=like)
    if more == More() and stopping.rule_of(run).reason(run) is not None:
        more = More(ROUNDS_MORE)
    if more != More():
        run = replace(run, extensions=(*run.extensions, extended(before, more)))
    return run


def extended(run: Run, more: More) -> Extension:
    """The larger budget of a run, by what it has drawn so far.

    Raises UsageError where it could not draw another round, and for more than a run may have.
    """
    limits = {"rounds": more.rounds, "max_images": more.images, "max_seconds": more.seconds}
    for name, value in limits.items():
        if value is not None and (problem := problem_of(name, value)):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} {problem}", f"{flag} +3 means three more than there are now")
    drawn, spent = len(run.attempts), run.seconds
    extension = Extension(
        after=len(run.rounds),
        # As for a run that is begun with a budget, which alone lifts the limit on rounds.
        rounds=len(run.rounds) + (stopping.MOST_ROUNDS if more.rounds is None else more.rounds),
        max_images=None if more.images is None else drawn + more.images,
        max_seconds=None if more.seconds is None else spent + more.seconds,
        stop=str(run.stop or ""),
        when=datetime.now().astimezone().isoformat(timespec="seconds"),
    )
    if stopping.rule(run.settings, (extension,)).reason(run) is not None:
        each = spent / len(run.rounds)
        raise UsageError(
            f"a round takes about {duration(each)}, so none fits into {more.seconds:g} s",
            f"--max-seconds +{ceil(2 * each)} is enough for one or two; --rounds +1 for one",
        )
    return extension


def _reopened(path: Path, held: ExitStack) -> RunFolder:
    """A run to go on with, claimed before a line that another process is writing is cut off."""
    runfolder.read_beginning(path)
    held.enter_context(claimed(path))
    return RunFolder.open(path)


def _is_over(folder: RunFolder, emit: Consumer) -> bool:
    """Whether nothing is left to do of a run, which then is shown as it ended."""
    run, _ = runfolder.load_with_story(folder.path)
    if not stopping.is_over(run):
        return False
    folder.run = run
    emit(
        Notice(
            f"{folder.path} is finished, so nothing is drawn",
            f"gcr resume {folder.path} --rounds +3 draws up to three rounds more",
        )
    )
    emit(RunFinished(run, ranking.best_scored(run), folder.path))
    return True


def _outcome(folder: RunFolder, started: float, loading_seconds: float) -> Outcome:
    return Outcome.of(folder.run, folder.path, time.perf_counter() - started, loading_seconds)
