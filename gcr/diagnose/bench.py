"""Measures what a pair of models takes on this machine: seconds, and memory.

Not how good it is: that is the matter of a comparison by an evaluator.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gcr.core import guards, strategies
from gcr.core.background import in_background
from gcr.core.events import ignore
from gcr.core.records import Candidate, Request
from gcr.core.stopping import StopRule
from gcr.device import memory
from gcr.device.memory import GIB
from gcr.engine import waves
from gcr.engine.parts import Parts
from gcr.settings import measurements
from gcr.settings.measurements import Speed
from gcr.storage import runfolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.core.records import Critic, Critique, Generator
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.critic.local import LocalSpeaker
    from gcr.device.memory import SharedDevice
    from gcr.device.out_of_memory import Ladder
    from gcr.device.threads import Stopwatch
    from gcr.device.weights import Weights
    from gcr.drawing.generator import DiffusersGenerator
    from gcr.settings.schema import Settings

REPEATS, ENOUGH = 3, 2.0
"""Work is measured so many times, or for so many seconds, and the fastest time counts: whatever
else the machine does can only make it slower."""
GAIN = 0.1
"""A larger batch must be faster by this share, else the smaller one is kept, which needs less
memory. So must drawing and judging at the same time."""
MOST_BATCH = 64


class Timed(Protocol):
    """A model that keeps its time at work and its weights: generator and local critic do."""

    inside: Stopwatch
    ladder: Ladder
    weights: Weights


@dataclass(frozen=True, slots=True)
class Swap:
    """Seconds to move a model's weights.

    Attributes:
        gib: their size.
        bring: seconds to bring them to the GPU.
        release: seconds to release them.
    """

    gib: float
    bring: float
    release: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What a pair of models takes on this machine.

    Attributes:
        device: the GPU as it calls itself, or `cpu`.
        generator: its name.
        critic: its name.
        size: of the images, (width, height) in pixels.
        draw: seconds for one image, by batch.
        judge: seconds for one image, by batch; None for a critic on a server.
        tokens: that the critic writes in a second, in all chats of a batch together.
        overlap: drawing and judging at the same time; None where both cannot work at once.
        overhead: seconds for each image of a round outside of both models: pixels, prompts, files.
        peak_gib: most memory used, of the GPU, or of the whole process where there is none.
        swap: by model; empty where there is no GPU.
    """

    device: str
    generator: str
    critic: str
    size: tuple[int, int]
    draw: Curve
    judge: Curve | None
    tokens: float | None
    overlap: Overlap | None
    overhead: float
    peak_gib: float
    swap: dict[str, Swap]

    def as_json(self) -> dict[str, object]:
        """What `gcr bench --json` prints."""
        curves = {"draw": _spelled(self.draw), "judge": self.judge and _spelled(self.judge)}
        return {**asdict(self), **curves}


def measure(
    prompt: str,
    drawer: DiffusersGenerator,
    critic: VisionLanguageCritic,
    settings: Settings,
    most: int = MOST_BATCH,
) -> Bench:
    """Draw and judge one prompt in larger and larger batches. most: at once."""
    request = Request(prompt, settings.negative)
    speaker = _local(critic)
    drawn, images = _drawing(request, drawer, settings, most)

    def judge(count: int) -> list[Critique]:
        judged = [request] * count, list(islice(cycle(images), count))
        critiques = critic.judge(*judged)
        return guards.check_critiques(critic, *judged, [None] * count, critiques, drawer.excess)

    judge(1)  # the first time is slower
    judged, tokens = _judging(judge, drawer.device, speaker, most) if speaker else (None, None)
    models: dict[str, Timed] = {"generator": drawer, **({"critic": speaker} if speaker else {})}
    candidates = _seeds(request, settings, len(images))
    both = (lambda: drawer.draw(candidates)), (lambda: judge(len(images)))
    overlap = measure_overlap(*both) if critic.can_overlap() else None
    return Bench(
        device=memory.device_name(),
        generator=settings.generator,
        critic=settings.critic,
        size=images[0].size,
        draw=drawn,
        judge=judged,
        tokens=tokens,
        overlap=overlap,
        overhead=_overhead(request, drawer, critic, settings, list(models.values())),
        peak_gib=_peak(drawer.device) / GIB,
        swap=swaps(drawer.device, {name: model.weights for name, model in models.items()}),
    )


