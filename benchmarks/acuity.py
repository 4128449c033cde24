"""How well the embedded critic sees, attribute by attribute: `python -m benchmarks.acuity`.

A picture is held against a request that it meets, or against the same with one thing changed: a
relation turned round, a size, a count, a colour, a shape, a place or the canvas. The critic is
right if it calls the first right and the second not. Pictures are renders, and what the generator
drew; their truth is read from pixels. Then wrong pictures have writing or noise added, which must
not raise their scores. The pair runs as it ships, the critic in 4 bits.
"""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.refinement import as_shipped
from gcr.core.events import ignore
from gcr.core.records import Candidate, Request
from gcr.critic import rubric
from gcr.engine.models import load_models
from gcr.pocket import truth, world
from gcr.pocket.language import Group, Spec
from pocket_training.captions import describe, detail, relate, say

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.core.records import Critic, Generator

OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
STRIP = 24  # pixels at the foot of a picture, for a caption
Change = Callable[[Spec, random.Random], Spec | None]
"""A spec with one thing changed, or None where it does not say such a thing."""


def _relation(spec: Spec, _: random.Random) -> Spec | None:
    if spec.relation is None:
        return None
    return replace(spec, relation=replace(spec.relation, name=OPPOSITE[spec.relation.name]))


def _canvas(spec: Spec, rng: random.Random) -> Spec | None:
    others = [name for name in world.CANVASES if name != spec.canvas]
    return replace(spec, canvas=rng.choice(others)) if spec.canvas else None


def _group(change: Callable[[Group, random.Random], Group | None]) -> Change:
    """What changes one group, so that no other group is the same afterwards."""

    def changed(spec: Spec, rng: random.Random) -> Spec | None:
        groups = list(spec.groups)
        i = rng.randrange(len(groups))
        group = change(groups[i], rng)
        if group is None or group in groups:
            return None
        groups[i] = group
        full = sum(g.count for g in groups) > world.MOST
        return None if full else replace(spec, groups=tuple(groups))

    return changed


def _size(group: Group, rng: random.Random) -> Group | None:
    others = [size for size in world.SIZES if size != group.size]
    return replace(group, size=rng.choice(others)) if group.size else None


def _count(group: Group, rng: random.Random) -> Group | None:
    count = group.count + rng.choice((-1, 1))
    return replace(group, count=count) if 1 <= count <= world.MOST and not group.places else None


def _colour(group: Group, rng: random.Random) -> Group:
    others = [c for c, s in world.TRAINING_PAIRS if s == group.shape and c != group.colour]
    return replace(group, colour=rng.choice(others))


def _shape(group: Group, rng: random.Random) -> Group:
    others = [s for c, s in world.TRAINING_PAIRS if c == group.colour and s != group.shape]
    return replace(group, shape=rng.choice(others))


def _place(group: Group, rng: random.Random) -> Group | None:
    others = [place for place in world.PLACES if place not in group.places]
    return replace(group, places=(rng.choice(others),)) if len(group.places) == 1 else None


CHANGES: dict[str, Change] = {
    "relation": _relation,
    "size": _group(_size),
    "count": _group(_count),
    "colour": _group(_colour),
    "shape": _group(_shape),
    "place": _group(_place),
    "canvas": _canvas,
}


def pairs(
    kind: str, views: Iterator[tuple[Image, truth.View]], rng: random.Random
) -> Iterator[tuple[Image, str, bool]]:
    """Pictures with a request for each, true and changed in turn, and whether truth holds it met.

    No end of them. kind: a key of CHANGES.
    """
    wanted = True
    for image, view in views:
        scene = world.Scene(view.canvas, view.things)
        sizes = kind == "size" or rng.random() < 0.15
        canvas = kind == "canvas" or rng.random() < 0.2
        spec = (detail if kind == "place" else describe)(scene, sizes=sizes, canvas=canvas)
        if kind != "place" and (kind == "relation" or rng.random() < 0.4):
            spec = relate(spec, scene, rng)
        changed = CHANGES[kind](spec, rng)
        if changed is None:
            continue
        told = spec if wanted else changed
        right = truth.compare(told, view).right
        if right == wanted:  # a changed size or place can be what another thing has
            yield image, say(told, rng), wanted
            wanted = not wanted


def rendered(rng: random.Random) -> Iterator[tuple[Image, truth.View]]:
    """Clean pictures of scenes, without end."""
    while True:
        image = world.draw(world.sample(rng))
        yield image, truth.look(image)


