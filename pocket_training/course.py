"""All stages in order: how long each learns on a CPU and on a GPU, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gcr.settings.profiles import Profile
from pocket_training import critic, denoiser, drawings, export, eyes, finetune, text, vae
from pocket_training.session import Plan, device

LEARNERS: dict[str, Callable[[Path, Plan], None]] = {
    "vae": vae.train,
    "text": text.train,
    "denoiser": denoiser.train,
    "eyes": eyes.train,
}
"""The stages that need nothing but those before them, in order."""


@dataclass(frozen=True, slots=True)
class Course:
    """What every stage is given.

    plans: by stage. with_drawings: steps for which the critic goes on once there are drawings.
    requests: drawn for it, each in every way; redrawn: for `finetune`, in four ways; at_once:
    pictures drawn together.
    took: how long the stages took where it was last measured, in words.
    """

    plans: dict[str, Plan]
    with_drawings: int
    requests: int
    redrawn: int
    at_once: int
    took: str


COURSES = {
    "cpu": Course(
        plans={
            "vae": Plan(4000, 32, 3e-3, pool=12_000),
            "decoder": Plan(2000, 32, 2e-3, pool=12_000),
            "text": Plan(1500, 128, 2e-3),
            "denoiser": Plan(6000, 48, 2e-3, pool=30_000),
            "eyes": Plan(2500, 64, 2e-3, pool=12_000),
            "critic": Plan(9000, 16, 2e-3, pool=9_000),
            "finetune": Plan(2500, 16, 6e-4, pool=2_400),
        },
        with_drawings=1000,
        requests=240,
        redrawn=1200,
        at_once=48,
        took="not known; no CPU has trained on pictures of this size",
    ),
    # What the shipped pair learned by.
    "gpu": Course(
        plans={
            "vae": Plan(2600, 128, 3e-3, pool=40_000),
            "decoder": Plan(2000, 128, 2e-3, pool=40_000),
            "text": Plan(1500, 256, 2e-3),
            "denoiser": Plan(4400, 512, 2e-3, pool=80_000),
            "eyes": Plan(1200, 512, 2e-3, pool=40_000),
            "critic": Plan(3450, 256, 2e-3, pool=24_000),
            "finetune": Plan(300, 256, 1e-3, pool=12_000),
        },
        with_drawings=90,
        requests=600,
        redrawn=1200,
        at_once=512,
        took=(
            "533 s on an H100 with 16 slow cores, eyes and critic in a process of their own beside "
            "the others: imports 28 s, vae 146 s, text 14 s, denoiser 286 s, eyes 52 s, pictures "
            "for the critic 44 s, critic 285 s, drawings 29 s, critic with drawings 30 s"
        ),
    ),
}


def here() -> Course:
    """The course for this machine."""
    return COURSES["gpu" if device().type == "cuda" else "cpu"]


def follow(course: Course, folder: Path, target: Path, seed: int, profile: Profile) -> None:
    """Train every stage that is not done yet, and write the pair to `target`.

    profile: how the pair is run, for the drawings.
    """
    plans = {stage: replace(plan, seed=seed) for stage, plan in course.plans.items()}
    for stage, train in LEARNERS.items():
        if steps_done(folder / stage) < plans[stage].steps:
            with timed(stage):
                train(folder / stage, plans[stage])
    renders, drawn = plans["critic"], folder / "drawings"
    whole = replace(renders, steps=renders.steps + course.with_drawings)
    if steps_done(folder / "critic") < whole.steps:
        with timed("pictures for the critic"):
            autoencoder = vae.load(folder / "vae")
            album = drawings.rendered(renders, autoencoder, drawings.hindsight(drawn))
        with timed("critic"):
            critic.train(folder / "critic", renders, album)
        if not drawings.told(drawn):
            with timed("drawings"):
                pipeline = denoiser.pipeline(folder)
                drawings.draw(drawn, pipeline, course.requests, seed, profile, course.at_once)
        with timed("critic with drawings"):
            critic.train(folder / "critic", whole, drawings.with_drawings(album, drawn))
    if steps_done(folder / "finetune") < plans["finetune"].steps:
        with timed("finetune"):
            finetune.train(folder, plans["finetune"], profile, course.redrawn, course.at_once)
    with timed("export"):
        export.export(folder, target)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"{stage}: {time.monotonic() - started:.0f} s", flush=True)


def steps_done(folder: Path) -> int:
    """How many steps a stage has learned."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"])
