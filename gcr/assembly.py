"""From settings to a finished run: make the parts, run the loop, save every round.

The one place where loop, models, folder and view meet; none of them knows the others.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import cautions, comparison, loop, profiles, rubric, source, store, strategies
from gcr.errors import UsageError
from gcr.guards import lost
from gcr.models import load_models, revision
from gcr.records import Attempt, Request, Run, StopReason
from gcr.settings import Settings, resolve
from gcr.stopping import StopRule
from gcr.verdict import never_met
from gcr.view import Enough, Silent, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from gcr.records import Critic, Generator, Preference, Strategy


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    best: the attempt with the highest score; None if none could be scored.
    raw: the first attempt of the request as it is; None if none was drawn.
    seconds: wall time of this call, with loading_seconds, the time before the first round began.
    """

    run: Run
    folder: Path
    best: Attempt | None
    raw: Attempt | None
    seconds: float
    loading_seconds: float

    @property
    def best_image(self) -> Path | None:
        """A copy of the best attempt's image."""
        return self.folder / "best.png" if self.best else None

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it; what `gcr refine --json` prints."""
        run, best, raw = self.run, self.best, self.raw
        return {
            "run_id": run.id,
            "folder": str(self.folder),
            "request": asdict(run.request),
            "source": str(self.folder / run.request.source) if run.request.source else None,
            "best": best and {**self._attempt(best), "image": str(self.best_image)},
            "comparison": run.comparison,
            "never_met": [asdict(requirement) for requirement in never_met(run)],
            "raw": raw and {"image": str(self.folder / raw.image), "score": raw.score},
            "rounds": [
                {"index": round_.index, "attempts": [self._attempt(a) for a in round_.attempts]}
                for round_ in run.rounds
            ],
            "stop": run.stop,
            "images": len(run.attempts),
            "seconds": round(self.seconds, 3),
            "loading_seconds": round(self.loading_seconds, 3),
        }

    def _attempt(self, attempt: Attempt) -> dict[str, object]:
        """One attempt without the raw reply, which is in the folder's rounds.jsonl."""
        critique = asdict(attempt.critique)
        score = critique.pop("overall")
        del critique["raw"]
        return {
            "image": str(self.folder / attempt.image),
            "sha256": attempt.sha256,
            "round": next(r.index for r in self.run.rounds if attempt in r.attempts),
            **asdict(attempt.candidate),
            "score": score,
            **critique,
            "draw_seconds": round(attempt.draw_seconds, 4),
            "judge_seconds": round(attempt.judge_seconds, 4),
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after the run's folder was made. outcome: what there is."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def refine(
    prompt: str,
    *,
    image: Path | str | Image | None = None,
    resume: Path | str | None = None,
    view: View | None = None,
    **flags: object,
) -> Outcome:
    """Refine one prompt; the Python form of `gcr refine`.

    image: what the prompt says how to edit, as a path or as an image of Pillow.
    resume: the folder of a run to go on with, under the settings it was begun with.
    flags: settings by the names of their options, such as `images=4`.
    Raises GcrError; on Ctrl-C Interrupted, which is a KeyboardInterrupt.
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
    started = time.perf_counter()
    view = view or Silent()
    edited = None if image is None else source.read(image)
    request = _request(checked(prompt), settings, edited)
    questions = rubric.load(settings.rubric)
    if not questions.comparison:
        settings = settings.model_copy(update={"compare": False})
    recorded = {**settings.recorded(), "rubric_sha256": questions.sha256}
    folder = None
    if resume is None:
        store.check_writable(settings.output)
    else:
        folder = store.RunFolder.open(Path(resume))
        folder.check(request, recorded)
    cautions.of_pocket(request, settings, view)
    generator, critic = load_models(settings, questions, view, edit=edited is not None)
    strategy = _strategy(settings, generator, view)
    strategy = around(strategy) if around else strategy
    cautions.of_length(request, generator, view)
    revisions = {"generator": revision(settings.generator), "critic": revision(settings.critic)}
    if folder is None:
        folder = store.RunFolder.create(settings.output, request, recorded, revisions, edited)
    else:
        cautions.of_changes(folder, revisions, view)
    loading_seconds = time.perf_counter() - started
    try:
        drive(folder, generator, critic, strategy, settings, view=view)
    except KeyboardInterrupt as interruption:
        raise Interrupted(_outcome(folder, started, loading_seconds)) from interruption
    return _outcome(folder, started, loading_seconds)


def drive(  # noqa: PLR0913 - what takes part, each for itself
    folder: store.RunFolder,
    generator: Generator,
    critic: Critic,
    strategy: Strategy,
    settings: Settings,
    *,
    view: View,
) -> None:
    """Run the loop on the folder's run until it stops. Rounds are on disk before they are shown."""
    rule = StopRule(
        settings.rounds,
        settings.target,
        settings.patience,
        settings.min_gain,
        settings.max_images,
        settings.max_seconds,
    )
    stop, preference = rule.reason(folder.run), None
    view.begin(folder.run)
    try:
        wave = loop.refine([folder.run], generator, critic, strategy, rule, gallery=folder.gallery)
        for step in wave:
            folder.save(step.run, step.images)
            stop = step.run.stop
            view.round(folder.run, best_scored(folder.run))
        preference = _compared(folder, critic) if settings.compare else None
    except Enough as enough:
        stop = StopReason.CHOSEN
        folder.keep(enough.kept)
    except KeyboardInterrupt:
        stop = StopReason.INTERRUPTED
        raise
    except Exception:
        stop = StopReason.FAILED
        raise
    finally:
        best = best_scored(folder.run)
        folder.finish(stop, best, preference)
        view.end(folder.run, best, folder.path)


def _compared(folder: store.RunFolder, critic: Critic) -> Preference | None:
    """The critic's blind choice between the request as it is (first) and the best image (second).

    None where they are one, where nothing is scored, and where the critic's reply says neither.
    """
    run, best = folder.run, best_scored(folder.run)
    if best is None or best == loop.raw(run) or run.request.source:
        return None
    images = (folder.gallery(run, attempt.image) for attempt in (loop.raw(run), best))
    return comparison.blind(critic, run.request, *images)


def _strategy(settings: Settings, generator: Generator, view: View) -> Strategy:
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


def _request(prompt: str, settings: Settings, edited: Image | None) -> Request:
    """The request, checked. edited: the image it says how to edit."""
    for span in lost(settings.keep, prompt):
        raise UsageError(
            f"--keep {span!r} is not in the prompt", "copy the words as the prompt has them"
        )
    if edited is None:
        return Request(prompt, settings.negative, settings.keep)
    for model, does in (
        (settings.generator, "edits no images"),
        (settings.critic, "judges no edits"),
    ):
        if model.startswith(f"{profiles.EMBEDDED}:"):
            raise UsageError(
                f"{model} {does}: it knows single pictures of coloured shapes",
                "name an editing pipeline with -m and a vision-language model with --critic",
            )
    return Request(prompt, settings.negative, settings.keep, source.NAME, source.digest(edited))


def best_scored(run: Run) -> Attempt | None:
    """The best of the attempts that have a score, or the one that a person kept."""
    best = loop.best(run)
    return best if best is not None and (best.score is not None or run.kept) else None


def _outcome(folder: store.RunFolder, started: float, loading_seconds: float) -> Outcome:
    run = folder.run
    seconds = time.perf_counter() - started
    raw = loop.raw(run) if run.rounds else None
    return Outcome(run, folder.path, best_scored(run), raw, seconds, loading_seconds)