def _drawing(
    request: Request, drawer: DiffusersGenerator, settings: Settings, most: int
) -> tuple[Curve, list[Image]]:
    """The generator's curve, and the images of a batch at its best."""

    def draw(count: int) -> list[Image]:
        return [drawing.image for drawing in drawer.draw(_seeds(request, settings, count))]

    draw(1)  # the first time is slower
    curve = measure_curve(timed(draw, drawer.ladder), most)
    drawer.ladder.size = curve.best.batch
    drawer.device.measure_anew(drawer.weights)  # larger batches needed more memory
    return curve, draw(curve.best.batch)


def _judging(
    judge: Callable[[int], object], device: SharedDevice, speaker: LocalSpeaker, most: int
) -> tuple[Curve, float]:
    """The critic's curve, and the tokens it writes in a second at its best."""
    curve = measure_curve(timed(judge, speaker.ladder), most)
    speaker.ladder.size = curve.best.batch
    device.measure_anew(speaker.weights)
    before = speaker.used.written, speaker.inside.seconds
    judge(curve.best.batch)
    return curve, (speaker.used.written - before[0]) / (speaker.inside.seconds - before[1])


def speeds(
    bench: Bench, drawer: DiffusersGenerator, critic: VisionLanguageCritic, settings: Settings
) -> dict[str, Speed]:
    """What later runs should know, by the keys of `measurements.device_key`."""
    size = (settings.width, settings.height)
    speaker = _local(critic)
    parts: list[tuple[measurements.Phase, str, Curve, Timed]] = [
        ("draw", settings.generator_measured, bench.draw, drawer)
    ]
    if bench.judge is not None and speaker is not None:
        parts.append(("judge", settings.critic_timed, bench.judge, speaker))
    device = drawer.device
    return {
        measurements.device_key(phase, name, bench.device, size): Speed(
            batch=curve.best.batch,
            seconds=round(curve.best.seconds, 6),
            weights=model.weights.weight_bytes,
            part=model.weights.part_bytes,
            working=device.footprint(model.weights).working if device.limited else None,
        )
        for phase, name, curve, model in parts
    }


def _local(critic: VisionLanguageCritic) -> LocalSpeaker | None:
    """The critic's model, if it is on this machine."""
    from gcr.critic.local import LocalSpeaker

    return critic.speaker if isinstance(critic.speaker, LocalSpeaker) else None


def _seeds(request: Request, settings: Settings, count: int) -> list[Candidate]:
    return [Candidate(request.prompt, settings.seed + i, request.negative) for i in range(count)]


def timed(work: Callable[[int], object], ladder: Ladder) -> Callable[[int], float | None]:
    """Measure the seconds of a batch; None where the ladder had to make it smaller."""

    def take(count: int) -> float | None:
        ladder.size = count
        seconds: list[float] = []
        while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
            started = time.perf_counter()
            work(count)
            seconds.append(time.perf_counter() - started)
            if ladder.size != count:
                return None
        return min(seconds)

    return take


def _overhead(
    request: Request,
    drawer: DiffusersGenerator,
    critic: VisionLanguageCritic,
    settings: Settings,
    models: Sequence[Timed],
) -> float:
    """Seconds for each image of a round that is drawn, judged and saved, outside of the models."""
    inside = sum(model.inside.seconds for model in models)
    seconds = play_round(request, drawer, critic, settings)
    inside = sum(model.inside.seconds for model in models) - inside
    return max(0.0, seconds - inside) / settings.images


