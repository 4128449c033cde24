"""Stage 6: pictures by the trained generator, for the critic to learn from.

They show it what this generator gets wrong, and, by hindsight, which way to rewrite a failed
request: every way is tried on the same requests, and the one whose pictures are right most often
is taught, for each number of shapes, with and without a relation.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image

from gcr.pocket import truth, world
from gcr.pocket.language import Spec, parse
from gcr.settings.profiles import Profile
from pocket_training import eyes, lessons, vae
from pocket_training.captions import describe, relate, say, spec_of
from pocket_training.lessons import DETAILED, RELATED, Album
from pocket_training.pool import CHUNK, render, scenes, spread_out
from pocket_training.replies import REWRITES, Rewrite
from pocket_training.session import Plan, batches

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, PixArtAlphaPipeline
    from numpy.typing import NDArray

Kind = tuple[int, bool]  # number of things asked for, whether a relation is
KINDS: tuple[Kind, ...] = tuple(
    (n, related) for n in range(1, world.MOST + 1) for related in (False, True)
)


AS_IT_IS = -1  # instead of the index of a rewriting
SIZED = 0.2
EVERY_WAY = (AS_IT_IS, AS_IT_IS, *range(len(REWRITES)))


def draw(  # noqa: PLR0913, PLR0917 - what is drawn, by what, and how
    folder: Path,
    pipeline: PixArtAlphaPipeline,
    requests: int,
    seed: int,
    profile: Profile,
    batch: int,
    ways: Sequence[int] = EVERY_WAY,
    sized: float = SIZED,
) -> None:
    """Draw each request in these ways; keep pictures, prompts and verdicts.

    They are added to those that are there already. profile: how the pair is run, so that the
    critic sees what it will see. sized: share of the requests that give every thing's size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = told(folder)
    pipeline.set_progress_bar_config(disable=True)
    jobs = _jobs(requests, random.Random(f"{seed} drawings {len(before)}"), ways, sized)
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


def _jobs(
    requests: int, rng: random.Random, ways: Sequence[int], sized: float
) -> list[tuple[Spec, int, str]]:
    """What is asked for, in which way, and the prompt for it."""
    jobs = []
    for _ in range(requests):
        spec = ask(rng, sized)
        raw = say(spec, rng)
        jobs += [
            (spec, way, raw if way == AS_IT_IS else say(REWRITES[way].apply(spec))) for way in ways
        ]
    return jobs


def ask(rng: random.Random, sized: float = SIZED) -> Spec:
    """A short request of the training world."""
    scene = world.sample(rng)
    spec = describe(scene, sizes=rng.random() < sized, canvas=rng.random() < 0.25)
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

    return {k: REWRITES[max(range(len(REWRITES)), key=lambda i: rate(k, i))] for k in KINDS}


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
    shown = rendered(plan, vae.load(folder.parent / "vae"), hindsight(folder))
    return with_drawings(shown, folder) if told(folder) else shown


def rendered(plan: Plan, autoencoder: AutoencoderKL, ways: dict[Kind, Rewrite]) -> Album:
    """Renders, half of them through the autoencoder and back. ways: as `Album` has them."""
    shown = scenes(f"{plan.seed} album", plan.pool)
    pixels, half = render(shown), plan.pool // 2
    pixels[:half] = vae.reconstruct(autoencoder, pixels[:half])
    views = [*look(pixels[:half]), *map(_as_meant, shown[half:])]
    return _album(pixels, views, [None] * plan.pool, ways)


def crowded(plan: Plan, autoencoder: AutoencoderKL, ways: dict[Kind, Rewrite]) -> Album:
    """Renders in pairs, half of them through the autoencoder and back: a scene, and the same with
    one to three things that the request for it does not ask for, so that many show more than any
    request can ask for. Sizes lie anywhere between the named ones.
    """
    rng = random.Random(f"{plan.seed} crowded")
    pairs: list[world.Scene] = []
    asked: list[Spec | None] = []
    several = (s for s in scenes(f"{plan.seed} crowded", 2 * plan.pool) if len(s.things) > 2)
    for scene in islice(several, plan.pool // 2):
        loose = crowd = loosened(scene, rng)
        for _ in range(rng.choice((1, 1, 2, 3))):
            crowd = with_surplus(crowd, rng)
        pairs += [loose, crowd]
        spec = spec_of(
            loose, rng, noisy=False, detailed=DETAILED, related=RELATED, sized=lessons.SIZED
        )
        asked += [spec, spec]
    pixels, half = render(pairs), len(pairs) // 2
    pixels[:half] = vae.reconstruct(autoencoder, pixels[:half])
    return _album(pixels, look(pixels), asked, ways)


def loosened(scene: world.Scene, rng: random.Random) -> world.Scene:
    """The scene with each thing of a size somewhere between the least and the greatest."""
    least, *_, greatest = world.SIZES.values()
    things = [replace(t, radius=rng.uniform(least - 0.6, greatest + 0.6)) for t in scene.things]
    return replace(scene, things=tuple(things))


def with_surplus(scene: world.Scene, rng: random.Random) -> world.Scene:
    """The scene with a thing more: half of the time a twin of another, often small, and as likely
    as not so near to another that they touch.
    """
    colour, shape = rng.choice(world.TRAINING_PAIRS)
    if rng.random() < 0.5:
        like = rng.choice(scene.things)
        colour, shape = like.colour, like.shape
    (size,) = rng.choices(list(world.SIZES), (2, 2, 1))
    radius = world.SIZES[size] + rng.uniform(-0.6, 0.6)
    apart = rng.choice((0.8, 1.1))
    while True:  # nearly every scene has room; what is left allows for the few that have none
        x, y = (rng.uniform(radius, world.SIDE - radius) for _ in "xy")
        if all(math.hypot(t.x - x, t.y - y) > apart * (t.radius + radius) for t in scene.things):
            return replace(scene, things=(*scene.things, world.Thing(shape, colour, x, y, radius)))
        apart *= 0.99


def with_drawings(shown: Album, folder: Path) -> Album:
    """The album with what the generator drew, and what came of it."""
    return together(shown, drawn(folder, hindsight(folder)))


def drawn(folder: Path, ways: dict[Kind, Rewrite]) -> Album:
    """What the generator drew, and was asked for. ways: as `Album` has them."""
    pixels = torch.load(folder / "pictures.pt", weights_only=True)
    asked: list[Spec | None] = [parse(line["request"]) for line in told(folder)]
    return _album(pixels, look(pixels), asked, ways)


def together(first: Album, second: Album) -> Album:
    """The pictures of both, with the ways of the second."""
    return Album(
        torch.cat([first.pixels, second.pixels]),
        torch.cat([first.patches, second.patches]),
        first.views + second.views,
        first.asked + second.asked,
        second.ways,
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
