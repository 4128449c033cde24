"""Stage 8: the trained pair as it ships: safetensors in float16, and the log of its training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessor

from gcr.pocket import world
from pocket_training import critic, denoiser, eyes, finetune
from pocket_training.session import hardware

STAGES = ("vae", "decoder", "text", "denoiser", "eyes", "critic", "finetune")


def export(work: Path, target: Path) -> None:
    """Write target/generator, target/critic and target/training.json.

    Where only the critic was trained on, the generator in `target` stays, and so does the log of
    the stages before.
    """
    log: dict[str, Any] = {"hardware": hardware(), "torch": torch.__version__, "stages": {}}
    if (work / "denoiser" / "checkpoint.pt").exists():
        generator(work, target / "generator")
    else:
        log = json.loads((target / "training.json").read_text())
    if (work / "finetune" / "checkpoint.pt").exists():
        reviewer(finetune.blended(work / "finetune"), target / "critic")
    else:
        reviewer(critic.load(work / "critic"), target / "critic")
    log["stages"] |= {
        stage: _log(path) for stage in STAGES if (path := work / stage / "log.jsonl").exists()
    }
    (target / "training.json").write_text(json.dumps(log, indent=1) + "\n")


def generator(work: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    denoiser.pipeline(work).to(dtype=torch.float16).save_pretrained(target)


def reviewer(model: LlavaForConditionalGeneration, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    tokenize = critic.tokenizer()
    model = model.to(dtype=torch.float16)
    model.generation_config.eos_token_id = tokenize.eos_token_id
    model.generation_config.pad_token_id = tokenize.pad_token_id
    model.save_pretrained(target)
    nest_tower(target)
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessor(
            size={"height": world.SIDE, "width": world.SIDE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer=tokenize,
        patch_size=eyes.PATCH,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=0,
        chat_template=critic.CHAT,
    )
    processor.save_pretrained(target)


def nest_tower(folder: Path) -> None:
    """Name the weights of a critic's vision tower as vLLM wants them, with `vision_model` before
    each name; transformers reads them with and without.
    """
    path = folder / "model.safetensors"
    save_file(nested(load_file(path)), path, metadata={"format": "pt"})


def nested(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under the names that `nest_tower` gives them."""
    tower, within = "vision_tower.", "vision_tower.vision_model."
    return {
        name.replace(within, tower).replace(tower, within): tensor
        for name, tensor in weights.items()
    }


def _log(path: Path) -> list[dict[str, float]]:
    """About twenty lines of a stage's log, the last one among them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return lines[:: max(1, len(lines) // 20)] + lines[-1:]
