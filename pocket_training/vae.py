"""Stage 1: the autoencoder, 128 × 128 pixels to 8 × 8 latents of 8 channels and back."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from gcr.pocket import world
from pocket_training.pool import render, scenes
from pocket_training.session import Batch, Plan, Session, device

SPREAD = 1_000  # scenes by which the spread of latents is measured
KL = 1e-4  # weight; ten times more leaves too few bits for colours and edges


def build() -> AutoencoderKL:
    """An untrained AutoencoderKL: (batch, 3, 128, 128) in -1..1 to latents (batch, 8, 8, 8)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(16, 24, 40, 56, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=world.SIDE,
        mid_block_add_attention=False,
    )


def to_model(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as floats in -1..1."""
    return pixels.float() / 127.5 - 1


def train(folder: Path, plan: Plan) -> None:
    """Train encoder and decoder together."""
    pool = _pool(plan.seed, plan.pool)
    torch.manual_seed(plan.seed)
    vae = build().to(device(), memory_format=torch.channels_last)
    session = Session(folder, vae, plan)

    def loss_of(told: Batch) -> tuple[torch.Tensor, Batch]:
        pixels = to_model(pool[told["picks"]])
        posterior = vae.encode(pixels).latent_dist
        error = _error(vae.decode(posterior.sample()).sample, pixels)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return error + KL * kl, {"error": error, "kl": kl}

    session.run(lambda step: picks(step, plan, len(pool)), loss_of)


def polish(folder: Path, plan: Plan) -> None:
    """Train the decoder on, with the encoder as it is.

    It leaves the latents alone, so it can run while the denoiser learns them. Their noise is what
    a denoiser leaves behind.
    """
    pool = _pool(plan.seed + 1, plan.pool)
    vae = load(folder.parent / "vae").to(memory_format=torch.channels_last)
    decoder = _decoder(vae).requires_grad_(True).train()
    session = Session(folder, decoder, plan)

    def loss_of(told: Batch) -> tuple[torch.Tensor, Batch]:
        pixels = to_model(pool[told["picks"]])
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean
        noise = 0.1 * torch.rand(plan.batch, 1, 1, 1, device=latents.device) * latents.std()
        error = _error(vae.decode(latents + noise * torch.randn_like(latents)).sample, pixels)
        return error, {}

    session.run(lambda step: picks(step, plan, len(pool)), loss_of)


def picks(step: int, plan: Plan, count: int) -> Batch:
    """Which of `count` pictures a step sees."""
    dice = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    return {"picks": torch.randint(count, (plan.batch,), generator=dice)}


def _pool(seed: int, count: int) -> torch.Tensor:
    return render(scenes(f"{seed} pictures", count)).to(device())


def _error(drawn: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    # Nine pixels in ten are canvas: without the weight they are all that is learned. It reaches
    # beyond a shape's edge, or the notches of stars and crosses fill up.
    thing = (pixels - pixels[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05
    weight = 1 + 9 * F.max_pool2d(thing.float(), 13, stride=1, padding=6)
    return (weight * ((drawn - pixels).abs() + (drawn - pixels) ** 2)).mean()


def _decoder(vae: AutoencoderKL) -> nn.Module:
    return nn.ModuleList([vae.post_quant_conv, vae.decoder])


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """The latent means of pictures, uint8: (pictures, 8, 8, 8), float32, unscaled."""
    parts = (to_model(part.to(vae.device)) for part in torch.split(pixels, 128))
    return torch.cat([vae.encode(part).latent_dist.mean.cpu() for part in parts])


def spread(vae: AutoencoderKL) -> float:
    """The standard deviation of its latents. A denoiser sees them divided by it."""
    return encode(vae, render(scenes("spread", SPREAD))).std().item()


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Pictures, uint8, through the autoencoder and back."""
    drawn = (vae(to_model(part.to(vae.device))).sample for part in torch.split(pixels, 128))
    return torch.cat([((d.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu() for d in drawn])


def load(folder: Path) -> AutoencoderKL:
    """The trained autoencoder of a stage folder, with the polished decoder beside it if any."""
    vae = build()
    vae.load_state_dict(_weights(folder))
    polished = folder.parent / "decoder"
    if (polished / "checkpoint.pt").exists():  # there is none until it has trained for a while
        _decoder(vae).load_state_dict(_weights(polished))
    return cast("AutoencoderKL", vae.eval().requires_grad_(False).to(device()))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "checkpoint.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return cast("dict[str, torch.Tensor]", state["model"])
