"""From settings to a finished run: make the parts, run the loop, save every round.

The one place where loop, models, folder and view meet; none of them knows the others.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.core import loop, ranking, stopping, strategies
from gcr.core.guards import lost
from gcr.core.records import Request, StopReason
from gcr.core.stopping import StopRule
from gcr.core.view import Enough, Silent, View, Watcher, after_an_error
from gcr.critic import limits, rubric
from gcr.engine import cautions
from gcr.engine.models import load_models, revision
from gcr.engine.outcome import (
    Interrupted,
    Outcome,
    Unreported,
    compared,
    is_over,
    settled,
    uncompared,
)
from gcr.errors import GcrError, UnavailableError, UsageError
from gcr.files.locks import claimed
from gcr.inputs import source
from gcr.settings.address import is_address
from gcr.settings.recorded import as_begun, recorded
from gcr.settings.resolving import Settings, recalled, resolve
from gcr.storage import runfolder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

    from gcr.core.records import Critic, Generator, Preference, Strategy


@dataclass(frozen=True, slots=True)
class Parts:
    """What takes part in runs of these settings.

    revisions: of the models, by the role they play.
    """

    settings: Settings
    generator: Generator
    critic: Critic
    strategy: strategies.Named
    rule: StopRule
    revisions: Mapping[str, str | None]

    def can_overlap(self) -> bool:
        """Whether the critic is to judge some runs while images of others are drawn, as things are.

        Never under a budget of seconds: those of two models that work at once are no measure.
        """
        asked = self.settings.overlap
        wanted = is_address(self.settings.critic) if asked is None else asked
        return wanted and self.settings.max_seconds is None and self.critic.can_overlap()

    def compared(
        self, folders: Sequence[runfolder.RunFolder], view: Watcher
    ) -> list[Preference | None]:
        """As `outcome.compared`, once chance has been settled; None for all where the settings want
        none.
        """
        asked = folders if self.settings.compare else ()
        for folder, image in zip(asked, settled(asked, self.critic, view), strict=True):
            folder.run = replace(folder.run, settled=image)
        return compared(asked, self.critic, view) or [None] * len(folders)


def refine(
    prompt: str,
    *,
    image: Path | str | Image | None = None,
    resume: Path | str | None = None,
    view: View | None = None,
    **flags: object,
) -> Outcome:
    """Refine one prompt; the Python form of `gcr refine`. Several threads may call it.

    image: what the prompt says how to edit, as a path or as an image of Pillow.
    resume: the folder of a run to go on with, under the settings it was begun with.
    flags: settings by the names of their options, such as `images=4`, and `trust_endpoint`.
    Raises GcrError (Unreported has an outcome); on Ctrl-C Interrupted, a KeyboardInterrupt.
    """
    settings = resolve(flags, edit=image is not None)
    return run(prompt, settings, image=image, resume=resume, view=view)


def run(  # noqa: PLR0913 - each for itself
    prompt: str,
    settings: Settings,
    *,
    image: Path | str | Image | None = None,
    resume: Path | str | None = None,
    view: View | None = None,
    around: Callable[[Strategy], Strategy] | None = None,
) -> Outcome:
    """As `refine`, from settings that are resolved. around: what is put around the strategy."""
    started, view = time.perf_counter(), view or Silent()
    edited = None if image is None else source.read(image)
    request = requested(checked(prompt), settings, edited)
    settings, questions = ruled(settings)
    with ExitStack() as held:
        if resume is None:
            runfolder.check_writable(settings.output)
        else:
            folder = _reopened(Path(resume), held)
            settings = as_begun(settings, folder.run.settings)
            folder.check(request, recorded(settings, questions))
            if is_over(folder, view):
                return _outcome(folder, started, 0.0)
        cautions.of_pocket(request, settings, view)
        parts = load(settings, questions, view, edit=edited is not None)
        cautions.of_length(request, parts.generator, view)
        if resume is None:
            folder = runfolder.RunFolder.create(
                settings.output, request, recorded(settings, questions), parts.revisions, edited
            )
            held.enter_context(claimed(folder.path))
        else:
            cautions.of_changes(folder, parts.revisions, view)
        loading_seconds = time.perf_counter() - started
        strategy = around(parts.strategy) if around else parts.strategy
        return _played(
            folder, parts, strategy, view, lambda: _outcome(folder, started, loading_seconds)
        )


def _played(
    folder: runfolder.RunFolder,
    parts: Parts,
    strategy: Strategy,
    view: View,
    outcome: Callable[[], Outcome],
) -> Outcome:
    """Run the loop, and leave a page to look at, whatever came of it. Raises as `refine` does."""
    from gcr.results.report import report

    try:
        drive(folder, parts, strategy, view)
    except BaseException as error:
        with after_an_error(view):
            report(folder.path)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(outcome()) from error
        raise
    else:
        try:
            report(folder.path)
        except GcrError as error:
            raise Unreported(error, outcome()) from error
        return outcome()
    finally:
        view.end(folder.run, ranking.best_scored(folder.run), folder.path)


def resume(path: Path | str, *, view: View | None = None, **here: Any) -> Outcome:
    """Go on with the run of a folder, under the settings it was begun with; `gcr resume FOLDER`.

    here: what `recalled` takes besides. Raises as `refine` does.
    """
    run_, _ = runfolder.begun(Path(path))
    image = Path(path) / run_.request.source if run_.request.source else None
    settings = recalled(run_.settings, **here)
    return run(run_.request.prompt, settings, image=image, resume=path, view=view)


def ruled(settings: Settings) -> tuple[Settings, rubric.Rubric]:
    """The settings as their rubric allows them, and the rubric."""
    questions = rubric.load(settings.rubric)
    if not questions.comparison:
        settings = settings.model_copy(update={"compare": False})
    if not (questions.history and strategies.STRATEGIES[settings.strategy].uses_history):
        settings = settings.model_copy(update={"history": False})
    return settings, questions


def load(
    settings: Settings,
    questions: rubric.Rubric,
    view: Watcher,
    *,
    edit: bool = False,
    negative: bool = False,
) -> Parts:
    """Load the models, and make what goes with them. Takes and raises what `load_models` does."""
    pair = load_models(settings, questions, view, edit=edit, negative=negative)
    return parts_of(settings, *pair, view)


def parts_of(settings: Settings, generator: Generator, critic: Critic, view: Watcher) -> Parts:
    """What goes with models that are loaded already. Raises UsageError where the generator could
    do what the strategy needs with other settings.
    """
    rule = stopping.rule(settings.recorded())
    revisions = {"generator": revision(settings.generator), "critic": revision(settings.critic)}
    strategy = _strategy(settings, generator, view)
    return Parts(settings, generator, critic, strategy, rule, revisions)


def _reopened(path: Path, held: ExitStack) -> runfolder.RunFolder:
    """A run to go on with, claimed before a line that another process is writing is cut off."""
    runfolder.begun(path)
    held.enter_context(claimed(path))
    return runfolder.RunFolder.open(path)


def drive(folder: runfolder.RunFolder, parts: Parts, strategy: Strategy, view: View) -> None:
    """Run the loop on the folder's run until it stops. Rounds are on disk before they are shown.

    `view.end` is left to the caller, who may have more to do.
    """
    rule, preference = parts.rule, None
    stop = rule.reason(folder.run)
    view.begin(folder.run)
    try:
        for step in loop.refine(
            [folder.run],
            parts.generator,
            parts.critic,
            strategy,
            rule,
            history=parts.settings.history,
            gallery=folder.gallery,
        ):
            folder.save(step.run, step.images)
            stop = step.run.stop
            view.round(folder.run, ranking.best_scored(folder.run))
        try:
            (preference,) = parts.compared([folder], view)
        except UnavailableError as error:
            uncompared(folder, error, view)
    except Enough as enough:
        stop = StopReason.CHOSEN
        folder.keep(enough.kept)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        stop = StopReason.INTERRUPTED if interrupted else StopReason.FAILED
        with after_an_error(view):
            folder.finish(stop, ranking.best_scored(folder.run))
        raise
    folder.finish(stop, ranking.best_scored(folder.run), preference)


def _strategy(settings: Settings, generator: Generator, view: Watcher) -> strategies.Named:
    """The strategy that was chosen, or `refine` where the generator cannot draw what it proposes.

    Raises UsageError where it could with other settings.
    """
    chosen = strategies.load(settings.strategy, settings.images, settings.seed, settings.strength)
    obstacle = generator.obstacle(chosen.later())
    if not obstacle:
        return chosen
    view.warn(
        f"the strategy {settings.strategy} falls back to refine: {obstacle}",
        "nothing to do, unless you want another --generator",
    )
    return strategies.Refine(settings.images, settings.seed)


def checked(prompt: str) -> str:
    """The prompt without the space around it. Raises UsageError for one that says nothing."""
    stripped = prompt.strip()
    if not stripped:
        raise UsageError("the prompt is empty", 'say what to draw: gcr refine "a red circle"')
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the prompt is not UTF-8", "check the terminal's encoding") from error
    return stripped


def requested(prompt: str, settings: Settings, edited: Image | None) -> Request:
    """The request. edited: the image it says how to edit.

    Raises UsageError where these settings do not fit it.
    """
    for span in lost(settings.keep, prompt):
        raise UsageError(
            f"--keep {span!r} is not in the prompt", "copy the words as the prompt has them"
        )
    limits.check(prompt, settings, edit=edited is not None)
    if edited is None:
        return Request(prompt, settings.negative, settings.keep)
    return Request(prompt, settings.negative, settings.keep, source.NAME, source.digest(edited))


def _outcome(folder: runfolder.RunFolder, started: float, loading_seconds: float) -> Outcome:
    run = folder.run
    seconds = time.perf_counter() - started
    raw = ranking.raw(run) if run.rounds else None
    return Outcome(run, folder.path, ranking.best_scored(run), raw, seconds, loading_seconds)
