"""Stage 3: the denoiser, a small PixArt transformer.

It is trained with flow matching (Lipman et al., 2023).
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
)
from torch.nn import functional as F

from gcr.pocket import world
from pocket_training import text, vae
from pocket_training.captions import say, spec_of
from pocket_training.pool import render, scenes
from pocket_training.session import Batch, Plan, Session, device

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


def pool(folder: Path, plan: Plan) -> tuple[list[world.Scene], torch.Tensor]:
    """Scenes, and their latents scaled to unit spread. They are kept on disk for a resumed run."""
    shown = scenes(f"{plan.seed} scenes", plan.pool)
    path, source = folder / f"latents-{plan.seed}-{plan.pool}.pt", folder.parent / "vae"
    stale = path.exists() and path.stat().st_mtime < (source / "checkpoint.pt").stat().st_mtime
    if stale or not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        autoencoder = vae.load(source)
        torch.save(vae.encode(autoencoder, render(shown)) / vae.spread(autoencoder), path)
    return shown, torch.load(path, weights_only=True)


def train(folder: Path, plan: Plan) -> None:
    shown, latents = pool(folder, plan)
    latents = latents.to(device())
    encoder, tokenize = text.load(folder.parent / "text"), text.tokenizer()
    torch.manual_seed(plan.seed)
    model = build().to(device())
    session = Session(folder, model, plan, muon=True)

    def batch_of(step: int) -> Batch:
        rng = random.Random(f"{plan.seed} denoiser {step}")
        picks = [rng.randrange(len(shown)) for _ in range(plan.batch)]
        captions = [
            "" if rng.random() < UNSAID else say(spec_of(shown[i], rng), rng) for i in picks
        ]
        tokens = tokenize(captions, padding="max_length", return_tensors="pt")
        return {
            "picks": torch.tensor(picks),
            "ids": tokens.input_ids,
            "mask": tokens.attention_mask,
        }

    def loss_of(told: Batch) -> tuple[torch.Tensor, Batch]:
        with torch.no_grad():
            hidden = encoder(told["ids"], attention_mask=told["mask"]).last_hidden_state
        clean = latents[told["picks"]]
        noise = torch.randn_like(clean)
        sigma = torch.sigmoid(torch.randn(plan.batch, device=clean.device) * 1.2 + 0.2)
        mixed = torch.lerp(clean, noise, sigma[:, None, None, None])
        flow = model(
            mixed,
            encoder_hidden_states=hidden,
            encoder_attention_mask=told["mask"],
            timestep=sigma * 1000,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return F.mse_loss(flow, noise - clean), {}

    session.run(batch_of, loss_of)


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
