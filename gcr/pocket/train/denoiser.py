"""Stage 3: the denoiser, a small PixArt transformer.

It is trained with flow matching (Lipman et al., 2023).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
)
from torch.nn import functional as F

from gcr.pocket import world
from gcr.pocket.language import say
from gcr.pocket.train import text, vae
from gcr.pocket.train.captions import spec_of
from gcr.pocket.train.session import Session, device

POOL = 30_000  # scenes
BATCH = 48
UNSAID = 0.1  # share of captions dropped, for guidance


def build() -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=5,
        attention_head_dim=32,
        in_channels=8,
        out_channels=8,
        num_layers=6,
        cross_attention_dim=160,
        caption_channels=text.WIDTH,
        sample_size=8,
        patch_size=1,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )


def scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (Lu et al., 2022) on the straight path of flow matching."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
    )


def pool(folder: Path, seed: int) -> tuple[list[world.Scene], torch.Tensor]:
    """Scenes, and their latents scaled to unit spread. They are kept on disk for a resumed run."""
    rng = random.Random(f"{seed} scenes")
    scenes = [world.sample(rng) for _ in range(POOL)]
    path, source = folder / f"latents-{seed}.pt", folder.parent / "vae"
    stale = path.exists() and path.stat().st_mtime < (source / "checkpoint.pt").stat().st_mtime
    if stale or not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        autoencoder = vae.load(source)
        torch.save(vae.encode(autoencoder, scenes) / vae.spread(autoencoder), path)
    return scenes, torch.load(path, weights_only=True)


def train(folder: Path, steps: int, seed: int, rate: float) -> None:
    scenes, latents = pool(folder, seed)
    encoder, tokenize = text.load(folder.parent / "text"), text.tokenizer()
    torch.manual_seed(seed)
    model = build().to(device())
    session = Session(folder, model, steps, seed, rate=rate, muon=True)

    def loss_of(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = random.Random(f"{seed} denoiser {step}")
        picks = [rng.randrange(len(scenes)) for _ in range(BATCH)]
        captions = [
            "" if rng.random() < UNSAID else say(spec_of(scenes[i], rng), rng) for i in picks
        ]
        tokens = tokenize(captions, padding=True, return_tensors="pt").to(device())
        with torch.no_grad():
            hidden = encoder(**_named(tokens)).last_hidden_state
        clean = latents[picks].to(device())
        noise = torch.randn_like(clean)
        sigma = torch.sigmoid(torch.randn(BATCH, device=clean.device) * 1.2 + 0.2)
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        flow = model(
            mixed,
            encoder_hidden_states=hidden,
            encoder_attention_mask=tokens.attention_mask,
            timestep=sigma * 1000,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return F.mse_loss(flow, noise - clean), {}

    session.run(loss_of)


def _named(tokens: Any) -> dict[str, torch.Tensor]:
    return {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}


def pipeline(work: Path) -> PixArtAlphaPipeline:
    """The generator as it is now, from the checkpoints of its three stages."""
    autoencoder: AutoencoderKL = vae.load(work / "vae")
    autoencoder.register_to_config(scaling_factor=1 / vae.spread(autoencoder))
    model = build()
    state = torch.load(work / "denoiser" / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    return PixArtAlphaPipeline(
        tokenizer=text.tokenizer(),
        text_encoder=text.load(work / "text"),
        vae=autoencoder,
        transformer=model.eval().to(device()),
        scheduler=scheduler(),
    )
