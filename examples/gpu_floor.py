"""How close gcr comes to what its two models need alone: to be run on a GPU.

    python examples/gpu_floor.py --pair sdxl        # needs about 25 GB of disk
    python examples/gpu_floor.py --pair dit --residency swap
    python examples/gpu_floor.py --tiny             # tiny models, on any CPU

Models of full size are built from their configs with random weights: speed and memory do not depend
on what weights say. The generator is SDXL, or a transformer of Z-Image's size with a Qwen3 4B text
encoder; the critic is a Qwen3-VL 8B in NF4, and every reply has the same number of tokens.

It compares, on one device and with the same batch:

    a round    one round of gcr's loop: drawn, judged, written to disk
    the floor  the pipeline in a bare loop of diffusers + the critic in a bare loop of transformers
    a swap     of each model, with copying as many bytes from pinned memory
    memory     the peak, with the plan
    a start    of the critic that is kept in 4 bits, with the first, which quantizes it
    overlap    two runs, one drawn while the other is judged, with one after the other

So far this was run with --tiny on a CPU only, and never on a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gcr.core import loop, strategies
from gcr.core.records import Candidate, Critique, Request, Run
from gcr.core.stopping import StopRule
from gcr.critic import loading, quantized, rubric
from gcr.critic.local import LocalSpeaker
from gcr.critic.speaker import Decoding
from gcr.device import memory, residency
from gcr.device.residency import GIB
from gcr.diagnose import bench
from gcr.drawing import generator as generators
from gcr.drawing.pipelines import Sampling
from gcr.storage import runfolder

PROMPT = "two red apples to the left of a glass jug on a wooden table"
MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(limit: int) -> Any:
    """A token for each byte. limit: tokens it reads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", *MARKS])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=limit)
    fast.pad_token, fast.eos_token, fast.chat_template = "<pad>", "</s>", TEMPLATE
    return fast


def vae(channels: int, *, tiny: bool, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    widths = (8, 8) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        latent_channels=channels,
        norm_num_groups=4 if tiny else 32,
        layers_per_block=1 if tiny else 2,
        sample_size=64 if tiny else 1024,
        **settings,
    )


def sdxl(*, tiny: bool) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def clip(width: int, layers: int, heads: int) -> CLIPTextConfig:
        ids = {"pad_token_id": 256, "bos_token_id": 256, "eos_token_id": 257}
        return CLIPTextConfig(
            vocab_size=300 if tiny else 49408,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=width,
            **ids,
        )

    widths = (8, 16) if tiny else (320, 640, 1280)
    first, second = ((8, 1, 2), (16, 1, 2)) if tiny else ((768, 12, 12), (1280, 32, 20))
    cross = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
    unet = UNet2DConditionModel(
        sample_size=32 if tiny else 128,
        block_out_channels=widths,
        layers_per_block=1 if tiny else 2,
        down_block_types=("DownBlock2D", *[cross[0]] * (len(widths) - 1)),
        up_block_types=(*[cross[1]] * (len(widths) - 1), "UpBlock2D"),
        cross_attention_dim=first[0] + second[0],
        attention_head_dim=(1, 2) if tiny else (5, 10, 20),
        transformer_layers_per_block=(1, 1) if tiny else (1, 2, 10),
        use_linear_projection=True,
        norm_num_groups=4 if tiny else 32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if tiny else 256,
        projection_class_embeddings_input_dim=second[0] + 6 * (8 if tiny else 256),
    )
    return StableDiffusionXLPipeline(
        vae=vae(4, tiny=tiny),
        text_encoder=CLIPTextModel(clip(*first)),
        text_encoder_2=CLIPTextModelWithProjection(clip(*second)),
        tokenizer=byte_tokenizer(77),
        tokenizer_2=byte_tokenizer(77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
        add_watermarker=False,
    )


def dit(*, tiny: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    text = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    text |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    drawn: dict[str, Any] = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30}
    drawn |= {"n_kv_heads": 30, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}
    if tiny:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
        drawn = {"dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2}
        drawn |= {"n_kv_heads": 2, "axes_dims": [2, 2, 4], "axes_lens": [512, 64, 64]}
    channels = 4 if tiny else 16
    width = text["hidden_size"]
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(channels, tiny=tiny, scaling_factor=0.36, shift_factor=0.11),
        text_encoder=Qwen3Model(Qwen3Config(vocab_size=300 if tiny else 151936, **text)),
        tokenizer=byte_tokenizer(512),
        transformer=ZImageTransformer2DModel(in_channels=channels, cap_feat_dim=width, **drawn),
    )


def critic(folder: Path, *, tiny: bool) -> Path:
    """Saves a critic of Qwen3-VL 8B's shape, unquantized."""
    from transformers import (
        Qwen2VLImageProcessorPil,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    tokenizer = byte_tokenizer(4096)
    ids = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(list(MARKS)), strict=True))
    shape = (64, 128, 1, 2, 2, 32) if tiny else (4096, 12288, 36, 32, 8, 128)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    text = dict(zip((*names, "num_key_value_heads", "head_dim"), shape, strict=True))
    sections = [8, 4, 4] if tiny else [24, 20, 20]
    eyes = (1, 32, 64, 2, 8, 64) if tiny else (27, 1152, 4304, 16, 16, 2304)
    of_eyes = ("depth", "hidden_size", "intermediate_size", "num_heads", "patch_size")
    config = Qwen3VLConfig(
        text_config={
            **text,
            "vocab_size": 288 if tiny else 151936,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5000000.0,
                "mrope_section": sections,
                "mrope_interleaved": True,
            },
        },
        vision_config={
            **dict(zip((*of_eyes, "num_position_embeddings"), eyes, strict=True)),
            "out_hidden_size": shape[0],
            "spatial_merge_size": 2,
            "deepstack_visual_indexes": [0] if tiny else [8, 16, 24],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    patch = eyes[4]
    pixels = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (64 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, size=pixels)
    for part in (Qwen3VLForConditionalGeneration(config), tokenizer, images):
        part.save_pretrained(folder)
    return folder


def built(folder: Path, pair: str, device: str, *, tiny: bool) -> tuple[Path, Path]:
    """The folders of both checkpoints, made where they are not there yet."""
    places = folder / pair, folder / "critic"
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if tiny else torch.bfloat16)
    try:
        with torch.device(device):
            if not places[0].is_dir():
                {"sdxl": sdxl, "dit": dit}[pair](tiny=tiny).save_pretrained(places[0])
            if not places[1].is_dir():
                critic(places[1], tiny=tiny)
    finally:
        torch.set_default_dtype(dtype)
    freed(device)
    return places


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

    def reword(self, runs: Sequence[Run], *_: Any) -> list[None]:
        return [None] * len(runs)


