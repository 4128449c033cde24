"""The commands as Python functions: what `import gcr` offers, and what the command line calls.

Everything that can be wrong with prompts and settings is said before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.comparison import arms as kinds
from gcr.comparison import comparing
from gcr.core.events import ignore
from gcr.engine import batching, judging, single
from gcr.engine import plan as plans
from gcr.engine.machine import ThisMachine
from gcr.engine.waves import never
from gcr.errors import UsageError
from gcr.results import benchmarks
from gcr.results.report import refresh, with_page
from gcr.settings.resolving import resolve
from gcr.storage import ratings

if TYPE_CHECKING:
    from typing import Unpack

    from PIL.Image import Image

    from gcr.comparison.measuring import Comparison
    from gcr.core.events import Consumer
    from gcr.engine.judging import Ranking
    from gcr.engine.outcome import BatchOutcome, Outcome
    from gcr.engine.parts import Warm
    from gcr.settings.schema import (
        ComparisonOptions,
        CritiqueOptions,
        ResumeOptions,
        RunOptions,
    )
    from gcr.storage.ratings import Rating


def refine(
    prompt: str,
    *,
    image: Path | str | Image | None = None,
    resume: Path | str | None = None,
    warm: Warm | None = None,
    on_event: Consumer = ignore,
    **flags: Unpack[RunOptions],
) -> Outcome:
    """Refine one prompt; the Python form of `gcr refine`. Several threads may call it.

    image: what the prompt says how to edit, as a path or as an image of Pillow.
    resume: the folder of a run to go on with, under the settings it was begun with.
    warm: models that stay loaded from one call to the next; its calls go one after another.
    on_event: called with each event of `gcr.core.events` as it happens.
    flags: settings by the names of their options, such as `images=4`, and `trust_endpoint`.
    Raises GcrError (Unreported has an outcome); on Ctrl-C Interrupted, a KeyboardInterrupt.
    """
    settings = resolve(flags, ThisMachine(), edit=image is not None).settings
    return with_page(
        lambda emit: single.run(prompt, settings, image=image, resume=resume, emit=emit, warm=warm),
        on_event,
    )


def resume(  # noqa: PLR0913 - each for itself
    run: Path | str,
    *,
    rounds: int | None = None,
    max_images: int | None = None,
    max_seconds: float | None = None,
    from_attempt: str = "",
    warm: Warm | None = None,
    on_event: Consumer = ignore,
    **flags: Unpack[ResumeOptions],
) -> Outcome:
    """Go on with a single run; the Python form of `gcr resume`.

    run: its folder.
    rounds, max_images, max_seconds: so many more than it has used; nothing: what is left of it.
    from_attempt: the image to go on from instead of the best, such as `01-0`.
    warm: as in `refine`.
    on_event: called with each event of `gcr.core.events` as it happens.
    flags: residency, overlap, trust_endpoint.
    Raises as `refine` does.
    """
    more = single.More(rounds, max_images, max_seconds)
    return with_page(
        lambda emit: single.resume(
            run, more=more, from_attempt=from_attempt, emit=emit, warm=warm, **flags
        ),
        on_event,
    )


def critique(
    images: Path | str | Image | Sequence[Path | str | Image],
    prompt: str,
    *,
    warm: Warm | None = None,
    on_event: Consumer = ignore,
    **flags: Unpack[CritiqueOptions],
) -> Ranking:
    """Judge pictures against a prompt and rank them; the Python form of `gcr critique`.

    images: paths of files or images of Pillow; one or several.
    warm: as in `refine`.
    on_event: called with each event of `gcr.core.events` as it happens.
    flags: profile, critic, rubric, score, judges, quantize_critic, negative, trust_endpoint.
    Raises GcrError; an image that could not be scored is no error: see `Ranking.unscored`.
    """
    return judging.critique(
        images, prompt, resolve(flags, ThisMachine()).settings, emit=on_event, warm=warm
    )


def rate(run: Path | str, image: str, value: int | str | None) -> Rating:
    """Rate an image of a run; the Python form of `gcr rate`. The run's page is written anew.

    run: its folder. image: its file's name in there, or its path. value: 1 to 5, `keep` or
    `discard`; None takes an earlier rating back. Raises GcrError.
    """
    folder = Path(run)
    rating = ratings.rate(folder, image, ratings.value_of(str(value)))
    refresh(folder)
    return rating


def batch(  # noqa: PLR0913 - each for itself
    prompts: Path | str | Sequence[Path | str],
    *,
    into: Path | str | None = None,
    wildcards: Path | str | None = None,
    literal: bool = False,
    column: str | None = None,
    skip_bad: bool = False,
    wave: int | None = None,
    shard: str = "1/1",
    max_failures: int | None = None,
    ray: str | None = None,
    workers: int | None = None,
    on_event: Consumer = ignore,
    **flags: Unpack[RunOptions],
) -> BatchOutcome:
    """Refine many prompts; the Python form of `gcr batch`.

    prompts: Paths of prompt files, or the prompts themselves as texts.
    into: the batch's folder; one that holds this batch already is gone on with. None: a new one.
    wildcards: the folder of wildcard files.
    literal: leave texts as they are.
    column: the one that holds the prompts; None: one that has a usual name.
    skip_bad: leave out rows that cannot be read.
    wave: runs that advance together; None: as `gcr batch` without --wave.
    shard: `2/3`, part 2 of 3.
    max_failures: stop after so many.
    ray: do the work on Ray: `local` starts a cluster on this machine, `auto` joins the one that
        runs on it, HOST:PORT one elsewhere.
    workers: how many on it, each with its own models; None: one for each GPU, or for every two CPUs
        where there is none.
    on_event: called with each event of `gcr.core.events` as it happens.
    flags: settings by the names of their options, such as `images=4`.

    Prompts that fail raise nothing: see `BatchOutcome.failures`. Raises GcrError for what concerns
    all (BatchStopped has an outcome); on Ctrl-C BatchInterrupted, which is a KeyboardInterrupt.
    """
    pace = batching.paced(wave, shard, max_failures, ray, workers)
    reading = plans.Reading(column, wildcards, literal, skip_bad)
    plan = plans.make(prompts, resolve(flags, ThisMachine()).settings, reading)
    return batching.run(plan, None if into is None else Path(into), pace, emit=on_event)


def compare(  # noqa: PLR0913 - each for itself
    prompts: Path | str | Sequence[Path | str],
    *,
    evaluator: str | Sequence[str] | None = None,
    arms: Sequence[str] = kinds.USUAL,
    equal: str = "images",
    by: str = "",
    force: bool = False,
    benchmark: str = "",
    scores: Sequence[Path | str] = (),
    into: Path | str | None = None,
    wildcards: Path | str | None = None,
    literal: bool = False,
    column: str | None = None,
    skip_bad: bool = False,
    wave: int | None = None,
    on_event: Consumer = ignore,
    **flags: Unpack[ComparisonOptions],
) -> Comparison:
    """Compare what several strategies make of the same prompts; the Python form of `gcr compare`.

    prompts: as in `batch`; or Paths of folders that gcr batch and gcr compare made, which are
        compared as they are.
    evaluator: such as `truth`, `ocr`, `vqascore:MODEL` or `command:LINE`; or several, of which the
        first decides.
    arms: `raw` and names of strategies.
    equal: `images` (of `max_images`, by default 8) or `seconds` (of `max_seconds`).
    by: the column of categories.
    force: let the critic that steered be the evaluator.
    benchmark: for whose scorer the arms are laid out, such as `geneval`.
    scores: files that this scorer wrote, each as `ARM=FILE`; prompts is the comparison's folder.
    into: the comparison's folder. The others: as in `batch`.

    Prompts that fail raise nothing: see `failed` of each arm. Raises GcrError; on Ctrl-C
    CompareInterrupted, which is a KeyboardInterrupt.
    """
    comparison = compared(
        prompts,
        flags,
        plans.Reading(column, wildcards, literal, skip_bad),
        evaluator=evaluator,
        arms=None if tuple(arms) == kinds.USUAL else arms,
        equal=equal,
        by=by,
        force=force,
        benchmark=benchmark,
        scores=[str(file) for file in scores],
        into=None if into is None else Path(into),
        wave=wave,
        emit=on_event,
    )
    if not scores:
        benchmarks.laid_out(comparison)
    return comparison


def compared(  # noqa: PLR0913 - each for itself
    prompts: Path | str | Sequence[Path | str],
    flags: Mapping[str, object],
    reading: plans.Reading,
    *,
    evaluator: str | Sequence[str] | None,
    arms: Sequence[str] | None,
    equal: str,
    by: str,
    force: bool,
    benchmark: str,
    scores: Sequence[str],
    into: Path | None,
    wave: int | None,
    emit: Consumer,
    stop: Callable[[], bool] = never,
) -> Comparison:
    """What `compare` and `gcr compare` have in common. stop: as `waves.work` has it."""
    paths = [item for item in _listed(prompts) if isinstance(item, Path)]
    drawing = {
        "arm": arms,
        "equal": None if equal == "images" else equal,
        "benchmark": benchmark or None,
        "column": reading.column,
        "wildcards": reading.wildcards,
        "literal": reading.literal or None,
        "skip_bad": reading.skip_bad or None,
        "wave": wave,
        **flags,
    }
    if scores:
        drawing |= {"by": by or None, "force": force or None, "into": into}
        _check_unused(drawing, "leave it out, or leave out --scores")
        return benchmarks.take(paths, scores, evaluator=evaluator, emit=emit)
    if paths and comparing.are_drawn(paths):
        output = drawing.pop("output", None)
        _check_unused(drawing, "give prompt files to draw with other settings")
        return comparing.drawn(
            paths, into, output=output, evaluator=evaluator, by=by, force=force, emit=emit
        )
    plan = plans.make(prompts, comparing.shared(flags, equal), reading)
    if benchmark:
        benchmarks.check(benchmark, plan.jobs)
    contest = comparing.prepare(
        plan,
        evaluator=evaluator,
        arms=arms or kinds.USUAL,
        equal=equal,
        by=by,
        force=force,
        benchmark=benchmark,
    )
    return comparing.run(contest, into, wave, emit=emit, stop=stop)


def _check_unused(options: Mapping[str, object], hint: str) -> None:
    """Raise UsageError for an option that is given, of those that have a use only in drawing."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name.replace('_', '-')}: nothing is drawn here", hint)


def _listed(prompts: Path | str | Sequence[Path | str]) -> list[Path | str]:
    return [prompts] if isinstance(prompts, Path | str) else list(prompts)
