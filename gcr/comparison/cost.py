"""What arms cost, and what they had come to for that cost.

    rounds of each run    images, critiques, tokens, seconds in the models
    cost.jsonl            beside them in an arm's folder: seconds in all, and the peak of the GPU

The curve of an arm is the evaluator's mean for the image that the critic would have picked, had
each run been stopped after so many images, or after so many seconds. It needs scores of images that
were the best one only for a while.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from gcr.core.events import PromptFinished, RoundFinished
from gcr.core.ranking import best_scored
from gcr.core.records import Tokens
from gcr.device.memory import GIB
from gcr.files import structured
from gcr.files.jsonlines import JsonLines
from gcr.files.locks import turn
from gcr.storage import runfolder

if TYPE_CHECKING:
    from pathlib import Path

    from gcr.comparison.arms import Arm, Models
    from gcr.core.events import Consumer, Event
    from gcr.core.records import Run

NAME = "cost.jsonl"
POINTS = 100
"""Seconds at which a curve is given, at most."""


# cost.jsonl


@contextmanager
def recorded(folder: Path, emit: Consumer, models: Models) -> Iterator[Consumer]:
    """Write down what it takes to draw an arm in a folder, or a part of it, however that ends;
    nothing where nothing was left to do. The time that loading the models takes is no arm's own.

    Gives the consumer that its events are to go through.
    """
    inside, worked = 0.0, False

    def count(event: Event) -> None:
        nonlocal inside, worked
        worked |= isinstance(event, RoundFinished | PromptFinished)
        if isinstance(event, RoundFinished):
            inside += event.run.rounds[-1].seconds
        emit(event)

    if models.device is not None:
        models.device.peak_bytes = 0
    started, loaded = time.perf_counter(), models.loading
    try:
        yield count
    finally:
        if worked:
            seconds = time.perf_counter() - started - (models.loading - loaded)
            line = {
                "seconds": round(seconds, 3),
                "in_models": round(inside, 3),
                "gpu_peak_bytes": models.device.peak_bytes if models.device else 0,
            }
            with turn(folder):
                _log(folder).append(json.dumps(line).encode())


def _log(folder: Path) -> JsonLines:
    return JsonLines(folder / NAME, "remove the line: its seconds are then not counted")


def _beside(folder: Path) -> tuple[float | None, int | None]:
    """What an arm took beside its rounds, over all its prompts: seconds, and the peak of the GPU in
    bytes. None: not recorded. Raises GcrError for a damaged line.
    """
    others: list[float] = []
    peaks: list[int] = []

    def take(line: bytes, _: int) -> None:
        record = structured.parse_record(line)
        others.append(max(0.0, float(record["seconds"]) - float(record["in_models"])))
        peaks.append(int(record["gpu_peak_bytes"]))

    _log(folder).read(take)
    return sum(others) if others else None, max(peaks, default=0) or None


# Figures


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm took for a prompt, on average.

    Attributes:
        critiques: that the critic wrote; images that were only scored have none.
        tokens_read: by the critic's model, images included; None: not all were counted.
        tokens_written: by it; None, too.
        drawing: seconds of the generator.
        judging: seconds of the critic, with what it took to word prompts.
        other: seconds that were spent in neither, such as those of writing files; None: unknown.
        gpu_peak_bytes: the most memory of the GPU that the two models had; None: there was none, or
            the arm has drawn nothing itself.
    """

    critiques: float
    tokens_read: float | None
    tokens_written: float | None
    drawing: float
    judging: float
    other: float | None
    gpu_peak_bytes: int | None

    COLUMNS: ClassVar = (
        *("critiques", "tokens in", "tokens out"),
        *("drawing", "judging", "other", "GPU peak"),
    )

    def in_words(self) -> dict[str, str]:
        """As it is shown, by the names of its columns: tokens, seconds, and GiB of the GPU."""
        peak = self.gpu_peak_bytes
        words = (
            f"{self.critiques:.1f}",
            _shown(self.tokens_read, ",.0f"),
            _shown(self.tokens_written, ",.0f"),
            *(_shown(seconds, ".1f", " s") for seconds in (self.drawing, self.judging, self.other)),
            _shown(peak and peak / GIB, ".1f", " GiB"),
        )
        return dict(zip(self.COLUMNS, words, strict=True))


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


class Pick(NamedTuple):
    """The image that is the best one from a time on. seconds: of the run until it is judged."""

    image: Path
    seconds: float


class Course(NamedTuple):
    """What an arm made of a prompt, image by image. picks: the best after each of its images."""

    picks: tuple[Pick, ...]
    critiques: int
    tokens: Tokens | None
    drawing: float
    judging: float


Courses = Mapping[tuple[str, str], Course]
"""By the arm's name and the prompt's id; of runs that are there and came to a good end."""


def courses(ids: Sequence[str], arms: Sequence[Arm]) -> dict[tuple[str, str], Course]:
    """The courses of all prompts in all arms. Raises GcrError for a run that cannot be read."""
    found = {}
    for arm in arms:
        for id_ in ids:
            result = arm.results.get(id_)
            if result is None or result.failure:
                continue
            folder = arm.batch.path / result.folder
            if (folder / runfolder.NAME).exists():
                found[arm.name, id_] = _course(folder, runfolder.load_run(folder))
    return found