def chat(questions: rubric.Rubric, request: Request, image: Any) -> list[dict[str, Any]]:
    return [
        {
            **message,
            "content": [
                {"type": "image", "image": image} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in questions.messages(request, None)
    ]


def seconds(act: Callable[[], object], times: int) -> float:
    """The least of several, after one that does not count."""
    took = []
    for _ in range(times + 1):
        synchronize()
        started = time.perf_counter()
        act()
        synchronize()
        took.append(time.perf_counter() - started)
    return min(took[1:])


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def freed(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def bare_generator(place: Path, device: str, given: argparse.Namespace) -> float:
    """Seconds for one image of a loop that does nothing else."""
    from diffusers import DiffusionPipeline

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipeline = DiffusionPipeline.from_pretrained(place, dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> None:
        pipeline(
            prompt=[PROMPT] * given.images,
            generator=[torch.Generator().manual_seed(i) for i in range(given.images)],
            **drawing(given),
        )

    return seconds(draw, given.times) / given.images


def drawing(given: argparse.Namespace) -> dict[str, Any]:
    sizes = {"width": given.size, "height": given.size}
    return {**sizes, "num_inference_steps": given.steps, "guidance_scale": given.guidance}


def bare_critic(place: Path, device: str, given: argparse.Namespace, image: Any) -> float:
    """Seconds for one critique of a loop that does nothing else."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    nf4 = quantized.nf4(AutoConfig.from_pretrained(place), dtype)
    model = AutoModelForImageTextToText.from_pretrained(
        place, dtype=dtype, device_map={"": device}, quantization_config=nf4
    ).eval()
    reader = loading.image_processor(place)
    chats = [chat(rubric.load("text-to-image"), Request(PROMPT), image)] * given.images
    inputs = reader.apply_chat_template(
        chats,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    ).to(device, dtype=dtype)
    limits = {"max_new_tokens": given.tokens, "min_new_tokens": given.tokens}

    @torch.inference_mode()
    def judge() -> None:
        model.generate(**inputs, **limits, do_sample=False)

    return seconds(judge, given.times) / given.images


def copy_rate(device: str) -> float | None:
    """GiB a second from pinned memory to the GPU."""
    if device == "cpu":
        return None
    block = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    return 1 / seconds(lambda: block.to(device, non_blocking=True), 3)


def starts(place: Path, device: str, given: argparse.Namespace) -> dict[str, float]:
    """Seconds to load the critic the first time, when it is quantized, and from then on."""
    cache = given.folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["GCR_CACHE"] = str(cache)
    took = []
    for _ in range(2):
        started = time.perf_counter()
        loading.load(str(place), memory.SharedDevice(device))
        synchronize()
        took.append(time.perf_counter() - started)
        freed(device)
    first, later = took
    return {"first_seconds": first, "later_seconds": later, "ratio": first / later}


def with_gcr(places: tuple[Path, Path], device: str, given: argparse.Namespace) -> dict[str, Any]:
    """What gcr takes: a round, swaps, memory, and both batch curves."""
    shared = memory.SharedDevice(device, given.residency)
    model, reader = loading.load(str(places[1]), shared)
    speaker = LocalSpeaker(model, reader, shared, batch=given.images)
    sampling = Sampling(given.size, given.size, given.steps, given.guidance, batch=given.images)
    drawer = generators.load(str(places[0]), sampling, shared)
    judge = Fixed(speaker, rubric.load("text-to-image"), given.tokens)
    a_round = seconds(lambda: one_round(drawer, judge, given), given.times)
    plan = shared.plan() if shared.limited else None
    peak = shared.peak_bytes / GIB
    at_once = overlapped(shared, drawer, judge, given)

    image = drawer.draw([Candidate(PROMPT, 0)])[0].image

    def draw(count: int) -> None:
        drawer.draw([Candidate(PROMPT, 0)] * count)

    def critique(count: int) -> None:
        judge.judge([Request(PROMPT)] * count, [image] * count)

    curves = {
        "draw": bench.measure_curve(bench.timed(draw, drawer.ladder), given.most),
        "judge": bench.measure_curve(bench.timed(critique, speaker.ladder), given.most),
    }
    found = {
        "round_seconds": a_round,
        "plan": plan and {"mode": plan.mode, "needs_gib": plan.needs / GIB, "peak_gib": peak},
        "overlap": at_once,
        "swap": bench.swaps(shared, {"generator": drawer.weights, "critic": speaker.weights}),
        "curves": {
            name: {
                "best": curve.best.batch,
                "points": [point._asdict() for point in curve.points],
                "full": curve.full or None,
            }
            for name, curve in curves.items()
        },
        "image": image,
    }
    shared.clear()
    return found


def overlapped(
    shared: memory.SharedDevice, drawer: Any, judge: Any, given: argparse.Namespace
) -> dict[str, Any]:
    """What two runs take, with both models at work at once and with one after the other."""
    rule = StopRule(rounds=3, patience=9)
    runs = [Run(name, Request(PROMPT)) for name in ("one", "other")]

    def work(*, overlap: bool) -> None:
        parts = drawer, judge, strategies.BestOfN(given.images, 0), rule
        for _ in loop.refine(runs, *parts, overlap=lambda: overlap):
            pass

    fits = shared.side_by_side() if shared.limited else True
    shared.peak_bytes = 0
    needs = residency.needs_at_once([shared.footprint(m.weights) for m in (drawer, judge.speaker)])
    in_turn = seconds(partial(work, overlap=False), given.times)
    at_once = seconds(partial(work, overlap=True), given.times)
    return {
        "fits": fits,
        "needs_gib": needs / GIB if shared.limited else None,
        "peak_gib": shared.peak_bytes / GIB if shared.limited else None,
        "in_turn_seconds": in_turn,
        "at_once_seconds": at_once,
        "ratio": at_once / in_turn,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All of it, as JSON values."""
    device = memory.default_device()
    places = built(given.folder, given.pair, device, tiny=given.tiny)
    # One after the other, so that none is in another's way.
    begun = starts(places[1], device, given)
    draw = bare_generator(places[0], device, given)
    freed(device)
    found = with_gcr(places, device, given)
    freed(device)
    judge = bare_critic(places[1], device, given, found.pop("image"))
    freed(device)
    rate = copy_rate(device)
    swaps = {
        name: {**asdict(one), "floor": one.gib / rate} if rate else asdict(one)
        for name, one in found.pop("swap").items()
    }
    floor = given.images * (draw + judge)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "pair": given.pair + (", tiny" if given.tiny else ""),
        "images": given.images,
        "round_over_floor": found["round_seconds"] / floor,
        "floor_seconds": floor,
        "floor_draw_seconds": draw,
        "floor_judge_seconds": judge,
        "copy_gib_per_second": rate,
        "critic_start": begun,
        **found,
        "swap": swaps,
    }


def one_round(drawer: Any, judge: Any, given: argparse.Namespace) -> None:
    strategy, rule = strategies.BestOfN(given.images, 0), StopRule(rounds=1)
    with tempfile.TemporaryDirectory() as place:
        folder = runfolder.RunFolder.create(Path(place), Request(PROMPT), {})
        for step in loop.refine([folder.run], drawer, judge, strategy, rule):
            folder.save(step.run, step.images)


def arguments() -> argparse.Namespace:
    told = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--pair", choices=("sdxl", "dit"), default="sdxl")
    parser.add_argument("--tiny", action="store_true", help="tiny models")
    parser.add_argument("--residency", choices=("auto", "both", "swap", "offload"), default="auto")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept between calls")
    parser.add_argument("--images", type=int, default=4, help="in each round, and at once")
    parser.add_argument("--tokens", type=int, help="of each reply (400)")
    parser.add_argument("--steps", type=int, help="of each image (30, 8 for dit)")
    parser.add_argument("--most", type=int, default=32, help="at once, for the batch curves")
    parser.add_argument("--times", type=int, default=3, help="each measurement is repeated")
    given = parser.parse_args()
    given.size = 64 if given.tiny else 1024
    given.tokens = given.tokens or (8 if given.tiny else 400)
    given.steps = given.steps or (2 if given.tiny else 30 if given.pair == "sdxl" else 8)
    given.guidance = 5.0 if given.pair == "sdxl" else 0.0
    return given


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory() as place:
        given.folder = given.folder or Path(place)
        print(json.dumps(measure(given), indent=2))


if __name__ == "__main__":
    main()
