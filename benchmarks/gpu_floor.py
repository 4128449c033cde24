"""How close gcr comes to what its two models need alone: to be run on a GPU.

    python -m benchmarks.gpu_floor                    # SDXL, planned for 6.5 minutes on an H100
    python -m benchmarks.gpu_floor --pair dit --residency swap
    python -m benchmarks.gpu_floor --tiny             # tiny models, on any CPU

Models of full size are built in memory from their configs, with random weights: speed and memory do
not depend on what weights say. The generator is SDXL, or a transformer of Z-Image's size with a
Qwen3 4B text encoder; the critic is a Qwen3-VL 8B in NF4, and every reply has the same number of
tokens. `gpu_models.py` has their shapes.

It compares, on one device and with the same batch, in this order:

    decoding   through captured graphs, with eager transformers, and with reading the weights once
    the floor  the pipeline in a bare loop of diffusers + the critic in a bare loop of transformers
               that decodes through captured graphs as well
    a round    one round as `gcr refine` plays it: drawn, judged, on disk; the peak, with the plan
    outside    what of that round is spent in neither model
    overlap    two runs, one drawn while the other is judged, with one after the other
    questions  eight about each image, which is read once for all of them, or for each
    a swap     of each model, with copying as many bytes from pinned memory
    batches    seconds for an image by the number at once, drawn and judged

Each figure goes to stderr as soon as it is there, in the end with its target, and all together to
stdout as JSON. What is not begun within --minutes is left out, and named. The script itself was so
far run with --tiny on a CPU only, where a step that is replayed is run again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import gpu_models
from gcr.core import loop, strategies
from gcr.core.records import Candidate, Critique, Request, Run, Tokens
from gcr.core.stopping import StopRule
from gcr.critic import graphs, rubric
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.local import LocalSpeaker
from gcr.critic.speaker import Decoding, with_images
from gcr.device import memory
from gcr.device.memory import GIB
from gcr.device.weights import Weights
from gcr.diagnose import bench
from gcr.drawing import generator as generators
from gcr.drawing.pipelines import Sampling
from gcr.settings.schema import Settings

PROMPT = "two red apples to the left of a glass jug on a wooden table"
STARTED = time.perf_counter()
BATCHES = (1, 4, 8)
"""Replies decoded at once."""
SHORT = 3
"""By how much replies are shorter where two rounds of two runs, or a whole curve, take long."""
TARGETS: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    *(
        (
            f"tokens a second, gcr / eager, {at} at once",
            ("decoding", f"at_{at}", "ratio"),
            "≥",
            least,
        )
        for at, least in zip(BATCHES, (6, 4, 6), strict=True)
    ),
    ("a step / reading the weights once", ("decoding", "at_1", "step_over_floor"), "≤", 5),
    ("a round / both models in bare loops", ("round_over_floor",), "≤", 1.02),
    ("seconds of it outside both models", ("round", "outside_seconds"), "≤", 0.15),
    ("two runs, overlapped / in turn", ("overlap", "ratio"), "≤", 0.85),
)
"""Figures with a target: what it is, where it stands, and at least or at most how much it should
be."""


class RunAgain:
    """Stands in for captures where there is no GPU, to rehearse this script."""

    def most_bytes(self) -> int:
        return GIB

    def forget(self) -> None: ...

    def __call__(
        self, step: Callable[[], torch.Tensor], restore: Callable[[], None]
    ) -> tuple[torch.Tensor, Callable[[], object]]:
        logits = step()
        restore()
        return logits, lambda: logits.copy_(step())


def capture_on(device: str) -> Any:
    return graphs.CudaGraphs(device) if device == "cuda" else RunAgain()


class Fixed:
    """A critic whose replies all have the same length, and mean nothing."""

    def __init__(self, speaker: LocalSpeaker, questions: rubric.Rubric, tokens: int) -> None:
        speaker.model.generation_config.eos_token_id = None
        self.speaker, self._questions, self._decoding = speaker, questions, Decoding(tokens)

    def judge(self, requests: Sequence[Request], images: Sequence[Any], *_: Any) -> list[Critique]:
        self.speaker.begin()
        chats = [chat(self._questions, r, i) for r, i in zip(requests, images, strict=True)]
        said = self.speaker.replies(chats, self._decoding)
        return [Critique(overall=0.5, raw=reply.text) for reply in said]

    def tokens(self) -> Tokens:
        return self.speaker.used

    def can_overlap(self) -> bool:
        return self.speaker.can_overlap()

    def reword(self, runs: Sequence[Run], *_: Any, **__: Any) -> list[None]:
        return [None] * len(runs)


def chat(questions: rubric.Rubric, request: Request, image: Any) -> list[dict[str, Any]]:
    return with_images(questions.messages(request, None), [image])


def seconds(act: Callable[[], object], times: int) -> float:
    """The least of several, after one that does not count; 0: of that one."""
    took = []
    for _ in range(times + 1):
        synchronize()
        started = time.perf_counter()
        act()
        synchronize()
        took.append(time.perf_counter() - started)
    return min(took[1:] or took)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def freed(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def bare_generator(pipeline: Any, given: argparse.Namespace) -> float:
    """Seconds for one image of a loop that does nothing else."""

    def draw() -> None:
        pipeline(
            prompt=[PROMPT] * given.images,
            generator=[torch.Generator().manual_seed(i) for i in range(given.images)],
            **drawing(given),
        )

    count: int = given.images
    return seconds(draw, given.times) / count


def drawing(given: argparse.Namespace) -> dict[str, Any]:
    sizes = {"width": given.size, "height": given.size}
    return {**sizes, "num_inference_steps": given.steps, "guidance_scale": given.guidance}


def bare_critic(model: Any, reader: Any, device: str, given: argparse.Namespace) -> float:
    """Seconds for one critique of a loop that does nothing else, through captured graphs."""
    inputs = reader.apply_chat_template(
        chats_of(given.images, given),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    ).to(device, dtype=model.dtype)
    limits = {"max_new_tokens": given.tokens, "min_new_tokens": given.tokens}
    captured = graphs.Graphs(model, capture_on(device))
    prompt = inputs["input_ids"].shape[1]

    @torch.inference_mode()
    def judge() -> None:
        with captured.decoding(given.images, prompt, given.tokens) as cache:
            model.generate(**inputs, **limits, past_key_values=cache, disable_compile=True)

    count: int = given.images
    return seconds(judge, given.times) / count


def chats_of(count: int, given: argparse.Namespace) -> list[Any]:
    image = Image.new("RGB", (given.size, given.size), "red")
    questions = rubric.load("text-to-image")
    return [chat(questions, Request(PROMPT), image) for _ in range(count)]  # each to be read


def decoding(model: Any, reader: Any, device: str, given: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of eager transformers and of gcr, by the number of replies at once."""
    step_floor = weights_read(model) / memory_rate(device)
    rates: dict[str, Any] = {"step_floor_seconds": step_floor}
    for batch in BATCHES:
        speaker = LocalSpeaker(model, reader, memory.SharedDevice(device), batch=batch)
        model.generation_config.eos_token_id = None
        chats = chats_of(batch, given)
        eager, _ = step_seconds(speaker, None, chats, given.eager_tokens, 1)
        graph, first = step_seconds(speaker, capture_on(device), chats, given.tokens, given.times)
        rates[f"at_{batch}"] = {
            "eager_tokens_per_second": batch / eager,
            "graph_tokens_per_second": batch / graph,
            "with_capture_tokens_per_second": batch / first,
            "ratio": eager / graph,
            "step_over_floor": graph / step_floor,
        }
        say(f"decoding_at_{batch}", rates[f"at_{batch}"])
        freed(device)
    return rates


