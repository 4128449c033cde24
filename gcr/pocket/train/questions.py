"""Yes/no questions about a picture, and their answers from what truth reads in it."""

from __future__ import annotations

import random
from collections import Counter

from gcr.pocket import world
from gcr.pocket.language import PLURALS
from gcr.pocket.spec import RELATIONS
from gcr.pocket.train.replies import article
from gcr.pocket.truth import View

KINDS = ("kind", "kind", "count", "place", "relation", "relation", "canvas")


def ask(view: View, rng: random.Random) -> tuple[str, bool]:
    """A yes/no question about an image and its answer: of each kind, half are yes.

    A critic that is asked one kind with mostly one answer learns the answer without looking.
    """
    asks, wanted = rng.choice(KINDS), rng.random() < 0.5
    tries = [_ask(view, rng, asks) for _ in range(40)]
    return next((found for found in tries if found[1] == wanted), tries[0])


def _ask(view: View, rng: random.Random, asks: str) -> tuple[str, bool]:
    things = [t for t in view.things if t.clear]
    kinds = Counter((t.colour, t.shape) for t in things)
    present = rng.choice(list(kinds)) if kinds else rng.choice(world.TRAINING_PAIRS)
    colour, shape = present if rng.random() < 0.6 else _near(present, rng)
    noun = f"{article(colour)} {colour} {shape}"
    if asks == "canvas":
        name = rng.choice(list(world.CANVASES))
        return f"is the canvas {name}?", name == view.canvas
    if asks == "count" and len(kinds) < len(things):
        count = rng.randint(2, 5)
        words = ("two", "three", "four", "five")[count - 2]
        return f"are there {words} {present[0]} {PLURALS[present[1]]}?", kinds[present] == count
    if asks == "place":
        places = [t.place for t in things if (t.colour, t.shape) == (colour, shape)]
        place = rng.choice(world.PLACES)
        return f"is there {noun} at the {place}?", place in places
    others = [k for k in kinds if k != (colour, shape)]
    if asks == "relation" and others:
        c2, s2 = rng.choice(others)
        name = rng.choice(RELATIONS)
        first = [t for t in things if (t.colour, t.shape) == (colour, shape)]
        second = [t for t in things if (t.colour, t.shape) == (c2, s2)]
        return f"is there {noun} {name} the {c2} {s2}?", any(
            world.stands(a, name, b) for a in first for b in second
        )
    return f"is there {noun}?", (colour, shape) in kinds


def _near(pair: tuple[str, str], rng: random.Random) -> tuple[str, str]:
    """Another trained pair that shares its colour or its shape."""
    return rng.choice(
        [p for p in world.TRAINING_PAIRS if p != pair and (p[0] == pair[0]) != (p[1] == pair[1])]
    )