def _course(folder: Path, run: Run) -> Course:
    picks: list[Pick] = []
    seconds, judges = 0.0, int(str(run.settings.get("judges") or 1))
    for index, round_ in enumerate(run.rounds):
        for position, attempt in enumerate(round_.attempts, 1):
            seconds += attempt.draw_seconds + attempt.judge_seconds
            so_far = (*run.rounds[:index], replace(round_, attempts=round_.attempts[:position]))
            best = best_scored(run.after(so_far))
            # Nothing is picked before anything is scored; the first image is what there is then.
            image = best.image if best else run.rounds[0].attempts[0].image
            picks.append(Pick(folder / image, seconds))
        seconds += round_.wording.seconds if round_.wording else 0.0
    if picks and (last := best_scored(run)):  # as a person or a blind comparison chose it
        picks[-1] = Pick(folder / last.image, picks[-1].seconds)
    judged = sum(bool(a.critique.raw or a.critique.aspects) for a in run.attempts)
    tokens = run.tokens
    return Course(
        tuple(picks),
        judged * judges,
        tokens if tokens is not None and not tokens.uncounted else None,
        run.draw_seconds,
        run.judge_seconds,
    )


def costs(arms: Sequence[Arm], known: Courses) -> dict[str, Cost | None]:
    """What each arm took, by its name; None for one that has no run to look at."""
    return {
        arm.name: _cost(arm, [c for (n, _), c in known.items() if n == arm.name]) for arm in arms
    }


def _cost(arm: Arm, own: Sequence[Course]) -> Cost | None:
    if not own:
        return None
    seconds, peak = _beside(arm.batch.path)
    counted = [course.tokens for course in own if course.tokens is not None]
    whole = len(counted) == len(own)
    return Cost(
        critiques=fmean(course.critiques for course in own),
        tokens_read=fmean(tokens.read for tokens in counted) if whole else None,
        tokens_written=fmean(tokens.written for tokens in counted) if whole else None,
        drawing=fmean(course.drawing for course in own),
        judging=fmean(course.judging for course in own),
        other=None if seconds is None else seconds / len(own),
        gpu_peak_bytes=peak,
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """What an arm had come to, by the evaluator, on average over prompts.

    Attributes:
        images: the mean after 1, 2, … images of each prompt; one that has fewer keeps its last.
        seconds: pairs of seconds for each prompt and the mean by then, from when all prompts have
            an image on.
    """

    images: tuple[float, ...]
    seconds: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of all arms, over the prompts that have a score in each of them.

    Attributes:
        prompts: how many these are.
        arms: by name.
        equal_seconds: after which the first arm that draws several images has no more to draw; None
            where none does.
        at_equal_seconds: the mean of each arm by then.
    """

    prompts: int
    arms: Mapping[str, Curve]
    equal_seconds: float | None
    at_equal_seconds: Mapping[str, float]


_Scored = Sequence[tuple[Sequence[float], Sequence[float]]]
"""Of each prompt: seconds after each of its images, and the score of the pick by then."""


def curves(
    names: Sequence[str], known: Courses, scores: Mapping[Path, float | None]
) -> Curves | None:
    """The curves of the arms; None where no prompt has them in all arms.

    scores: the evaluator's, of picked images. A prompt with a pick that has none is left out.
    """
    complete = {
        place: ([pick.seconds for pick in course.picks], [s for s in picked if s is not None])
        for place, course in known.items()
        if (picked := [scores.get(pick.image) for pick in course.picks]) and None not in picked
    }
    ids = [id_ for name, id_ in complete if name == names[0]]
    ids = [id_ for id_ in ids if all((name, id_) in complete for name in names)]
    if not ids:
        return None
    by_arm = {name: [complete[name, id_] for id_ in ids] for name in names}
    ends = {name: max(times[-1] for times, _ in runs) for name, runs in by_arm.items()}
    end = max(ends.values())
    searching = [name for name, runs in by_arm.items() if max(len(t) for t, _ in runs) > 1]
    equal = min((ends[name] for name in searching), default=None)
    return Curves(
        len(ids),
        {name: Curve(_by_images(runs), _by_seconds(runs, end)) for name, runs in by_arm.items()},
        equal,
        {} if equal is None else {name: _at(runs, equal) for name, runs in by_arm.items()},
    )


def _by_images(runs: _Scored) -> tuple[float, ...]:
    most = max(len(picked) for _, picked in runs)
    return tuple(
        fmean(picked[min(count, len(picked)) - 1] for _, picked in runs)
        for count in range(1, most + 1)
    )


def _by_seconds(runs: _Scored, end: float) -> tuple[tuple[float, float], ...]:
    """end: of all curves, which are given at the same seconds, beside where each begins."""
    begin = max(times[0] for times, _ in runs)
    grid = [end * i / POINTS for i in range(POINTS + 1)]
    places = [begin, *(second for second in grid if second > begin)]
    return tuple((second, _at(runs, second)) for second in places)


def _at(runs: _Scored, second: float) -> float:
    """The mean after so many seconds; of a prompt that has no image by then, that of its first."""
    return fmean(picked[max(0, bisect_right(times, second) - 1)] for times, picked in runs)