def step_seconds(
    speaker: LocalSpeaker, capture: Any, chats: list[Any], tokens: int, times: int
) -> tuple[float, float]:
    """Seconds for a token of each reply; and the first time, with the capture."""
    speaker._graphs = graphs.Graphs(speaker.model, capture)  # noqa: SLF001 - eager on a GPU, too

    def reply(length: int) -> None:
        speaker.replies(chats, Decoding(length))

    prompts = seconds(lambda: reply(1), 1)
    took = [seconds(lambda: reply(tokens), 0) for _ in range(times + 1)]
    return (min(took[1:]) - prompts) / (tokens - 1), (took[0] - prompts) / (tokens - 1)


def weights_read(model: Any) -> int:
    """Bytes of what one step of decoding reads, beside the cache."""
    return Weights([model.model.language_model.layers, model.lm_head]).weight_bytes


def memory_rate(device: str) -> float:
    """Bytes a second that the device reads and writes."""
    block = torch.empty(GIB // (4 if device == "cuda" else 64), dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    return 2 * block.nbytes / seconds(lambda: other.copy_(block), 5)


def say(name: str, value: object) -> None:
    print(
        f"[{time.perf_counter() - STARTED:6.1f}] {name}: {json.dumps(value)}",
        file=sys.stderr,
        flush=True,
    )


def copy_rate(device: str) -> float | None:
    """GiB a second from pinned memory to the GPU."""
    if device == "cpu":
        return None
    block = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    return 1 / seconds(lambda: block.to(device, non_blocking=True), 3)


class Assembled:
    """gcr's generator and critic on one device, as the loop has them."""

    def __init__(
        self, pipeline: Any, model: Any, reader: Any, device: str, given: argparse.Namespace
    ) -> None:
        self.shared = memory.SharedDevice(device, given.residency)
        self.speaker = LocalSpeaker(
            model, reader, self.shared, batch=given.images, capture=capture_on(device)
        )
        sampling = Sampling(given.size, given.size, given.steps, given.guidance, batch=given.images)
        self.drawer = generators.DiffusersGenerator(pipeline, sampling, self.shared)
        questions = rubric.load("text-to-image")
        # Critics as far as a round needs one.
        self.judge: Any = Fixed(self.speaker, questions, given.tokens)
        self.brief: Any = Fixed(self.speaker, questions, given.tokens // SHORT)
        self.settings = Settings(generator=given.pair, critic="critic", images=given.images)
        self.given = given

    def round(self) -> dict[str, Any]:
        """A round's seconds, those of them outside both models, and the memory that it took."""
        models = self.drawer.inside, self.speaker.inside
        outside = []

        def play() -> None:
            before = time.perf_counter() - sum(model.seconds for model in models)
            bench.play_round(Request(PROMPT), self.drawer, self.judge, self.settings)
            outside.append(time.perf_counter() - sum(model.seconds for model in models) - before)

        took = seconds(play, self.given.times)
        plan = self.shared.plan() if self.shared.limited else None
        needs = plan and {"mode": plan.mode, "needs_gib": plan.needs / GIB}
        peak = {"peak_gib": self.shared.peak_bytes / GIB} if plan else {}
        return {"seconds": took, "outside_seconds": min(outside[1:]), **(needs or {}), **peak}

    def overlap(self) -> dict[str, Any]:
        """What two runs with shorter replies take, with both models at work at once and with one
        after the other.
        """
        rule = StopRule(rounds=2, patience=9)
        runs = [Run(name, Request(PROMPT)) for name in ("one", "other")]

        def work(*, overlap: bool) -> None:
            parts = self.drawer, self.brief, strategies.BestOfN(self.given.images, 0), rule
            for _ in loop.refine(runs, *parts, overlap=lambda: overlap):
                pass

        shared = self.shared
        fits = shared.side_by_side() if shared.limited else True
        shared.peak_bytes = 0
        models = [shared.footprint(model.weights) for model in (self.drawer, self.speaker)]
        in_turn = seconds(partial(work, overlap=False), 0)
        at_once = seconds(partial(work, overlap=True), 0)
        return {
            "fits": fits,
            "needs_gib": memory.needs_at_once(models) / GIB if shared.limited else None,
            "peak_gib": shared.peak_bytes / GIB if shared.limited else None,
            "in_turn_seconds": in_turn,
            "at_once_seconds": at_once,
            "ratio": at_once / in_turn,
        }

    def questions(self) -> dict[str, Any]:
        """Seconds for a question, where its image is read for all eight and where for each."""
        judge = VisionLanguageCritic(self.speaker, rubric.load("text-to-image"))
        size = self.given.size
        images = [Image.new("RGB", (size, size), colour) for colour in ("red", "blue")]
        pairs = [(image, f"Is there a {n}?") for image in images for n in "abcdefgh"]
        took = {}
        for name, order in (("shared", pairs), ("each", sorted(pairs, key=lambda pair: pair[1]))):
            ask = partial(judge.answer, *zip(*order, strict=True))
            took[f"{name}_seconds"] = seconds(ask, self.given.times) / len(pairs)
        return {**took, "ratio": took["shared_seconds"] / took["each_seconds"]}

    def swap(self) -> dict[str, Any]:
        """Seconds to move each model, beside those of a plain copy."""
        rate = copy_rate(self.shared.name)
        weights = {"generator": self.drawer.weights, "critic": self.speaker.weights}
        swaps = bench.swaps(self.shared, weights)
        return {
            "copy_gib_per_second": rate,
            **{
                name: {**asdict(swap), "floor": rate and swap.gib / rate}
                for name, swap in swaps.items()
            },
        }

    def draw_curve(self) -> dict[str, Any]:
        def draw(count: int) -> None:
            self.drawer.draw([Candidate(PROMPT, 0)] * count)

        return curve(bench.measure_curve(bench.timed(draw, self.drawer.ladder), self.given.most))

    def judge_curve(self) -> dict[str, Any]:
        image = Image.new("RGB", (self.given.size, self.given.size), "red")

        def critique(count: int) -> None:
            self.brief.judge([Request(PROMPT)] * count, [image] * count)

        work = bench.timed(critique, self.speaker.ladder)
        return curve(bench.measure_curve(work, self.given.most))


def curve(measured: bench.Curve) -> dict[str, Any]:
    return {
        "best": measured.best.batch,
        "points": [point._asdict() for point in measured.points],
        "full": measured.full or None,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All that there is time for, as JSON values."""
    device = memory.default_device()
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "pair": given.pair + (", tiny" if given.tiny else ""),
        "images": given.images,
        "left_out": [],
    }

    def keep(name: str, figure: Callable[[], Any]) -> None:
        if time.perf_counter() - STARTED > given.minutes * 60:
            figures["left_out"].append(name)
            return
        figures[name] = figure()
        say(name, figures[name])
        freed(device)

    with tempfile.TemporaryDirectory() as place:
        model, reader = gpu_models.quantized_critic(Path(place), device, tiny=given.tiny)
    say("critic", "built")
    keep("decoding", lambda: decoding(model, reader, device, given))
    pipeline = gpu_models.pipeline(given.pair, device, tiny=given.tiny)
    say("pipeline", "built")
    keep("floor_draw_seconds", lambda: bare_generator(pipeline, given))
    keep("floor_judge_seconds", lambda: bare_critic(model, reader, device, given))
    tool = Assembled(pipeline, model, reader, device, given)
    keep("round", tool.round)
    if not figures["left_out"]:
        floor = given.images * (figures["floor_draw_seconds"] + figures["floor_judge_seconds"])
        keep("floor_seconds", lambda: floor)
        keep("round_over_floor", lambda: figures["round"]["seconds"] / floor)
    keep("overlap", tool.overlap)
    keep("questions", tool.questions)
    keep("swap", tool.swap)
    keep("judge_curve", tool.judge_curve)
    keep("draw_curve", tool.draw_curve)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures that have a target, a line each."""
    lines = []
    for what, path, bound, target in TARGETS:
        value: Any = figures
        for key in path:
            value = value.get(key, {})
        if value == {}:
            lines.append(f"{what:42} {'–':>8}   {bound} {target:<5} not measured")
            continue
        is_hit = value >= target if bound == "≥" else value <= target
        lines.append(f"{what:42} {value:8.3f}   {bound} {target:<5} {'hit' if is_hit else 'miss'}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    told = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--pair", choices=("sdxl", "dit"), default="sdxl")
    parser.add_argument("--tiny", action="store_true", help="tiny models")
    parser.add_argument("--residency", choices=("auto", "both", "swap", "offload"), default="auto")
    parser.add_argument("--images", type=int, default=4, help="in each round, and at once")
    parser.add_argument("--size", type=int, help="of each image, in pixels (1024; tiny: 64)")
    parser.add_argument("--tokens", type=int, help="of each reply (400)")
    parser.add_argument("--steps", type=int, help="of each image (20, 8 for dit)")
    parser.add_argument("--most", type=int, default=16, help="at once, for the batch curves")
    parser.add_argument("--times", type=int, default=1, help="each is measured, after a first time")
    parser.add_argument("--minutes", type=float, default=5.5, help="after which no more is begun")
    given = parser.parse_args()
    given.size = given.size or (64 if given.tiny else 1024)
    given.tokens = given.tokens or (8 if given.tiny else 400)
    given.eager_tokens = min(given.tokens, 40)  # each takes as long as the others, and far longer
    given.steps = given.steps or (2 if given.tiny else 20 if given.pair == "sdxl" else 8)
    given.guidance = 5.0 if given.pair == "sdxl" else 0.0
    return given


def main() -> None:
    figures = measure(arguments())
    print(table(figures), file=sys.stderr)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
