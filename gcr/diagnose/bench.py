"""Measures what a pair of models takes on this machine: seconds, and memory.

Not how good it is: that is the matter of a comparison by an evaluator.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gcr.core import guards, loop, strategies
from gcr.core.records import Candidate, Request
from gcr.core.stopping import StopRule
from gcr.device import card
from gcr.device.residency import GIB
from gcr.diagnose import tuning
from gcr.diagnose.overlap import tried
from gcr.diagnose.tuning import Curve
from gcr.settings import measurements
from gcr.settings.measurements import Speed
from gcr.storage import runfolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.core.records import Critique
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.critic.local import LocalSpeaker
    from gcr.device.memory import SharedDevice
    from gcr.device.out_of_memory import Ladder
    from gcr.device.stopwatch import Stopwatch
    from gcr.device.weights import Weights
    from gcr.diagnose.overlap import Overlap
    from gcr.drawing.generator import DiffusersGenerator
    from gcr.settings.schema import Settings

REPEATS, ENOUGH = 3, 2.0
"""What is quickly done is measured so many times, or for so many seconds, and the fastest counts:
whatever else the machine does can only make it slower."""


class Timed(Protocol):
    """A model that knows how long it worked, and what it weighs: generator and critic do."""

    inside: Stopwatch
    ladder: Ladder
    weights: Weights


@dataclass(frozen=True, slots=True)
class Swap:
    """Seconds to bring a model's weights to the GPU, and to release them."""

    gib: float
    bring: float
    release: float


@dataclass(frozen=True, slots=True)
class Bench:
    """device: the GPU as it calls itself, or `cpu`. size: of the images, width and height.

    draw, judge: seconds for one image, by batch; judge: None of a critic on another machine.
    tokens: that the critic wrote in a second, all chats of a batch together.
    overlap: None where both models cannot work at once.
    overhead: seconds for each image of a round, outside of both models: pixels, prompts, files.
    peak_gib: memory at most: of the GPU, or of the whole process where there is none.
    swap: of each model; empty where there is no GPU to swap on.
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
        curves = {"draw": _spelled(self.draw), "judge": self.judge and _spelled(self.judge)}
        return {**asdict(self), **curves}


def measure(
    prompt: str,
    drawer: DiffusersGenerator,
    critic: VisionLanguageCritic,
    settings: Settings,
    most: int = tuning.MOST,
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
    asked = _seeds(request, settings, len(images))
    both = (lambda: drawer.draw(asked)), (lambda: judge(len(images)))
    overlap = tried(*both) if critic.can_overlap() else None
    return Bench(
        device=card.device_name(),
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
    found = tuning.curve(timed(draw, drawer.ladder), most)
    drawer.ladder.size = found.best.batch
    drawer.device.measure_anew(drawer.weights)  # larger batches took more
    return found, draw(found.best.batch)


def _judging(
    judge: Callable[[int], object], device: SharedDevice, speaker: LocalSpeaker, most: int
) -> tuple[Curve, float]:
    """The critic's curve, and the tokens it writes in a second at its best."""
    found = tuning.curve(timed(judge, speaker.ladder), most)
    speaker.ladder.size = found.best.batch
    device.measure_anew(speaker.weights)
    before = speaker.written, speaker.inside.seconds
    judge(found.best.batch)
    return found, (speaker.written - before[0]) / (speaker.inside.seconds - before[1])


def notes(
    found: Bench, drawer: DiffusersGenerator, critic: VisionLanguageCritic, settings: Settings
) -> dict[str, Speed]:
    """What later runs should know of it, by the keys of `measurements.device_key`."""
    size = (settings.width, settings.height)
    speaker = _local(critic)
    parts: list[tuple[measurements.Phase, str, Curve, Timed]] = [
        ("draw", settings.generator, found.draw, drawer)
    ]
    if found.judge is not None and speaker is not None:
        parts.append(("judge", settings.critic, found.judge, speaker))
    device = drawer.device
    return {
        measurements.device_key(phase, name, found.device, size): Speed(
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
    """The least seconds that so many at once take; None where the ladder had to take fewer."""

    def take(count: int) -> float | None:
        ladder.size = count
        took: list[float] = []
        while len(took) < REPEATS and sum(took) < ENOUGH:
            started = time.perf_counter()
            work(count)
            took.append(time.perf_counter() - started)
            if ladder.size != count:
                return None
        return min(took)

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
    strategy = strategies.BestOfN(settings.images, settings.seed)
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        folder = runfolder.RunFolder.create(Path(place), request, settings.recorded())
        for step in loop.refine([folder.run], drawer, critic, strategy, StopRule(rounds=1)):
            folder.save(step.run, step.images)
        seconds = time.perf_counter() - started
    inside = sum(model.inside.seconds for model in models) - inside
    return max(0.0, seconds - inside) / settings.images


def swaps(device: SharedDevice, weights: dict[str, Weights]) -> dict[str, Swap]:
    """What it takes to swap each model by its name; nothing where there is no GPU."""
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
    found = {}
    for name, model in weights.items():
        model.release()  # makes the copies in the machine's memory, once
        bring = seconds(lambda model=model: model.bring(device.name))  # type: ignore[misc]
        found[name] = Swap(model.weight_bytes / GIB, bring, seconds(model.release))
    return found


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
