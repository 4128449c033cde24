"""Stage 5: pictures by the trained generator, for the critic to learn from.

They show it what this generator gets wrong, and, by hindsight, which way to rewrite a failed
request: every way is tried on the same requests, and the one whose pictures are right most often
is taught, for each number of shapes, with and without a relation.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from gcr.pocket import truth, world
from gcr.pocket.language import parse, say
from gcr.pocket.spec import Spec, describe, relate
from gcr.pocket.train import denoiser, vae
from gcr.pocket.train.critic import Album
from gcr.pocket.train.replies import REWRITES, Rewrite
from gcr.pocket.train.session import batches
from gcr.profiles import Profile

BATCH = 48
Kind = tuple[int, bool]  # number of things asked for, whether a relation is
RENDERED = 9_000  # pictures that are not drawn by the generator


def draw(folder: Path, requests: int, seed: int, profile: Profile) -> None:
    """Draw each request as it is and in every rewriting; keep pictures, prompts and verdicts.

    They are added to those that are there already. profile: how the pair is run, so that the
    critic sees what it will see.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _told(folder)
    pipeline = denoiser.pipeline(folder.parent)
    pipeline.set_progress_bar_config(disable=True)
    jobs = _jobs(requests, random.Random(f"{seed} drawings {len(before)}"))
    pictures, told = [], []
    for n, part in enumerate(batches(jobs, BATCH)):
        generator = torch.Generator().manual_seed(seed * 100_003 + len(before) + n)
        drawn = pipeline(
            [prompt for *_, prompt in part],
            num_inference_steps=profile.steps,
            guidance_scale=profile.guidance,
            generator=generator,
            width=profile.width,
            height=profile.height,
            **profile.call,
            output_type="np",
        ).images  # (batch, 64, 64, 3), 0-1
        for (spec, way, prompt), image in zip(part, drawn, strict=True):
            pixels = (image * 255).round().astype(np.uint8)
            right = truth.shows(Image.fromarray(pixels), spec)
            pictures.append(pixels)
            told.append({"request": say(spec), "way": way, "prompt": prompt, "right": right})
        print(f"drawings: {len(told)} of {len(jobs)}", flush=True)
    kept = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    if before:
        kept = torch.cat([torch.load(folder / "pictures.pt", weights_only=True), kept])
    torch.save(kept, folder / "pictures.pt")
    (folder / "told.json").write_text(json.dumps(before + told))
    report(folder)


def _jobs(requests: int, rng: random.Random) -> list[tuple[Spec, int, str]]:
    """What is asked for, in which rewriting (-1: as it is, twice), and the prompt for it."""
    jobs = []
    for _ in range(requests):
        spec = ask(rng)
        raw = say(spec, rng)
        jobs += [(spec, -1, raw), (spec, -1, raw)]
        jobs += [(spec, i, say(way.apply(spec))) for i, way in enumerate(REWRITES)]
    return jobs


def ask(rng: random.Random) -> Spec:
    """A short request of the training world."""
    scene = world.sample(rng)
    spec = describe(scene, sizes=rng.random() < 0.2, canvas=rng.random() < 0.25)
    return relate(spec, scene, rng) if rng.random() < 0.6 else spec


def kind(spec: Spec) -> Kind:
    return sum(g.count for g in spec.groups), spec.relation is not None


def rates(folder: Path) -> dict[Kind, dict[int, tuple[int, int]]]:
    """For each kind of request and each way (-1: as asked): pictures that are right, and all."""
    counts: dict[Kind, dict[int, tuple[int, int]]] = defaultdict(
        lambda: defaultdict(lambda: (0, 0))
    )
    for line in _told(folder):
        ways = counts[kind(parse(line["request"]))]
        right, drawn = ways[line["way"]]
        ways[line["way"]] = right + line["right"], drawn + 1
    return counts


def hindsight(folder: Path) -> dict[Kind, Rewrite]:
    """The way to rewrite that succeeded most often, for each kind of request.

    Few pictures of a kind say little, so each kind's counts are drawn towards those of all kinds.
    """
    counts = rates(folder)
    overall = {
        i: sum(w[i][0] for w in counts.values()) / max(1, sum(w[i][1] for w in counts.values()))
        for i in range(len(REWRITES))
    }

    def rate(of: Kind, i: int) -> float:
        right, drawn = counts[of][i] if of in counts else (0, 0)
        return (right + 12 * overall[i]) / (drawn + 12)

    kinds = [(n, related) for n in range(1, world.MOST + 1) for related in (False, True)]
    return {k: REWRITES[max(range(len(REWRITES)), key=lambda i: rate(k, i))] for k in kinds}


def _told(folder: Path) -> list[dict[str, Any]]:
    """A line for each picture, in the order of the pictures; none where nothing was drawn."""
    path = folder / "told.json"
    return cast("list[dict[str, Any]]", json.loads(path.read_text())) if path.exists() else []


def report(folder: Path) -> None:
    """Print how often each way of asking was right."""
    for of, ways in sorted(rates(folder).items()):
        shown = " ".join(f"{way}:{right}/{drawn}" for way, (right, drawn) in sorted(ways.items()))
        print(f"drawings: {of[0]} things{' related' * of[1]}: {shown}", flush=True)


def album(folder: Path, seed: int, *, drawn: bool) -> Album:
    """Renders, reconstructions and, where there are any, drawings; no held-out pair."""
    rng = random.Random(f"{seed} album")
    pixels = vae.render([world.sample(rng) for _ in range(RENDERED)])
    asked: list[Spec | None] = [None] * RENDERED
    autoencoder, half = vae.load(folder.parent / "vae"), RENDERED // 2
    pixels[:half] = torch.cat(
        [vae.reconstruct(autoencoder, p) for p in torch.split(pixels[:half], 64)]
    )
    if drawn:
        pixels = torch.cat([pixels, torch.load(folder / "pictures.pt", weights_only=True)])
        asked += [parse(line["request"]) for line in _told(folder)]
    images = pixels.permute(0, 2, 3, 1).numpy()
    views = [truth.look(Image.fromarray(image)) for image in images]
    kept = [
        i
        for i, view in enumerate(views)
        if len(view.things) <= 8
        and all((t.colour, t.shape) not in world.HELD_OUT for t in view.things)
    ]
    return Album(
        pixels[kept], [views[i] for i in kept], [asked[i] for i in kept], hindsight(folder)
    )
