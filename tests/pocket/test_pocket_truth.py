"""Truth reads pictures as they are, and finds every kind of fault in them, by its name."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from gcr.pocket import world
from gcr.pocket.language import PLURALS, Spec, Wanted, parse
from gcr.pocket.truth import Finding, Seen, View, compare, look, shows
from gcr.pocket.world import PLACES, Scene, Thing
from pocket_training.captions import describe, detail, relate


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
        soft = np.asarray(world.draw(scene).filter(ImageFilter.GaussianBlur(1.0)))
        grainy = (soft + noise.normal(0, 8, soft.shape)).clip(0, 255).astype(np.uint8)
        right += read_right(Image.fromarray(grainy), scene)
    assert right >= 57


def test_positions_and_radii_are_in_pixels() -> None:
    for shape in world.SHAPES:
        (seen,) = look(world.draw(Scene("white", (Thing(shape, "blue", 45.0, 82.4, 16.8),)))).things
        assert (seen.x, seen.y) == pytest.approx((45.0, 82.4), abs=0.15)
        assert seen.radius == pytest.approx(16.8, abs=0.3)
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
    spec = detail(scene, sizes=True, canvas=True)
    finding = find(FAULTS[fault](scene, free), spec)
    assert not finding.right
    assert [(w.colour, wrong) for w, _, wrong in finding.matched if wrong] == [("red", (fault,))]
    assert (finding.missing, finding.extra, finding.canvas) == ((), (), True)


@pytest.mark.parametrize("seed", range(12))
def test_what_was_not_said_is_no_fault(seed: int) -> None:
    scene, free = stage(seed)
    spec = describe(scene)
    assert find(FAULTS["size"](scene, free), spec).right
    assert find(FAULTS["place"](scene, free), spec).right
    assert find(replace(scene, canvas="black"), spec).right
    assert not find(FAULTS["colour"](scene, free), spec).right
    assert not find(FAULTS["shape"](scene, free), spec).right


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
    spec = parse("two red circles above a blue star")
    beside = Scene("white", tuple(world.put(rng, three, ["top", "left", "right"])))
    assert find(beside, spec).relation is False
    over = Scene("white", tuple(world.put(rng, three, ["top", "left", "bottom"])))
    assert find(over, spec).right
    gone = replace(over, things=over.things[1:])
    assert find(gone, spec).relation is False


def test_the_canvas() -> None:
    scene, _ = stage(0)
    finding = find(replace(scene, canvas="white"), detail(scene, canvas=True))
    assert finding.canvas is False
    assert not finding.right
    assert all(not wrong for *_, wrong in finding.matched)


def test_like_things_are_fitted_to_their_places() -> None:
    rng = random.Random("fit")
    things = world.put(rng, [("red", "star", "medium")] * 3, ["right", "top", "bottom left"])
    request = "three red stars: one at the bottom left, one at the right and one at the top"
    assert find(Scene("white", tuple(things)), parse(request)).right


def test_like_things_are_fitted_so_that_the_relation_holds() -> None:
    rng = random.Random("fit")
    things = world.put(rng, [("red", "star", "medium")] * 2, ["top", "bottom"])
    for relation in ("above", "below"):
        assert find(Scene("white", tuple(things)), parse(f"a red star {relation} a red star")).right


COSTS = {"colour": 1.0, "shape": 1.0, "size": 0.6, "place": 0.8}


def every_fit(spec: Spec, view: View) -> Finding:
    """What `compare` finds, by trying each way to give wanted things seen ones."""
    wanted, seen = list(spec.wanted()), list(view.things)
    spare = max(0, len(wanted) - len(seen))
    best: tuple[float, Finding] | None = None
    for trial in itertools.permutations([*seen, *([None] * spare)], len(wanted)):
        pairs = [(w, s, faults(w, s)) for w, s in zip(wanted, trial, strict=True) if s]
        relation = None
        if spec.relation:
            first, second = (
                [s for w, s in zip(wanted, trial, strict=True) if w.group in side]
                for side in (spec.relation.first, spec.relation.second)
            )
            relation = all(
                bool(a and b) and world.stands(a, spec.relation.name, b)
                for a in first
                for b in second
            )
        cost = sum(COSTS[name] for *_, names in pairs for name in names)
        cost += 2.5 * (len(wanted) - len(pairs)) + (relation is False)
        if best is None or cost < best[0] - 1e-9:
            best = (
                cost,
                Finding(
                    tuple(pairs),
                    tuple(w for w, s in zip(wanted, trial, strict=True) if s is None),
                    tuple(s for s in seen if all(s is not t for t in trial)),
                    relation,
                    spec.canvas == view.canvas if spec.canvas else None,
                ),
            )
    assert best
    return best[1]


def faults(wanted: Wanted, seen: Seen) -> tuple[str, ...]:
    shape = seen.shape if seen.clear else "blob"
    attributes = {"colour": seen.colour, "shape": shape, "size": seen.size, "place": seen.place}
    return tuple(
        name
        for name, value in attributes.items()
        if getattr(wanted, name) and getattr(wanted, name) != value
    )


def muddled(rng: random.Random) -> tuple[Spec, View]:
    """A request, and a picture of something like it: few kinds, so that many fits come close."""
    pairs = tuple((c, s) for c in ("red", "blue") for s in ("star", "heart"))
    scene, shown = world.sample(rng, pairs), world.sample(rng, pairs)
    tell = detail if rng.random() < 0.4 else describe
    spec = tell(scene, sizes=rng.random() < 0.5, canvas=rng.random() < 0.5)
    if rng.random() < 0.7:
        spec = relate(spec, scene, rng)
    things = shown.things if rng.random() < 0.5 else scene.things
    things = rng.sample(things, rng.randint(1, len(things)))
    seen = [
        Seen(t.shape, t.colour, t.x, t.y, t.radius, clarity=rng.choice((1.0, 1.0, 0.3)))
        for t in (*things, *shown.things[: rng.randint(0, 2)])
    ]
    return spec, View(shown.canvas, tuple(seen))


def test_the_fit_is_the_best_of_all_there_are() -> None:
    rng = random.Random("fits")
    numbers = set()
    for _ in range(400):
        spec, view = muddled(rng)
        finding = compare(spec, view)
        assert finding == every_fit(spec, view), (spec, view)
        numbers.add((len(finding.missing) > 0, len(finding.extra) > 0, finding.relation))
    assert len(numbers) >= 8


# Odd pictures


def test_touching_things_of_two_colours_are_two() -> None:
    for (left, right), gap in zip(
        [("red", "blue"), ("yellow", "purple"), ("green", "pink"), ("cyan", "orange")],
        [24, 26, 28, 30],
        strict=True,
    ):
        things = Thing("square", left, 48, 64, 16), Thing("circle", right, 48 + gap, 64, 16)
        seen = look(world.draw(Scene("white", things))).things
        assert sorted(t.colour for t in seen) == sorted((left, right))


@pytest.mark.parametrize(
    ("colour", "shade"),
    [("yellow", "orange"), ("orange", "red"), ("blue", "cyan"), ("purple", "blue")],
)
def test_a_thing_that_is_darker_on_one_side_is_one(colour: str, shade: str) -> None:
    """Its paint changes from side to side, over the border between two of the world's colours, and
    by less than they differ.
    """
    scene = Scene("white", (Thing("heart", colour, 64.0, 64.0, 18.0),))
    flat = np.asarray(world.draw(scene), dtype=np.float32)
    first, second = (np.array(world.COLOURS[name], dtype=np.float32) for name in (colour, shade))
    across = np.linspace(0.15, 0.85, world.SIDE)[None, :, None]
    cover = (255 - flat[..., 2:] if colour == "yellow" else 255 - flat).max(-1, keepdims=True)
    paint = first + (second - first) * across
    inside = cover > 40
    picture = np.where(inside, paint, 255).round().astype(np.uint8)
    (seen,) = look(Image.fromarray(picture)).things
    assert seen.shape == "heart"
    assert seen.clarity > 0.85
    assert seen.colour in {colour, shade}


WIDTHS = {"circle": 0.95, "triangle": 1.0, "heart": 1.0, "cross": 1.0}
"""Half the greatest width of a thing, in radii."""


@pytest.mark.parametrize("size", world.SIZES)
@pytest.mark.parametrize("shape", WIDTHS)
def test_touching_things_of_one_colour_are_two(shape: str, size: str) -> None:
    radius = world.SIZES[size]
    left = Thing(shape, "red", 40.0, 64.0, radius)
    right = replace(left, x=left.x + 2 * WIDTHS[shape] * radius - 1.5)
    scene = Scene("white", (left, right))
    assert read_right(world.draw(scene), scene)
    assert find(scene, parse(f"two red {PLURALS[shape]}")).right


def test_things_that_run_together_are_read_one_by_one() -> None:
    """Crosses whose arms are one: as a whole they are like no shape."""
    left = Thing("cross", "purple", 48.0, 64.0, 17.0)
    image = world.draw(Scene("grey", (left, replace(left, x=80.0))))
    ImageDraw.Draw(image).rectangle((60, 57, 68, 71), fill=world.COLOURS["purple"])
    assert shows(image, parse("two purple crosses"))


@pytest.mark.parametrize("shape", WIDTHS)
def test_a_row_of_touching_things_is_read_one_by_one(shape: str) -> None:
    step = 2 * WIDTHS[shape] * 15.0 - 1.5
    things = tuple(Thing(shape, "blue", 24.0 + i * step, 60.0, 15.0) for i in range(3))
    assert kinds(look(world.draw(Scene("grey", things))).things) == kinds(things)


@pytest.mark.parametrize("canvas", world.CANVASES)
def test_a_blank_canvas_shows_nothing(canvas: str) -> None:
    view = look(Image.new("RGB", (world.SIDE, world.SIDE), world.CANVASES[canvas]))
    assert (view.canvas, view.things, view.specks) == (canvas, (), 0)
    finding = compare(parse("two red circles above a blue star"), view)
    assert (len(finding.missing), finding.relation, finding.right) == (3, False, False)


def test_dirt_is_no_thing_and_a_blob_has_no_shape() -> None:
    image = world.draw(Scene("white", (Thing("heart", "red", 40, 40, 18),)))
    image.paste(world.COLOURS["blue"], (100, 100, 107, 107))
    view = look(image)
    assert (len(view.things), view.specks) == (1, 1)
    blob = Image.new("RGB", (world.SIDE, world.SIDE), "white")
    blob.paste(world.COLOURS["red"], (20, 60, 100, 68))
    (seen,) = look(blob).things
    assert not seen.clear
    finding = compare(parse(f"a red {seen.shape}"), look(blob))
    assert [wrong for *_, wrong in finding.matched] == [("shape",)]


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (128, 64)])
def test_pictures_of_another_size_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="128×128"):
        look(Image.new("RGB", size, "white"))
