"""Stage 6: pictures by the trained generator, for the critic to learn from.

They show it what this generator gets wrong, and, by hindsight, which way to rewrite a failed
request: every way is tried on the same requests, and the one whose pictures are right most often
is taught, for each number of shapes, with and without a relation.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image

from gcr.pocket import truth, world
from gcr.pocket.language import parse, say
from gcr.pocket.spec import Spec, describe, relate
from gcr.settings.profiles import Profile
from pocket_training import denoiser, eyes, vae
from pocket_training.lessons import Album
from pocket_training.pool import CHUNK, render, scenes, spread_out
from pocket_training.replies import REWRITES, Rewrite
from pocket_training.session import Plan, batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = tuple[int, bool]  # number of things asked for, whether a relation is


def draw(folder: Path, requests: int, seed: int, profile: Profile, batch: int) -> None:
    """Draw each request as it is and in every rewriting; keep pictures, prompts and verdicts.

    They are added to those that are there already. profile: how the pair is run, so that the
    critic sees what it will see.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = told(folder)
    pipeline = denoiser.pipeline(folder.parent)
    pipeline.set_progress_bar_config(disable=True)
    jobs = _jobs(requests, random.Random(f"{seed} drawings {len(before)}"))
    pictures, lines = [], []
    for n, part in enumerate(batches(jobs, batch)):
        generator = torch.Generator().manual_seed(seed * 100_003 + len(before) + n)
        drawn = pipeline(
            [prompt for *_, prompt in part],
            num_inference_steps=profile.steps,
            guidance_scale=profile.guidance,
            generator=generator,
            width=world.SIDE,
            height=world.SIDE,
            **profile.call,
            output_type="np",
        ).images  # (batch, SIDE, SIDE, 3), 0-1
        pictures += [(image * 255).round().astype(np.uint8) for image in drawn]
        print(f"drawings: {len(pictures)} of {len(jobs)}", flush=True)
    kept = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    for (spec, way, prompt), view in zip(jobs, look(kept), strict=True):
        right = truth.compare(spec, view).right
        lines.append({"request": say(spec), "way": way, "prompt": prompt, "right": right})
    if before:
        kept = torch.cat([torch.load(folder / "pictures.pt", weights_only=True), kept])
    torch.save(kept, folder / "pictures.pt")
    (folder / "told.json").write_text(json.dumps(before + lines))
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
    for line in told(folder):
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


def told(folder: Path) -> list[dict[str, Any]]:
    """A line for each picture, in the order of the pictures; none where nothing was drawn."""
    path = folder / "told.json"
    return cast("list[dict[str, Any]]", json.loads(path.read_text())) if path.exists() else []


def report(folder: Path) -> None:
    """Print how often each way of asking was right."""
    for of, ways in sorted(rates(folder).items()):
        shown = " ".join(f"{way}:{right}/{drawn}" for way, (right, drawn) in sorted(ways.items()))
        print(f"drawings: {of[0]} things{' related' * of[1]}: {shown}", flush=True)


def look(pixels: torch.Tensor) -> list[truth.View]:
    """What truth reads in each picture, (pictures, 3, SIDE, SIDE), uint8."""
    chunks = torch.split(pixels.permute(0, 2, 3, 1), CHUNK)
    return [view for views in spread_out(_look, [c.numpy() for c in chunks]) for view in views]


def _look(images: NDArray[np.uint8]) -> list[truth.View]:
    return [truth.look(Image.fromarray(image)) for image in images]


def album(folder: Path, plan: Plan) -> Album:
    """Renders, reconstructions and, where there are any, drawings; no held-out pair."""
    shown = rendered(folder, plan)
    return with_drawings(shown, folder) if told(folder) else shown


def rendered(folder: Path, plan: Plan) -> Album:
    """Renders, half of them through the autoencoder and back."""
    shown = scenes(f"{plan.seed} album", plan.pool)
    pixels, half = render(shown), plan.pool // 2
    pixels[:half] = vae.reconstruct(vae.load(folder.parent / "vae"), pixels[:half])
    views = [*look(pixels[:half]), *map(_as_meant, shown[half:])]
    return _album(pixels, views, [None] * plan.pool, hindsight(folder))


def with_drawings(shown: Album, folder: Path) -> Album:
    """The album with what the generator drew, and what came of it."""
    pixels = torch.load(folder / "pictures.pt", weights_only=True)
    asked: list[Spec | None] = [parse(line["request"]) for line in told(folder)]
    drawn = _album(pixels, look(pixels), asked, hindsight(folder))
    return Album(
        torch.cat([shown.pixels, drawn.pixels]),
        torch.cat([shown.patches, drawn.patches]),
        shown.views + drawn.views,
        shown.asked + drawn.asked,
        drawn.ways,
    )


def _album(
    pixels: torch.Tensor,
    views: list[truth.View],
    asked: list[Spec | None],
    ways: dict[Kind, Rewrite],
) -> Album:
    kept = [
        i
        for i, view in enumerate(views)
        if len(view.things) <= 8
        and all((t.colour, t.shape) not in world.HELD_OUT for t in view.things)
    ]
    views = [views[i] for i in kept]
    patches = eyes.labels([world.Scene(view.canvas, view.things) for view in views])
    return Album(pixels[kept], patches, views, [asked[i] for i in kept], ways)


def _as_meant(scene: world.Scene) -> truth.View:
    """What truth reads in a clean picture of a scene, without looking."""
    order = sorted(scene.things, key=lambda t: (world.PLACES.index(t.place), t.y, t.x))
    things = (truth.Seen(t.shape, t.colour, t.x, t.y, t.radius) for t in order)
    return truth.View(scene.canvas, tuple(things))
