"""Stage 4: the critic's vision tower alone, taught to tell at every patch what is drawn there.

Dense labels teach seeing with far fewer images than replies do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from gcr.pocket import world
from pocket_training import vae
from pocket_training.pool import CHUNK, render, scenes, spread_out
from pocket_training.session import Batch, Plan, Session, device

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 144
PATCH = 16  # pixels
GRID = world.SIDE // PATCH
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
        """Pixels (batch, 3, SIDE, SIDE) in -1..1 to features (batch, GRID², WIDTH)."""
        seen = self.tower(pixels, output_hidden_states=True)
        return cast("torch.Tensor", seen.hidden_states[-1])


def labels(scenes: list[world.Scene]) -> torch.Tensor:
    """Per scene and patch (scenes, GRID², 5): colour, shape and size (0: nothing), middle (0 or
    1), canvas.
    """
    chunks = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    none = torch.zeros(0, GRID**2, 5, dtype=torch.int64)
    return torch.cat([none, *map(torch.from_numpy, spread_out(_labels, chunks))])


def _labels(scenes: list[world.Scene]) -> NDArray[np.int64]:
    return np.stack([_patches(scene) for scene in scenes])


def _patches(scene: world.Scene) -> NDArray[np.int64]:
    told = np.zeros((GRID, GRID, 5), dtype=np.int64)
    told[..., 4] = list(world.CANVASES).index(scene.canvas)
    centres = (np.arange(GRID) + 0.5) * PATCH
    for t in scene.things:
        near = np.hypot(centres[None] - t.x, centres[:, None] - t.y) < t.radius + 2
        row, column = (min(GRID - 1, max(0, int(v // PATCH))) for v in (t.y, t.x))
        near[row, column] = True
        kind = (list(world.COLOURS).index(t.colour), world.SHAPES.index(t.shape))
        told[near, 0], told[near, 1] = kind[0] + 1, kind[1] + 1
        told[near, 2] = list(world.SIZES).index(t.size) + 1
        told[row, column, 3] = 1
    return told.reshape(-1, 5)


def train(folder: Path, plan: Plan) -> None:
    shown = scenes(f"{plan.seed} eyes", plan.pool)
    pixels = render(shown).to(device())
    told = labels(shown).to(device())
    torch.manual_seed(plan.seed)
    eyes = Eyes().to(device())
    session = Session(folder, eyes, plan, muon=True)

    def loss_of(batch: Batch) -> tuple[torch.Tensor, Batch]:
        picks = batch["picks"]
        return loss(eyes, eyes(jitter(vae.to_model(pixels[picks]))), told[picks])

    session.run(lambda step: vae.picks(step, plan, len(shown)), loss_of)


def loss(eyes: Eyes, seen: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, Batch]:
    """How far features (batch, patches, WIDTH) are from telling their labels, and by how many of
    the things' middles the worst head is right.
    """
    thing, middle = told[..., 0] > 0, told[..., 3] > 0
    total = F.cross_entropy(eyes.canvas(seen).flatten(0, 1), told[..., 4].flatten())
    total = total + F.cross_entropy(eyes.middle(seen).flatten(0, 1), told[..., 3].flatten())
    right = torch.ones((), device=seen.device)
    for i, head in enumerate(eyes.heads.values()):
        guess, want = head(seen), told[..., i]
        # Patches with a thing and patches without weigh the same, however few there are.
        errors = F.cross_entropy(guess.flatten(0, 1), want.flatten(), reduction="none")
        for part in (thing, ~thing):
            weight = part.flatten().float()
            total = total + (errors * weight).sum() / weight.sum().clamp(min=1)
        hit = ((guess.argmax(-1) == want) & middle).sum() / middle.sum().clamp(min=1)
        right = torch.minimum(right, hit)
    return total, {"worst_head": right}


def jitter(pixels: torch.Tensor) -> torch.Tensor:
    """Blur, tint and grain a little, as a generator does. pixels in -1..1."""
    dice = torch.rand(len(pixels), 1, 1, 1, device=pixels.device)
    soft = F.avg_pool2d(F.pad(pixels, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    tint = 0.05 * torch.randn(len(pixels), 3, 1, 1, device=pixels.device)
    grain = 0.05 * dice * torch.randn_like(pixels)
    return (torch.lerp(pixels, soft, (2 * dice - 0.8).clamp(0, 1)) + tint + grain).clamp(-1, 1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights of a stage folder."""
    state = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    return cast("dict[str, torch.Tensor]", state["model"])
