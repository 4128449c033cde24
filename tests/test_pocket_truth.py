"""Truth reads pictures as they are, and finds every kind of fault in them, by its name."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from gcr.pocket import world
from gcr.pocket.language import parse
from gcr.pocket.spec import Spec, describe, detail
from gcr.pocket.truth import Finding, compare, look, shows
from gcr.pocket.world import PLACES, Scene, Thing


def kinds(things: tuple[Thing, ...]) -> list[tuple[str, str, str, str]]:
    return sorted((t.colour, t.shape, t.size, t.place) for t in things)


def read_right(image: Image.Image, scene: Scene) -> bool:
    view = look(image)
    return (view.canvas, view.specks) == (scene.canvas, 0) and kinds(view.things) == kinds(
        scene.things
    )


def test_it_reads_what_was_drawn() -> None:
    rng = random.Random("renders")
    scenes = [world.sample(rng, world.PAIRS) for _ in range(300)]
    assert {s.canvas for s in scenes} == set(world.CANVASES)
    assert {(t.colour, t.shape) for s in scenes for t in s.things} == set(world.PAIRS)
    assert sum(read_right(world.draw(scene), scene) for scene in scenes) >= 297


@pytest.mark.parametrize("canvas", world.CANVASES)
def test_it_reads_every_pair_and_size_on_every_canvas(canvas: str) -> None:
    rng = random.Random(canvas)
    for size in world.SIZES:
        for colour in world.COLOURS:
            pairs = [(colour, shape, size) for shape in world.SHAPES]
            for kind in (pairs[:3], pairs[3:]):
                things = world.put(rng, kind, rng.sample(PLACES, 3))
                scene = Scene(canvas, tuple(things))
                assert read_right(world.draw(scene), scene), scene


def test_it_reads_soft_and_grainy_pictures() -> None:
    rng, noise = random.Random("soft"), np.random.default_rng(0)
    scenes = [world.sample(rng, world.PAIRS) for _ in range(60)]
    right = 0
    for scene in scenes:
        soft = np.asarray(world.draw(scene).filter(ImageFilter.GaussianBlur(0.5)))
        grainy = (soft + noise.normal(0, 8, soft.shape)).clip(0, 255).astype(np.uint8)
        right += read_right(Image.fromarray(grainy), scene)
    assert right >= 57


def test_positions_and_radii_are_in_pixels() -> None:
    for shape in world.SHAPES:
        (seen,) = look(world.draw(Scene("white", (Thing(shape, "blue", 22.5, 41.2, 8.4),)))).things
        assert (seen.x, seen.y) == pytest.approx((22.5, 41.2), abs=0.15)
        assert seen.radius == pytest.approx(8.4, abs=0.3)
        assert seen.clarity > 0.93


# One fault at a time


CANVAS = "grey"
KINDS = (("red", "circle", "medium"), ("blue", "star", "large"), ("green", "heart", "small"))


def stage(seed: int) -> tuple[Scene, str]:
    """Three different things on grey, and a place that is free."""
    rng = random.Random(seed)
    *places, free = rng.sample(PLACES, 4)
    return Scene(CANVAS, tuple(world.put(rng, list(KINDS), places))), free


def find(scene: Scene, spec: Spec) -> Finding:
    return compare(spec, look(world.draw(scene)))


def change(scene: Scene, **fields: object) -> Scene:
    return replace(scene, things=(replace(scene.things[0], **fields), *scene.things[1:]))


def moved(scene: Scene, free: str) -> Scene:
    row, column = divmod(PLACES.index(free), 3)
    return change(scene, x=world.CELL_CENTRES[column], y=world.CELL_CENTRES[row])


FAULTS: dict[str, Callable[[Scene, str], Scene]] = {
    "colour": lambda scene, _: change(scene, colour="yellow"),
    "shape": lambda scene, _: change(scene, shape="cross"),
    "size": lambda scene, _: change(scene, radius=world.SIZES["small"]),
    "place": moved,
}


@pytest.mark.parametrize("seed", range(12))
def test_a_picture_without_fault_is_right(seed: int) -> None:
    scene, _ = stage(seed)
    for spec in (detail(scene, sizes=True, canvas=True), detail(scene), describe(scene)):
        finding = find(scene, spec)
        assert finding.right
        assert len(finding.matched) == len(scene.things)
        assert (finding.relation, finding.canvas) == (None, True if spec.canvas else None)
        assert shows(world.draw(scene), spec)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_thing_that_is_not_as_asked(fault: str, seed: int) -> None:
    scene, free = stage(seed)
    asked = detail(scene, sizes=True, canvas=True)
    finding = find(FAULTS[fault](scene, free), asked)
    assert not finding.right
    assert [(w.colour, wrong) for w, _, wrong in finding.matched if wrong] == [("red", (fault,))]
    assert (finding.missing, finding.extra, finding.canvas) == ((), (), True)


@pytest.mark.parametrize("seed", range(12))
def test_what_was_not_said_is_no_fault(seed: int) -> None:
    scene, free = stage(seed)
    asked = describe(scene)
    assert find(FAULTS["size"](scene, free), asked).right
    assert find(FAULTS["place"](scene, free), asked).right
    assert find(replace(scene, canvas="black"), asked).right
    assert not find(FAULTS["colour"](scene, free), asked).right
    assert not find(FAULTS["shape"](scene, free), asked).right


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("detailed", [True, False])
def test_a_thing_missing_or_extra(seed: int, *, detailed: bool) -> None:
    scene, _ = stage(seed)
    fewer = replace(scene, things=scene.things[1:])
    tell = detail if detailed else describe
    missing = find(fewer, tell(scene))
    assert not missing.right
    assert [(w.colour, w.shape) for w in missing.missing] == [("red", "circle")]
    assert missing.extra == ()
    assert all(not wrong for *_, wrong in missing.matched)
    extra = find(scene, tell(fewer))
    assert not extra.right
    assert [(t.colour, t.shape) for t in extra.extra] == [("red", "circle")]
    assert extra.missing == ()
    assert all(not wrong for *_, wrong in extra.matched)


@pytest.mark.parametrize("seen", range(1, 6))
@pytest.mark.parametrize("asked", range(1, 6))
def test_counts(asked: int, seen: int) -> None:
    rng = random.Random(asked)
    things = world.put(rng, [("pink", "heart", "medium")] * seen, rng.sample(PLACES, seen))
    finding = find(Scene("black", tuple(things)), parse(f"{asked} pink hearts"))
    assert finding.right == (asked == seen)
    assert len(finding.missing) == max(0, asked - seen)
    assert len(finding.extra) == max(0, seen - asked)


@pytest.mark.parametrize(
    ("relation", "opposite", "askew", "first", "second"),
    [
        ("above", "below", "left of", "top", "bottom"),
        ("left of", "right of", "above", "left", "right"),
    ],
)
def test_relations(relation: str, opposite: str, askew: str, first: str, second: str) -> None:
    rng = random.Random(relation)
    two = [("red", "circle", "medium"), ("blue", "star", "medium")]
    scene = Scene("white", tuple(world.put(rng, two, [first, second])))
    ask = "a red circle {} a blue star"
    assert find(scene, parse(ask.format(relation))).relation is True
    assert find(scene, parse(ask.format(relation))).right
    for wrong in (opposite, askew):
        finding = find(scene, parse(ask.format(wrong)))
        assert finding.relation is False
        assert not finding.right
        assert (finding.missing, finding.extra) == ((), ())
    assert find(scene, parse(f"a blue star {opposite} a red circle")).right
    assert find(scene, parse("a blue star and a red circle")).relation is None


def test_a_relation_is_between_all_of_one_side_and_all_of_the_other() -> None:
    rng = random.Random("sides")
    three = [("red", "circle", "medium"), ("red", "circle", "medium"), ("blue", "star", "medium")]
    asked = parse("two red circles above a blue star")
    beside = Scene("white", tuple(world.put(rng, three, ["top", "left", "right"])))
    assert find(beside, asked).relation is False
    over = Scene("white", tuple(world.put(rng, three, ["top", "left", "bottom"])))
    assert find(over, asked).right
    gone = replace(over, things=over.things[1:])
    assert find(gone, asked).relation is False


def test_the_canvas() -> None:
    scene, _ = stage(0)
    finding = find(replace(scene, canvas="white"), detail(scene, canvas=True))
    assert finding.canvas is False
    assert not finding.right
    assert all(not wrong for *_, wrong in finding.matched)


def test_like_things_are_fitted_to_their_places() -> None:
    rng = random.Random("fit")
    things = world.put(rng, [("red", "star", "medium")] * 3, ["right", "top", "bottom left"])
    asked = "three red stars: one at the bottom left, one at the right and one at the top"
    assert find(Scene("white", tuple(things)), parse(asked)).right


def test_like_things_are_fitted_so_that_the_relation_holds() -> None:
    rng = random.Random("fit")
    things = world.put(rng, [("red", "star", "medium")] * 2, ["top", "bottom"])
    for relation in ("above", "below"):
        assert find(Scene("white", tuple(things)), parse(f"a red star {relation} a red star")).right


# Odd pictures


def test_touching_things_of_two_colours_are_two() -> None:
    for (left, right), gap in zip(
        [("red", "blue"), ("yellow", "purple"), ("green", "pink"), ("cyan", "orange")],
        [12, 13, 14, 15],
        strict=True,
    ):
        things = Thing("square", left, 24, 32, 8), Thing("circle", right, 24 + gap, 32, 8)
        seen = look(world.draw(Scene("white", things))).things
        assert sorted(t.colour for t in seen) == sorted((left, right))


@pytest.mark.parametrize("canvas", world.CANVASES)
def test_a_blank_canvas_shows_nothing(canvas: str) -> None:
    view = look(Image.new("RGB", (world.SIDE, world.SIDE), world.CANVASES[canvas]))
    assert (view.canvas, view.things, view.specks) == (canvas, (), 0)
    finding = compare(parse("two red circles above a blue star"), view)
    assert (len(finding.missing), finding.relation, finding.right) == (3, False, False)


def test_dirt_is_no_thing_and_a_blob_has_no_shape() -> None:
    image = world.draw(Scene("white", (Thing("heart", "red", 20, 20, 9),)))
    image.paste(world.COLOURS["blue"], (50, 50, 53, 53))
    view = look(image)
    assert (len(view.things), view.specks) == (1, 1)
    blob = Image.new("RGB", (world.SIDE, world.SIDE), "white")
    blob.paste(world.COLOURS["red"], (10, 30, 50, 34))
    (seen,) = look(blob).things
    assert not seen.clear
    finding = compare(parse(f"a red {seen.shape}"), look(blob))
    assert [wrong for *_, wrong in finding.matched] == [("shape",)]


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (64, 32)])
def test_pictures_of_another_size_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="64×64"):
        look(Image.new("RGB", size, "white"))