def play_round(request: Request, drawer: Generator, critic: Critic, settings: Settings) -> float:
    """Seconds of one round as `gcr refine` plays it, into a folder that is then removed."""
    settings = replace(settings, compare=False, select="score", history=False, overlap=False)
    strategy, rule = strategies.BestOfN(settings.images, settings.seed), StopRule(rounds=1)
    parts = Parts(settings, drawer, critic, strategy, rule, {})
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        folder = runfolder.RunFolder.create(Path(place), request, settings.decisive())
        waves.work(waves.SingleRun(folder), parts, ignore)
        return time.perf_counter() - started


def swaps(device: SharedDevice, weights: dict[str, Weights]) -> dict[str, Swap]:
    """The time to swap each model, by its name; empty where there is no GPU."""
    if not device.limited:
        return {}
    import torch

    def seconds(act: Callable[[], None]) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        act()
        torch.cuda.synchronize()
        return time.perf_counter() - started

    device.clear()
    times = {}
    for name, model in weights.items():
        model.release()  # makes the copies in the machine's memory, once
        bring = seconds(lambda model=model: model.bring(device.name))  # type: ignore[misc]
        times[name] = Swap(model.weight_bytes / GIB, bring, seconds(model.release))
    return times


def _peak(device: SharedDevice) -> int:
    """Bytes at most: of the GPU, or of this process."""
    if device.limited:
        return device.peak_bytes
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _spelled(curve: Curve) -> dict[str, object]:
    return {
        "best": curve.best.batch,
        "seconds": curve.best.seconds,
        "points": [point._asdict() for point in curve.points],
        "full": curve.full or None,
    }


# How many at once are fastest


class Point(NamedTuple):
    """The time that a batch takes.

    Attributes:
        batch: items in it.
        seconds: for each item.
    """

    batch: int
    seconds: float


class Curve(NamedTuple):
    """The time by batch size.

    Attributes:
        points: in the order in which they were measured.
        full: the batch that memory had no room for; 0: there was none.
    """

    points: tuple[Point, ...]
    full: int = 0

    @property
    def best(self) -> Point:
        """The largest batch that was faster by GAIN than the best smaller one."""
        best = self.points[0]
        for point in self.points[1:]:
            if point.seconds <= best.seconds / (1 + GAIN):
                best = point
        return best


def measure_curve(work: Callable[[int], float | None], most: int = MOST_BATCH) -> Curve:
    """Try batches of 1, 2, 4, 8, … until the gain is too small or memory runs out.

    Arguments:
        work: does a batch of this size, and returns the seconds it took; None: memory ran out.
        most: the largest batch.
    """
    points: list[Point] = []
    size = 1
    while size <= most:
        seconds = work(size)
        if seconds is None:
            return Curve(tuple(points), full=size)
        points.append(Point(size, seconds / size))
        if Curve(tuple(points)).best.batch != size:
            break
        size *= 2
    return Curve(tuple(points))


# Whether it pays to draw and judge at the same time


@dataclass(frozen=True, slots=True)
class Overlap:
    """Drawing and judging at the same time.

    Attributes:
        ratio: seconds for both at the same time, divided by those for one after the other.
        same: whether the results were the same.
    """

    ratio: float
    same: bool

    @property
    def pays(self) -> bool:
        """Whether it is faster by GAIN, and changes nothing."""
        return self.same and self.ratio <= 1 / (1 + GAIN)


def measure_overlap(
    draw: Callable[[], object],
    judge: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> Overlap:
    """Draw and judge at the same time, and one after the other. clock: returns seconds."""

    def at_once() -> tuple[object, object]:
        judging = in_background(judge)
        return draw(), judging()

    in_turn, expected = _fastest(lambda: (draw(), judge()), clock)
    together, results = _fastest(at_once, clock)
    # Some models never give the same result twice: then overlapping is not to blame.
    is_steady = all(result == expected[0] for result in expected)
    same = not is_steady or all(result == expected[0] for result in results)
    return Overlap(together / in_turn, same)


def _fastest(work: Callable[[], object], clock: Callable[[], float]) -> tuple[float, list[object]]:
    """The least seconds that work takes, and the result of each time."""
    seconds: list[float] = []
    results: list[object] = []
    while len(seconds) < REPEATS:
        started = clock()
        results.append(work())
        seconds.append(clock() - started)
    return min(seconds), results