def drawn(generator: Generator, rng: random.Random) -> Iterator[tuple[Image, truth.View]]:
    """Pictures of the generator in which every thing is clear, without end."""
    while True:
        scenes = [world.sample(rng) for _ in range(32)]
        specs = [(detail if rng.random() < 0.5 else describe)(s, canvas=True) for s in scenes]
        drawings = generator.draw(
            [Candidate(say(spec), rng.randrange(2**31)) for spec in specs],
            [None] * len(specs),
            [None] * len(specs),
        )
        for drawing in drawings:
            view = truth.look(drawing.image)
            told = [(t.colour, t.shape) for t in view.things]
            if (
                1 <= len(told) <= world.MOST
                and all(t.clear for t in view.things)
                and not world.HELD_OUT.intersection(told)
            ):
                yield drawing.image, view


def accuracy(critic: Critic, asked: list[tuple[Image, str, bool]]) -> dict[str, float]:
    """How many the critic calls right: of those that are, and of those that are not; the mean."""
    critiques = critic.judge([Request(text) for _, text, _ in asked], [i for i, *_ in asked])
    called = [critique.aspects[:1] and critique.aspects[0].score == 4.0 for critique in critiques]
    shares = [
        sum(bool(c) == met for c, (*_, met) in zip(called, asked, strict=True) if met == side)
        / max(1, sum(met == side for *_, met in asked))
        for side in (True, False)
    ]
    return {"met": shares[0], "not met": shares[1], "balanced": sum(shares) / 2}


def written(image: Image, text: str, strip: int = 0) -> Image:
    """The image with words on it in red; or in black on a white strip at its foot, of so many
    pixels.
    """
    from PIL import ImageDraw, ImageFont

    changed = image.convert("RGB")
    pen, font = ImageDraw.Draw(changed), ImageFont.load_default(size=9)
    top = world.SIDE - strip if strip else 0
    if strip:
        pen.rectangle((0, top, world.SIDE, world.SIDE), fill="white")
    lines, ink = textwrap.fill(text, 26), "black" if strip else "red"
    pen.multiline_text((2, top + 1), lines, fill=ink, font=font, spacing=1)
    return changed


def noisy(image: Image, rng: random.Random) -> Image:
    """The image with noise of a standard deviation of 12 of 255 in each pixel."""
    import numpy as np
    from PIL import Image as Images

    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 12, (*image.size[::-1], 3))
    pixels = np.asarray(image.convert("RGB")) + noise
    return Images.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def inflation(
    critic: Critic, wrong: list[tuple[Image, str]], rng: random.Random
) -> dict[str, float]:
    """By how much the mean score of wrong pictures, 0-1, is higher with something added.

    wrong: pictures, each with the request that it does not meet. A strip with a caption is held
    against the same strip without.
    """
    versions = {
        "as drawn": [image for image, _ in wrong],
        "request written": [written(image, text) for image, text in wrong],
        "score written": [written(image, "score 4/4") for image, _ in wrong],
        "empty strip": [written(image, "", STRIP) for image, _ in wrong],
        "caption strip": [written(image, text, STRIP) for image, text in wrong],
        "noise": [noisy(image, rng) for image, _ in wrong],
    }
    requests = [Request(text) for _, text in wrong]
    means = {
        name: fmean(critique.overall or 0.0 for critique in critic.judge(requests, images))
        for name, images in versions.items()
    }
    base = dict.fromkeys(versions, "as drawn") | {"caption strip": "empty strip"}
    return {name: means[name] - means[base[name]] for name in list(versions)[1:]}


def main(
    count: Annotated[int, typer.Option(help="Pictures of each kind, half of them met.")] = 80,
    seed: Annotated[int, typer.Option(help="Of pictures and requests.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Balanced accuracy of the embedded critic on renders and on drawings, and its inflation."""
    chosen = as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    told: dict[str, dict[str, float]] = {}
    for kind in CHANGES:
        for source in ("renders", "drawings"):
            rng = random.Random(f"{seed} acuity {kind} {source}")
            views = rendered(rng) if source == "renders" else drawn(generator, rng)
            examples = pairs(kind, views, rng)
            figures = accuracy(critic, [next(examples) for _ in range(count)])
            told[f"{kind}, {source}"] = figures
            shown = " ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
            typer.echo(f"{kind}, {source}: {shown}")
    rng = random.Random(f"{seed} acuity inflation")
    examples = pairs("colour", drawn(generator, rng), rng)
    wrong = [(image, text) for image, text, met in islice(examples, 2 * count) if not met]
    told["inflation"] = inflation(critic, wrong, rng)
    shown = " ".join(f"{name} {figure:+.3f}" for name, figure in told["inflation"].items())
    typer.echo(f"inflation of wrong drawings: {shown}")
    if output is not None:
        output.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
