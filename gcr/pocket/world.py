"""The world of coloured shapes: what a scene is, how it is sampled and drawn.

A scene is a canvas with one to five things on it, each in another cell of a 3 × 3 grid. This module
knows nothing of words (`language`), of reading pixels (`truth`) or of models.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 128  # pixels
MOST = 5  # things in a scene
MARGIN = 8.0  # pixels by which "above" must be above

RGB = tuple[int, int, int]
CANVASES: dict[str, RGB] = {"white": (255, 255, 255), "grey": (128, 128, 128), "black": (0, 0, 0)}
COLOURS: dict[str, RGB] = {
    "red": (220, 30, 40),
    "orange": (250, 140, 20),
    "yellow": (245, 225, 40),
    "green": (40, 160, 60),
    "cyan": (60, 210, 225),
    "blue": (35, 70, 220),
    "purple": (125, 40, 170),
    "pink": (245, 130, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
SIZES = {"small": 11.6, "medium": 15.0, "large": 18.6}  # radius in pixels
PLACES = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
CELL_CENTRES = (24.0, 64.0, 104.0)  # pixels

HELD_OUT = frozenset(
    {
        ("purple", "heart"),
        ("cyan", "star"),
        ("orange", "cross"),
        ("green", "triangle"),
        ("pink", "square"),
        ("yellow", "circle"),
    }
)
"""Colour-shape pairs that no model is trained on, in no scene, caption, reply or question."""

PAIRS = tuple((c, s) for c in COLOURS for s in SHAPES)
TRAINING_PAIRS = tuple(pair for pair in PAIRS if pair not in HELD_OUT)


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape.

    Attributes:
        shape: one of SHAPES.
        colour: one of COLOURS.
        x: of its centre, in pixels.
        y: of its centre, in pixels, growing downwards.
        radius: half its extent, in pixels.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        return size_of(self.radius)

    @property
    def place(self) -> str:
        return place_of(self.x, self.y)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture.

    Attributes:
        canvas: one of CANVASES.
        things: on it.
    """

    canvas: str
    things: tuple[Thing, ...]


def size_of(radius: float) -> str:
    """The size whose radius is nearest."""
    return min(SIZES, key=lambda size: abs(SIZES[size] - radius))


def place_of(x: float, y: float) -> str:
    """The place of the 3 × 3 grid that a point (in pixels) lies in."""
    column, row = (min(2, max(0, int(v * 3 / SIDE))) for v in (x, y))
    return PLACES[3 * row + column]


def stands(a: Thing, relation: str, b: Thing) -> bool:
    """Whether a is above / below / left of / right of b, by at least MARGIN pixels."""
    return {
        "above": b.y - a.y,
        "below": a.y - b.y,
        "left of": b.x - a.x,
        "right of": a.x - b.x,
    }[relation] >= MARGIN


def put(rng: random.Random, kinds: list[tuple[str, str, str]], places: list[str]) -> list[Thing]:
    """Things of these kinds (colour, shape, size) in these places, jittered, not touching."""
    while True:  # rejection sampling: a layout without touching things is found in a few tries
        things: list[Thing] = []
        for (colour, shape, size), place in zip(kinds, places, strict=True):
            row, column = divmod(PLACES.index(place), 3)
            x, y = (CELL_CENTRES[i] + rng.uniform(-4.0, 4.0) for i in (column, row))
            things.append(Thing(shape, colour, x, y, SIZES[size] + rng.uniform(-0.6, 0.6)))
        if all(
            math.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius + 3.0
            for i, a in enumerate(things)
            for b in things[:i]
        ):
            return things


def sample(rng: random.Random, pairs: tuple[tuple[str, str], ...] = TRAINING_PAIRS) -> Scene:
    """A random scene: one to five things, about half the time in groups that are alike."""
    total = rng.choices(range(1, MOST + 1), (15, 22, 24, 21, 18))[0]
    kinds: list[tuple[str, str, str]] = []
    while len(kinds) < total:
        colour, shape = rng.choice(pairs)
        size = rng.choices(list(SIZES), (20, 60, 20))[0]
        count = rng.randint(1, total - len(kinds)) if rng.random() < 0.5 else 1
        kinds += [(colour, shape, size)] * count
    canvas = rng.choices(list(CANVASES), (60, 20, 20))[0]
    return Scene(canvas, tuple(put(rng, kinds, rng.sample(PLACES, total))))


def outline(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    """The polygon of a shape centred on (x, y) with half extent r."""
    if shape == "circle":
        points = [(math.cos(a), math.sin(a)) for a in _angles(36)]
        scale = 0.95
    elif shape == "square":
        points = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        scale = 0.86
    elif shape == "triangle":
        points = [(0, -1), (1, 0.85), (-1, 0.85)]
        scale = 1.0
    elif shape == "star":
        points = [
            (math.sin(a) * k, -math.cos(a) * k)
            for a, k in zip(_angles(10), (1.08, 0.5) * 5, strict=True)
        ]
        scale = 1.0
    elif shape == "heart":
        points = [
            (
                16 * math.sin(a) ** 3 / 16,
                -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a))
                / 15,
            )
            for a in _angles(40)
        ]
        scale = 1.0
    elif shape == "cross":
        k = 0.33
        points = [(-k, -1), (k, -1), (k, -k), (1, -k), (1, k), (k, k),
                  (k, 1), (-k, 1), (-k, k), (-1, k), (-1, -k), (-k, -k)]  # fmt: skip
        scale = 1.0
    else:
        raise ValueError(f"no shape is called {shape!r}")
    return [(x + px * scale * r, y + py * scale * r) for px, py in points]


def _angles(n: int) -> list[float]:
    return [2 * math.pi * i / n for i in range(n)]


def draw(scene: Scene, scale: int = 4) -> Image:
    """The scene as an RGB image of SIDE × SIDE pixels, drawn `scale` times larger and averaged."""
    from PIL import Image, ImageDraw

    big = Image.new("RGB", (SIDE * scale, SIDE * scale), CANVASES[scene.canvas])
    pen = ImageDraw.Draw(big)
    for thing in scene.things:
        points = outline(thing.shape, thing.x, thing.y, thing.radius)
        pen.polygon([(px * scale, py * scale) for px, py in points], fill=COLOURS[thing.colour])
    return big.resize((SIDE, SIDE), Image.Resampling.BOX)
