"""Stage 1: the autoencoder, pixels to 8 × 8 latents of 8 channels and back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from gcr.pocket import world
from gcr.pocket.train.session import Session, batches, device

POOL = 12_000  # scenes
BATCH = 16
KL = 1e-4  # weight; ten times more leaves too few bits for colours and edges


def build() -> AutoencoderKL:
    """An untrained AutoencoderKL: (batch, 3, 64, 64) in -1..1 to latents (batch, 8, 8, 8)."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 48, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=world.SIDE,
        mid_block_add_attention=False,
    )


def render(scenes: list[world.Scene]) -> torch.Tensor:
    """Scenes as (batch, 3, SIDE, SIDE), uint8."""
    return torch.from_numpy(
        np.stack([np.asarray(world.draw(scene)) for scene in scenes]).transpose(0, 3, 1, 2).copy()
    )


def to_model(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as floats in -1..1."""
    return pixels.float() / 127.5 - 1


def train(folder: Path, steps: int, seed: int, rate: float) -> None:
    """Train encoder and decoder together."""
    pool = _pool(seed)
    torch.manual_seed(seed)
    vae = build().to(device(), memory_format=torch.channels_last)
    session = Session(folder, vae, steps, seed, rate=rate)

    def loss_of(_: int) -> tuple[torch.Tensor, dict[str, float]]:
        pixels = to_model(pool[torch.randint(len(pool), (BATCH,))])
        posterior = vae.encode(pixels).latent_dist
        error = _error(vae.decode(posterior.sample()).sample, pixels)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return error + KL * kl, {"error": error.item(), "kl": kl.item()}

    session.run(loss_of)


def polish(folder: Path, steps: int, seed: int, rate: float) -> None:
    """Train the decoder on, with the encoder as it is.

    It leaves the latents alone, so it can run while the denoiser learns them. Their noise is what
    a denoiser leaves behind.
    """
    pool = _pool(seed + 1)
    vae = load(folder.parent / "vae").to(memory_format=torch.channels_last)
    decoder = _decoder(vae).requires_grad_(True).train()
    session = Session(folder, decoder, steps, seed, rate=rate)

    def loss_of(_: int) -> tuple[torch.Tensor, dict[str, float]]:
        pixels = to_model(pool[torch.randint(len(pool), (BATCH,))])
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean
        noise = 0.1 * torch.rand(BATCH, 1, 1, 1, device=latents.device) * latents.std()
        error = _error(vae.decode(latents + noise * torch.randn_like(latents)).sample, pixels)
        return error, {}

    session.run(loss_of)


def _pool(seed: int) -> torch.Tensor:
    rng = random.Random(seed)
    return render([world.sample(rng) for _ in range(POOL)]).to(device())


def _error(drawn: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    # Nine pixels in ten are canvas: without the weight they are all that is learned. It reaches
    # beyond a shape's edge, or the notches of stars and crosses fill up.
    thing = (pixels - pixels[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05
    weight = 1 + 9 * F.max_pool2d(thing.float(), 7, stride=1, padding=3)
    return (weight * ((drawn - pixels).abs() + (drawn - pixels) ** 2)).mean()


def _decoder(vae: AutoencoderKL) -> nn.Module:
    return nn.ModuleList([vae.post_quant_conv, vae.decoder])


@torch.inference_mode()
def encode(vae: AutoencoderKL, scenes: list[world.Scene]) -> torch.Tensor:
    """The latent means of scenes: (scenes, 8, 8, 8), float32, unscaled."""
    means = [
        vae.encode(to_model(render(part)).to(vae.device)).latent_dist.mean.cpu()
        for part in batches(scenes, 128)
    ]
    return torch.cat(means)


def spread(vae: AutoencoderKL) -> float:
    """The standard deviation of its latents. A denoiser sees them divided by it."""
    rng = random.Random("spread")
    return encode(vae, [world.sample(rng) for _ in range(1_000)]).std().item()


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Pixels (batch, 3, 64, 64), uint8, through the autoencoder and back."""
    drawn = vae(to_model(pixels).to(vae.device)).sample
    return cast("torch.Tensor", ((drawn.cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))


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
