"""Stage 4: the critic's vision tower alone, taught to tell at every patch what is drawn there.

Dense labels teach seeing with far fewer images than replies do.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from gcr.pocket import world
from gcr.pocket.train import vae
from gcr.pocket.train.session import Session, device

WIDTH = 128
PATCH = 8  # pixels
GRID = world.SIDE // PATCH
POOL = 12_000  # scenes
BATCH = 64
HEADS = {"colour": len(world.COLOURS), "shape": len(world.SHAPES), "size": len(world.SIZES)}


def config() -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=world.SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )


class Eyes(nn.Module):
    """The tower, with heads for each patch: what is there, whether its middle is, the canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = SiglipVisionModel(config())
        self.heads = nn.ModuleDict({k: nn.Linear(WIDTH, n + 1) for k, n in HEADS.items()})
        self.middle = nn.Linear(WIDTH, 2)
        self.canvas = nn.Linear(WIDTH, len(world.CANVASES))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (batch, 3, 64, 64) in -1..1 to features (batch, 64, WIDTH)."""
        seen = self.tower(pixels, output_hidden_states=True)
        return cast("torch.Tensor", seen.hidden_states[-1])


def labels(scene: world.Scene) -> torch.Tensor:
    """Per patch (GRID², 5): colour, shape and size (0: nothing), middle (0 or 1), canvas."""
    told = np.zeros((GRID, GRID, 5), dtype=np.int64)
    told[..., 4] = list(world.CANVASES).index(scene.canvas)
    centres = (np.arange(GRID) + 0.5) * PATCH
    for t in scene.things:
        near = np.hypot(centres[None] - t.x, centres[:, None] - t.y) < t.radius + 1
        row, column = (min(GRID - 1, max(0, int(v // PATCH))) for v in (t.y, t.x))
        near[row, column] = True
        kind = (list(world.COLOURS).index(t.colour), world.SHAPES.index(t.shape))
        told[near, 0], told[near, 1] = kind[0] + 1, kind[1] + 1
        told[near, 2] = list(world.SIZES).index(t.size) + 1
        told[row, column, 3] = 1
    return torch.from_numpy(told.reshape(-1, 5))


def train(folder: Path, steps: int, seed: int, rate: float) -> None:
    rng = random.Random(f"{seed} eyes")
    scenes = [world.sample(rng) for _ in range(POOL)]
    pixels = vae.render(scenes).to(device())
    told = torch.stack([labels(scene) for scene in scenes]).to(device())
    torch.manual_seed(seed)
    eyes = Eyes().to(device())
    session = Session(folder, eyes, steps, seed, rate=rate, muon=True)

    def loss_of(_: int) -> tuple[torch.Tensor, dict[str, float]]:
        picks = torch.randint(len(pixels), (BATCH,))
        seen, want = eyes(jitter(vae.to_model(pixels[picks]))), told[picks]
        thing = want[..., 0] > 0
        loss = F.cross_entropy(eyes.canvas(seen).flatten(0, 1), want[..., 4].flatten())
        loss = loss + F.cross_entropy(eyes.middle(seen).flatten(0, 1), want[..., 3].flatten())
        right = 1.0
        for i, head in enumerate(eyes.heads.values()):
            guess = head(seen)
            loss = loss + F.cross_entropy(guess[~thing], want[..., i][~thing])
            loss = loss + F.cross_entropy(guess[thing], want[..., i][thing])
            hit = (guess.argmax(-1) == want[..., i])[want[..., 3] > 0]
            right = min(right, hit.float().mean().item())
        return loss, {"worst_head": right}

    session.run(loss_of)


def jitter(pixels: torch.Tensor) -> torch.Tensor:
    """Blur, tint and grain a little, as a generator does. pixels in -1..1."""
    dice = torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    tint = 0.05 * torch.randn(len(pixels), 3, 1, 1, device=pixels.device)
    grain = 0.05 * dice * torch.randn_like(pixels)
    return (torch.lerp(pixels, soft, (2 * dice - 0.8).clamp(0, 1)) + tint + grain).clamp(-1, 1)


def load(folder: Path) -> SiglipVisionModel:
    """The trained tower of a stage folder."""
    eyes = Eyes()
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    eyes.load_state_dict(state["model"])
    return cast("SiglipVisionModel", eyes.tower)
