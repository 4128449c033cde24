"""What is written can be read back, in any wording; what the language cannot say is refused."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from gcr.pocket import world
from gcr.pocket.language import (
    PLURALS,
    RELATIONS,
    WORDS,
    Group,
    OutsideLanguageError,
    Relation,
    Spec,
    Wanted,
    join,
    parse,
    split,
    unknown_words,
)
from pocket_training.captions import describe, detail, gather, phrase, relate, say


def some_group(rng: random.Random, most: int) -> Group:
    count = rng.randint(1, most)
    places = tuple(rng.choices(world.PLACES, k=count)) if rng.random() < 0.4 else ()
    size = rng.choice(("", *world.SIZES))
    return Group(count, *rng.choice(world.PAIRS), size, places)


def some_spec(rng: random.Random) -> Spec:
    """Any spec at all, true of a scene or not."""
    groups = [some_group(rng, world.MOST)]
    while (left := world.MOST - sum(g.count for g in groups)) and rng.random() < 0.7:
        groups.append(some_group(rng, left))
    relation = None
    if len(groups) > 1 and rng.random() < 0.5:
        every = tuple(range(len(groups)))
        border = rng.randint(1, len(groups) - 1)
        relation = Relation(rng.choice(RELATIONS), every[:border], every[border:])
    return Spec(tuple(groups), relation, rng.choice(("", *world.CANVASES)))


@pytest.mark.parametrize("wording", ["plain", "varied"])
def test_what_is_said_reads_back_as_it_was_meant(wording: str) -> None:
    rng = random.Random(wording)
    specs = [some_spec(rng) for _ in range(1500)]
    for spec in specs:
        text = say(spec, rng if wording == "varied" else None)
        assert parse(text) == spec, text
        assert unknown_words(text) == []
    assert len({say(spec).count(":") for spec in specs}) > 2
    assert {spec.relation.name for spec in specs if spec.relation} == set(RELATIONS)


def test_the_last_group_of_each_side_is_joined_as_people_do() -> None:
    a, b = Group(2, "red", "circle"), Group(1, "blue", "star")
    below = Group(1, "green", "square")
    one_side = Spec((a, b, below), None)
    two_sides = Spec((a, b, below), Relation("above", (0, 1), (2,)))
    assert say(one_side) == "two red circles, a blue star and a green square"
    assert say(two_sides) == "two red circles and a blue star above a green square"
    rng = random.Random("joints")
    joints = {tuple(split(say(two_sides, rng))) for _ in range(400)}
    ends = [" ".join(words).partition("circles ")[2] for words in joints]
    for joint in ("and", ", and", ","):
        assert any(end.startswith((f"{joint} a blue", f"{joint} one blue")) for end in ends)


def test_words_of_a_caption_know_what_they_name() -> None:
    rng = random.Random("names")
    for _ in range(300):
        spec = some_spec(rng)
        words = phrase(spec, rng)
        texts = [word.text for word in words]
        assert split(join(texts)) == texts
        named = [word for word in words if word.names]
        for word in named:
            group = spec.groups[word.names.group]
            assert (word.names.colour, word.names.shape) == (group.colour, group.shape)
            assert word.text in {group.shape, PLURALS[group.shape], "one"}
        placed = [word.names.place for word in named if word.names.place]
        assert placed == [place for group in spec.groups for place in group.places]


def test_every_wording_occurs() -> None:
    rng = random.Random("wordings")
    said = {word for _ in range(1500) for word in split(say(some_spec(rng), rng))}
    assert said == WORDS - {".", "1"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a red circle", "One RED circle."),
        ("a red circle", "1 red circle"),
        ("an orange star", "a orange star"),
        ("three red circles", "3 red circle"),
        ("a large red cross", "a big red cross"),
        ("a small red cross", "an image of a little red cross"),
        ("a red star at the center", "a red star in the middle"),
        ("a red star at the center", "a red star at the centre"),
        ("a red star on a grey canvas", "a red star on gray"),
        ("a red star on a grey canvas", "a red star, on a gray background"),
        ("a red star above a blue heart", "a red star over a blue heart"),
        ("a red star below a blue heart", "a red star under a blue heart"),
        ("a red star left of a blue heart", "a red star to the left of a blue heart"),
        (
            "a red star, a blue heart and a pink star",
            "a red star and a blue heart, and a pink star",
        ),
    ],
)
def test_synonyms(one: str, other: str) -> None:
    assert parse(other) == parse(one)


def test_lists_of_places_end_where_the_next_group_begins() -> None:
    spec = parse(
        "two red stars: one at the top, and one at the left and one red circle at the right"
    )
    assert spec.groups == (
        Group(2, "red", "star", "", ("top", "left")),
        Group(1, "red", "circle", "", ("right",)),
    )
    spec = parse("two red stars: one in the top right, one at the left and one red circle")
    assert spec.groups[0].places == ("top right", "left")
    assert spec.groups[1] == Group(1, "red", "circle")


@pytest.mark.parametrize("corner", ["top", "bottom", "left", "right", "center"])
@pytest.mark.parametrize("side", ["left of", "right of"])
def test_a_place_is_not_taken_for_half_a_relation(corner: str, side: str) -> None:
    spec = parse(f"a red star at the {corner} {side} a blue heart")
    assert spec.groups[0].places == (corner,)
    assert spec.relation == Relation(side, (0,), (1,))


def test_a_relation_holds_between_all_before_it_and_all_after() -> None:
    spec = parse("a red star, two blue hearts left of a pink cross and a red cross on black")
    assert spec.relation == Relation("left of", (0, 1), (2, 3))
    assert spec.canvas == "black"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat on a mat",
        "a red",
        "red circle",
        "a circle",
        "a red circle and",
        "a red circle a blue star",
        "a red circle above",
        "a red circle above on white",
        "a red circle above a blue star above a pink heart",
        "a red circle on a",
        "a red circle on a mat",
        "a red circle. a blue star",
        "two red circles: one at the top",
        "a red circle: one at the top, one at the left",
        "a red circle at the window",
        "two red circles at the top",
        "three red circles and three blue stars",
        "six red circles",
        "a circle red",
        "ein roter Kreis",
    ],
)
def test_what_the_language_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(OutsideLanguageError, match="does not go on with"):
        parse(text)


def test_the_refusal_says_where() -> None:
    with pytest.raises(OutsideLanguageError, match=r"go on with: mat under$"):
        parse("a red circle and a green mat under")
    with pytest.raises(OutsideLanguageError, match=r"go on with: the end$"):
        parse("a red circle and")


def test_unknown_words_come_in_order_and_once() -> None:
    assert unknown_words("A red Cat on a mat, a CAT on a grey canvas!") == [
        "cat",
        "mat",
        "!",
    ]
    assert unknown_words("Two big red circles over a little gray") == []
    assert unknown_words("") == []


# Specs of scenes


def scenes(count: int) -> list[world.Scene]:
    rng = random.Random("specs")
    return [world.sample(rng) for _ in range(count)]


def told(spec: Spec) -> list[tuple[str, ...]]:
    return sorted((w.colour, w.shape, w.size, w.place) for w in spec.wanted())


def test_a_description_counts_and_a_detailed_one_places() -> None:
    for scene in scenes(200):
        things = sorted((t.colour, t.shape, t.size, t.place) for t in scene.things)
        short = describe(scene, sizes=True, canvas=True)
        assert told(short) == sorted((c, s, size, "") for c, s, size, _ in things)
        assert short.canvas == scene.canvas
        assert len(short.groups) == len({thing[:3] for thing in things})
        assert told(detail(scene, sizes=True)) == things
        assert told(gather(detail(scene, sizes=True))) == things
        assert told(detail(scene)) == sorted((c, s, "", place) for c, s, _, place in things)
        assert detail(scene).canvas == ""


def test_gathered_things_are_one_group() -> None:
    apart = parse("a red star at the left, a blue heart at the top and a red star at the right")
    together = "two red stars: one at the left, and one at the right and a blue heart at the top"
    assert gather(apart) == parse(together)


def test_relations_that_are_found_hold() -> None:
    rng = random.Random("relations")
    found = 0
    for scene in scenes(300):
        plain = describe(scene)
        spec = relate(plain, scene, rng)
        assert told(spec) == told(plain)
        if spec.relation is None:
            assert spec == plain
            continue
        found += 1
        sides = [
            [t for i in side for t in scene.things
             if (t.colour, t.shape) == (spec.groups[i].colour, spec.groups[i].shape)]
            for side in (spec.relation.first, spec.relation.second)
        ]  # fmt: skip
        axis, sign = {"above": ("y", 1), "below": ("y", -1),
                      "left of": ("x", 1), "right of": ("x", -1)}[spec.relation.name]  # fmt: skip
        first, second = ([sign * getattr(t, axis) for t in side] for side in sides)
        assert first
        assert second
        assert max(first) < min(second)
    assert found > 100


def test_a_wanted_thing_has_its_place_or_none() -> None:
    group = Group(2, "red", "star", "small", ("top", "left"))
    assert list(Spec((group,)).wanted()) == [
        Wanted("red", "star", "small", "top", 0),
        Wanted("red", "star", "small", "left", 0),
    ]
    assert [w.place for w in Spec((replace(group, places=()),)).wanted()] == ["", ""]
