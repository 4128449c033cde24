"""A trained pair, as it ships, as the checkpoints that training goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffusers import AutoencoderKL, PixArtTransformer2DModel
from transformers import T5EncoderModel

from gcr.pocket.train import critic, eyes, text
from gcr.pocket.train.export import BEFORE
from gcr.pocket.train.session import save

if TYPE_CHECKING:
    from torch import nn
    from transformers import SiglipVisionModel


def adopt(source: Path, work: Path) -> None:
    """Write every stage's checkpoint from the pair in `source`.

    What a stage needs only while it trains (the heads of text and eyes) does not ship, and starts
    anew. Raises FileExistsError rather than lose a stage that has been trained.
    """
    if found := next(work.glob("*/checkpoint.pt"), None):
        raise FileExistsError(f"{found}: would be lost; adopt into an empty folder")
    reader, seer = text.Reader(), eyes.Eyes()
    judge = critic.revived(source / "critic")
    reader.encoder = T5EncoderModel.from_pretrained(source / "generator" / "text_encoder")
    seer.tower = cast("SiglipVisionModel", judge.model.vision_tower)
    stages: dict[str, nn.Module] = {
        "vae": AutoencoderKL.from_pretrained(source / "generator" / "vae"),
        "text": reader,
        "denoiser": PixArtTransformer2DModel.from_pretrained(source / "generator" / "transformer"),
        "eyes": seer,
        "critic": judge,
    }
    for stage, model in stages.items():
        save(work / stage, model=model.float().state_dict(), step=0, seconds=0.0, adopted=True)
    shutil.copy(source / "training.json", work / BEFORE)
