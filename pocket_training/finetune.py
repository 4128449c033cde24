"""Stage 7: the critic again, on what it misses: things that nobody asked for, and sizes.

Half of the renders are pairs, a scene and the same with a thing too many, and the generator's
pictures are mostly of short requests, in which it draws too much. The lessons are otherwise those
of the critic, so that nothing is forgotten, and gradients are taken where 4 bits put the weights
from the first step on.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from diffusers import DiffusionPipeline, PixArtAlphaPipeline
from transformers import LlavaForConditionalGeneration

from gcr import pocket
from gcr.settings.profiles import Profile
from pocket_training import critic, denoiser, drawings, eyes
from pocket_training.critic import Reader
from pocket_training.drawings import AS_IT_IS, KINDS
from pocket_training.replies import REWRITES, Rewrite
from pocket_training.session import Plan, device

BEST = Rewrite(canvas=True)
"""How to rewrite where no drawings say it: right for 595 of 600 requests (docs/pocket.md)."""
WAYS = (AS_IT_IS, AS_IT_IS, AS_IT_IS, REWRITES.index(BEST))
ROUND = 120  # requests that are drawn before what was drawn is kept
SIZED = 0.45  # share of the requests drawn that give every thing's size
AFTER = 0.75  # share of the weights after in what ships; the rest is of those before
LESSONS = {
    "verdict": 0.5,
    "critique": 0.26,
    "question": 0.06,
    "checklist": 0.09,
    "comparison": 0.09,
}
"""Shares of the steps. A verdict is a critique as far as its first score."""


def train(folder: Path, plan: Plan, profile: Profile, requests: int, at_once: int) -> None:
    """Train the critic in `folder`, or the shipped pair's where none was trained there, on.

    profile, requests, at_once: as `drawings.draw` has them.
    """
    work = folder / "finetune"
    pipeline = generator(folder)
    while len(drawings.told(work)) < requests * len(WAYS):
        drawings.draw(work, pipeline, ROUND, plan.seed, profile, at_once, WAYS, SIZED)
    trained = drawings.told(folder / "drawings")
    ways = drawings.hindsight(folder / "drawings") if trained else dict.fromkeys(KINDS, BEST)
    album = drawings.rendered(plan, pipeline.vae, ways)
    album = drawings.together(album, drawings.crowded(plan, pipeline.vae, ways))
    album = drawings.together(album, drawings.drawn(work, ways))
    before = reviewer(folder)
    if not (work / "before.pt").exists():  # a checkpoint may be exported onto what it began from
        torch.save(before.state_dict(), work / "before.pt")
    reader = Reader(before, eyes.Eyes())
    critic.learn(work, reader, plan, album, kinds=LESSONS, seeing=0.0, late=1.0, every=50)


def blended(work: Path) -> LlavaForConditionalGeneration:
    """The mean of the critic's weights before and after, of a stage folder.

    It keeps more of what was known before than the weights after do (Wortsman et al., 2022).
    """
    before = torch.load(work / "before.pt", map_location="cpu", weights_only=True)
    model = critic.load(work)
    after = model.state_dict()
    model.load_state_dict({name: torch.lerp(before[name], after[name], AFTER) for name in after})
    return model


def generator(folder: Path) -> PixArtAlphaPipeline:
    """The generator that was trained in a folder, or the one that ships."""
    if (folder / "denoiser" / "checkpoint.pt").exists():
        return denoiser.pipeline(folder)
    shipped = DiffusionPipeline.from_pretrained(pocket.GENERATOR, dtype=torch.float32)
    return cast("PixArtAlphaPipeline", shipped.to(device()))


def reviewer(folder: Path) -> LlavaForConditionalGeneration:
    """The critic that was trained in a folder, or the one that ships."""
    if (folder / "critic" / "checkpoint.pt").exists():
        return critic.load(folder / "critic")
    return LlavaForConditionalGeneration.from_pretrained(pocket.CRITIC, dtype=torch.float32)
