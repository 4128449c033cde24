"""Labelled pairs of the embedded world, for `gcr calibrate --pairs`: `make report-card`.

Each row is a request and two renders: of a scene, and of one in which things were changed, moved or
taken away. Truth says which of them has fewer flaws; of some it says that they are alike.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gcr.core.records import Preference
from gcr.files.atomic import write
from gcr.pocket import truth, world
from pocket_training.captions import describe, detail, relate, say

WORDS = {Preference.FIRST: "first", Preference.SECOND: "second", Preference.TIE: "tie"}


def changed(scene: world.Scene, rng: random.Random, times: int) -> world.Scene:
    """The scene with so many changes, each of another thing or of where it stands."""
    things = list(scene.things)
    for i in rng.sample(range(len(things)), min(times, len(things))):
        kind = rng.choice(("colour", "shape", "place", "missing"))
        if kind == "missing" and len(things) > 1:
            things[i] = replace(things[i], radius=0.0)
        elif kind == "place":
            places = [place for place in world.PLACES if place != things[i].place]
            alike = (things[i].colour, things[i].shape, things[i].size)
            (things[i],) = world.put(rng, [alike], [rng.choice(places)])
        else:
            colour, shape = things[i].colour, things[i].shape
            others = [pair for pair in world.TRAINING_PAIRS if pair != (colour, shape)]
            colour, shape = rng.choice(others)
            things[i] = replace(things[i], colour=colour, shape=shape)
    return replace(scene, things=tuple(thing for thing in things if thing.radius))


def main(
    folder: Annotated[Path, typer.Argument(help="Where labels.jsonl and its images are written.")],
    count: Annotated[int, typer.Option(help="Pairs.")] = 120,
    name: Annotated[str, typer.Option(help="Which pairs: any word is another set.")] = "labels",
) -> None:
    """Write labelled pairs of renders; no request names what is held out for the result."""
    rng = random.Random(f"labels {name}")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        scene = world.sample(rng)
        spec = detail(scene) if rng.random() < 0.3 else describe(scene, sizes=rng.random() < 0.15)
        spec = relate(spec, scene, rng) if rng.random() < 0.4 else spec
        flaws, names = [], []
        for side, times in zip("ab", rng.sample((0, 1, 2), 2), strict=True):
            image = world.draw(changed(scene, rng, times))
            names.append(f"{number:04}-{side}.png")
            image.save(folder / names[-1])
            flaws.append(truth.compare(spec, truth.look(image)).flaws)
        better = (
            Preference.TIE
            if flaws[0] == flaws[1]
            else Preference.FIRST
            if flaws[0] < flaws[1]
            else Preference.SECOND
        )
        row = {"prompt": say(spec, rng), "first": names[0], "second": names[1]}
        lines.append(json.dumps({**row, "better": WORDS[better]}))
    write(folder / "labels.jsonl", "".join(f"{line}\n" for line in lines).encode())
    typer.echo(folder / "labels.jsonl")


if __name__ == "__main__":
    typer.run(main)
