"""Scenes are what they claim to be: things apart, in their places, never of a held-out pair."""

from __future__ import annotations

import hashlib
import itertools
import random

import numpy as np
import pytest

from gcr.pocket import world
from gcr.pocket.world import Scene, Thing


def scenes(count: int, pairs: tuple[tuple[str, str], ...] = world.TRAINING_PAIRS) -> list[Scene]:
    rng = random.Random("test scenes")
    return [world.sample(rng, pairs) for _ in range(count)]


def ink(scene: Scene) -> np.ndarray:
    """(SIDE, SIDE), bool: the pixels that are not all canvas."""
    return (np.asarray(world.draw(scene)) != world.CANVASES[scene.canvas]).any(-1)


def shared(scene: Scene) -> int:
    """How many pixels two things have part in."""
    alone = [ink(Scene(scene.canvas, (thing,))) for thing in scene.things]
    return int((np.sum(alone, axis=0) > 1).sum())


def test_things_never_touch() -> None:
    # Outlines may come within a pixel of one another, and then both tint it.
    assert max(shared(scene) for scene in scenes(80, world.PAIRS)) <= 2
    rng = random.Random("neighbours")
    for places in (["left", "center"], ["top", "center"], ["top left", "center"]) * 30:
        two = [("red", rng.choice(world.SHAPES), "large"), ("blue", "square", "large")]
        assert shared(Scene("white", tuple(world.put(rng, two, places)))) <= 2


def test_held_out_pairs_are_in_no_scene_to_train_on() -> None:
    rng = random.Random("default")
    pairs = {(t.colour, t.shape) for _ in range(2000) for t in world.sample(rng).things}
    assert pairs == set(world.TRAINING_PAIRS)
    assert not pairs & world.HELD_OUT
    everything = {(t.colour, t.shape) for s in scenes(2000, world.PAIRS) for t in s.things}
    assert everything >= world.HELD_OUT


def test_held_out_pairs_leave_every_colour_and_shape_in_others() -> None:
    assert len(world.TRAINING_PAIRS) == len(world.COLOURS) * len(world.SHAPES) - 6
    assert {c for c, _ in world.TRAINING_PAIRS} == set(world.COLOURS)
    assert {s for _, s in world.TRAINING_PAIRS} == set(world.SHAPES)


def test_scenes_vary() -> None:
    seen = scenes(1500)
    assert {len(s.things) for s in seen} == {1, 2, 3, 4, 5}
    assert {s.canvas for s in seen} == set(world.CANVASES)
    assert {t.size for s in seen for t in s.things} == set(world.SIZES)
    assert {t.place for s in seen for t in s.things} == set(world.PLACES)
    assert all(len({t.place for t in s.things}) == len(s.things) for s in seen)


def test_a_seed_gives_the_scenes_it_gave_when_the_weights_were_trained() -> None:
    # The logs of the shipped weights, and what they were never shown, rest on these scenes.
    drawn_scenes = [
        (s.canvas, *((t.colour, t.shape, round(t.x, 4), round(t.y, 4), round(t.radius, 4))
                     for t in s.things))
        for s in scenes(200)
    ]  # fmt: skip
    assert hashlib.sha256(repr(drawn_scenes).encode()).hexdigest()[:12] == "e9b7af3ba2d4"


@pytest.mark.parametrize("place", world.PLACES)
@pytest.mark.parametrize("size", world.SIZES)
def test_what_is_put_somewhere_is_there(place: str, size: str) -> None:
    rng = random.Random(f"{place} {size}")
    for colour, shape in rng.sample(world.PAIRS, 6):
        (thing,) = world.put(rng, [(colour, shape, size)], [place])
        assert (thing.colour, thing.shape, thing.size, thing.place) == (colour, shape, size, place)
        rows, columns = np.nonzero(ink(Scene("white", (thing,))))
        drawn_at = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        assert world.place_of(*drawn_at) == place
        assert np.ptp(columns) / 2 == pytest.approx(thing.radius, abs=3.2)


def test_sizes_are_drawn_in_their_order() -> None:
    for shape in world.SHAPES:
        areas = [
            ink(Scene("white", (Thing(shape, "red", 64, 64, r),))).sum()
            for r in world.SIZES.values()
        ]
        assert areas == sorted(set(areas))


@pytest.mark.parametrize("canvas", world.CANVASES)
def test_colours_are_drawn_as_they_are(canvas: str) -> None:
    for colour, rgb in world.COLOURS.items():
        image = world.draw(Scene(canvas, (Thing("square", colour, 64, 64, 18),)))
        assert image.size == (world.SIDE, world.SIDE)
        assert image.getpixel((64, 64)) == rgb
        assert image.getpixel((4, 4)) == world.CANVASES[canvas]


def test_shapes_look_different() -> None:
    drawn = [ink(Scene("white", (Thing(s, "red", 64, 64, 18.6),))) for s in world.SHAPES]
    for a, b in itertools.combinations(drawn, 2):
        assert (a ^ b).sum() > 0.15 * (a | b).sum()
    with pytest.raises(ValueError, match="hexagon"):
        world.outline("hexagon", 0, 0, 1)


def test_relations_need_a_margin() -> None:
    high, low = Thing("star", "red", 60, 20, 10), Thing("star", "red", 60, 100, 10)
    assert world.stands(high, "above", low)
    assert world.stands(low, "below", high)
    assert not world.stands(low, "above", high)
    assert not any(world.stands(high, side, low) for side in ("left of", "right of"))
    a_little_lower = Thing("star", "red", 100, 20 + world.MARGIN - 1, 10)
    assert not world.stands(high, "above", a_little_lower)
    assert world.stands(high, "left of", a_little_lower)
    assert world.stands(a_little_lower, "right of", high)
