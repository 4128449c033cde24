"""Captions: what they say of a scene, and how that is written.

Those to train on are half detailed and true, half short and, like the web's, often wrong.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

from gcr.pocket import world
from gcr.pocket.language import (
    COUNTS,
    PLURALS,
    PREFIXES,
    RELATIONS,
    Group,
    Relation,
    Spec,
    Wanted,
    join,
)

DETAILED = 0.55  # share of captions that give every thing's place
RELATED = 0.5  # of the short captions of several kinds: try to state a relation
SIZED = 0.25  # share of captions that give every thing's size
WRONG_GROUP = 0.2  # of the groups of a short caption: colour, shape, count or size
LEFT_OUT = 0.15  # of the short captions of several groups: one of them


def spec_of(  # noqa: PLR0913 - the scene, and how captions of it vary
    scene: world.Scene,
    rng: random.Random,
    *,
    noisy: bool = True,
    detailed: float = DETAILED,
    related: float = RELATED,
    sized: float = SIZED,
) -> Spec:
    """What a caption of this scene says. detailed, related, sized: shares, as DETAILED, RELATED
    and SIZED.
    """
    sizes, canvas = rng.random() < sized, rng.random() < 0.35
    things = list(scene.things)
    rng.shuffle(things)
    shuffled = replace(scene, things=tuple(things))
    if rng.random() < detailed:
        spec = detail(shuffled, sizes=sizes, canvas=canvas)
        return gather(spec) if rng.random() < 0.3 else spec
    spec = describe(shuffled, sizes=sizes, canvas=canvas)
    if rng.random() < related:
        spec = relate(spec, scene, rng)
    return blur(spec, rng) if noisy else spec


def blur(spec: Spec, rng: random.Random) -> Spec:
    """A short caption as careless people write it: kinds and counts go wrong.

    Its relation says nothing: captions of the web hold next to nothing reliable about where things
    stand, and models trained on them do poorly at it (Kamath et al., 2023).
    """
    relation = spec.relation
    if relation:
        relation = Relation(rng.choice(RELATIONS), relation.first, relation.second)
    groups = [changed(g, rng) if rng.random() < WRONG_GROUP else g for g in spec.groups]
    if not relation and len(groups) > 1 and rng.random() < LEFT_OUT:
        groups.pop(rng.randrange(len(groups)))
    while sum(g.count for g in groups) > world.MOST:
        most = max(range(len(groups)), key=lambda i: groups[i].count)
        groups[most] = replace(groups[most], count=groups[most].count - 1)
    return Spec(tuple(groups), relation, spec.canvas)


def changed(group: Group, rng: random.Random) -> Group:
    """The group with one of the things it says changed."""
    said = ["colour", "shape", "place" if group.places else "count", *(["size"] * bool(group.size))]
    what = rng.choice(said)
    if what == "count":
        return replace(group, count=max(1, min(world.MOST, group.count + rng.choice((-1, 1)))))
    if what == "size":
        return replace(group, size=rng.choice([s for s in world.SIZES if s != group.size]))
    if what == "place":
        free = [p for p in world.PLACES if p not in group.places]
        places = list(group.places)
        places[rng.randrange(group.count)] = rng.choice(free)
        return replace(group, places=tuple(places))
    kinds = [
        (c, s)
        for c, s in world.TRAINING_PAIRS
        if (
            c != group.colour and s == group.shape
            if what == "colour"
            else c == group.colour and s != group.shape
        )
    ]
    colour, shape = rng.choice(kinds)
    return replace(group, colour=colour, shape=shape)


def near_miss(spec: Spec, rng: random.Random) -> Spec:
    """The request with one of the things it says changed: a group, a size, the relation or the
    canvas; or with a thing less, so that a picture that met it shows that thing too many; or with
    as many things, one of them like another.
    """
    several = sum(g.count for g in spec.groups) > 1
    sized = [i for i, g in enumerate(spec.groups) if g.size]
    kinds = {
        "group": 3,
        "size": 2 * bool(sized),
        "relation": 3 * bool(spec.relation),
        "canvas": bool(spec.canvas),
        "fewer": 3 * several,
        "shifted": 3 * (len({(g.colour, g.shape, g.size) for g in spec.groups}) > 1),
    }
    (what,) = rng.choices(list(kinds), list(kinds.values()))
    if what == "fewer":
        return fewer(spec, rng)
    if what == "shifted":
        return shifted(spec, rng)
    if what == "size":
        groups = list(spec.groups)
        i = rng.choice(sized)
        others = [size for size in world.SIZES if size != groups[i].size]
        groups[i] = replace(groups[i], size=rng.choice(others))
        return replace(spec, groups=tuple(groups))
    if spec.relation and what == "relation":
        others = [name for name in RELATIONS if name != spec.relation.name]
        return replace(spec, relation=replace(spec.relation, name=rng.choice(others)))
    if what == "canvas":
        return replace(spec, canvas=rng.choice([c for c in world.CANVASES if c != spec.canvas]))
    while True:  # one thing too many is seldom
        groups = list(spec.groups)
        i = rng.randrange(len(groups))
        groups[i] = changed(groups[i], rng)
        if sum(g.count for g in groups) <= world.MOST and groups[i] != spec.groups[i]:
            return replace(spec, groups=tuple(groups))


def shifted(spec: Spec, rng: random.Random) -> Spec:
    """The request with a thing less of one of its several kinds, and a thing more of another: as
    many things, so that to count them all tells nothing.
    """
    groups = list(spec.groups)
    kinds = [(g.colour, g.shape, g.size) for g in groups]
    lost = rng.randrange(len(groups))
    won = rng.choice([i for i, kind in enumerate(kinds) if kind != kinds[lost]])
    places = list(groups[lost].places)
    place = (places.pop(rng.randrange(len(places))),) if places else ()
    groups[lost] = replace(groups[lost], count=groups[lost].count - 1, places=tuple(places))
    if bool(groups[won].places) == bool(place):
        groups[won] = replace(
            groups[won], count=groups[won].count + 1, places=groups[won].places + place
        )
    return without(replace(spec, groups=tuple(groups)), lost)


def fewer(spec: Spec, rng: random.Random) -> Spec:
    """The request without one of its two or more things, and without a relation to nothing."""
    groups = list(spec.groups)
    (i,) = rng.choices(range(len(groups)), [g.count for g in groups])
    places = list(groups[i].places)
    if places:
        places.pop(rng.randrange(len(places)))
    groups[i] = replace(groups[i], count=groups[i].count - 1, places=tuple(places))
    return without(replace(spec, groups=tuple(groups)), i)


def without(spec: Spec, i: int) -> Spec:
    """The request as it is, or where group i has no thing left, without the group."""
    if spec.groups[i].count:
        return spec
    relation = spec.relation
    if relation is not None:
        first, second = (
            tuple(j - (j > i) for j in side if j != i) for side in (relation.first, relation.second)
        )
        relation = Relation(relation.name, first, second) if first and second else None
    return Spec(spec.groups[:i] + spec.groups[i + 1 :], relation, spec.canvas)


# What a scene means


def describe(scene: world.Scene, *, sizes: bool = False, canvas: bool = False) -> Spec:
    """The short spec of a scene: things that are alike in groups, in order of appearance."""
    kinds = Counter((t.colour, t.shape, t.size if sizes else "") for t in scene.things)
    groups = tuple(Group(n, *kind) for kind, n in kinds.items())
    return Spec(groups, None, scene.canvas if canvas else "")


def detail(scene: world.Scene, *, sizes: bool = False, canvas: bool = False) -> Spec:
    """The detailed spec of a scene: every thing with its place."""
    groups = tuple(
        Group(1, t.colour, t.shape, t.size if sizes else "", (t.place,)) for t in scene.things
    )
    return Spec(groups, None, scene.canvas if canvas else "")


def gather(spec: Spec) -> Spec:
    """Things that are alike as one group with places: "two red stars: one at the top, …"."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for w in spec.wanted():
        places.setdefault((w.colour, w.shape, w.size), []).append(w.place)
    groups = tuple(Group(len(p), *kind, tuple(p)) for kind, p in places.items())
    return Spec(groups, None, spec.canvas)


def relate(spec: Spec, scene: world.Scene, rng: random.Random) -> Spec:
    """Add a relation that holds in the scene to its short spec, if a few tries find one."""
    if len(spec.groups) < 2:
        return spec
    things = [
        [
            t
            for t in scene.things
            if (t.colour, t.shape, g.size and t.size) == (g.colour, g.shape, g.size)
        ]
        for g in spec.groups
    ]
    order = list(range(len(spec.groups)))
    for _ in range(6):
        rng.shuffle(order)
        border, name = rng.randint(1, len(order) - 1), rng.choice(RELATIONS)
        first = [t for i in order[:border] for t in things[i]]
        second = [t for i in order[border:] for t in things[i]]
        if all(world.stands(a, name, b) for a in first for b in second):
            groups = tuple(spec.groups[i] for i in order)
            sides = tuple(range(border)), tuple(range(border, len(order)))
            return Spec(groups, Relation(name, *sides), spec.canvas)
    return spec


# Writing


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption.

    Attributes:
        text: the word or mark.
        names: the thing that it names: shape words do, and "one" in a list of places.
    """

    text: str
    names: Wanted | None = None


def say(spec: Spec, rng: random.Random | None = None) -> str:
    """A caption for a spec. rng: varies the words; None: the plainest ones."""
    return join([word.text for word in phrase(spec, rng)])


def phrase(spec: Spec, rng: random.Random | None = None) -> list[Word]:
    """The words of a caption, each shape word marked with what it names."""
    words = _plain(rng.choice(PREFIXES)) if rng and rng.random() < 0.15 else []
    second = spec.relation.second[0] if spec.relation else len(spec.groups)
    for index, group in enumerate(spec.groups):
        if spec.relation and index == second:
            words += _plain(_say_relation(spec.relation.name, rng))
        elif index:
            last = index + 1 in (second, len(spec.groups))
            words += _plain(_say_and(rng) if last else ",")
        words += _say_group(index, group, rng)
    if spec.canvas:
        words += _say_canvas(spec.canvas, rng)
    return words


def _plain(text: str) -> list[Word]:
    return [Word(word) for word in text.split()]


def _say_and(rng: random.Random | None) -> str:
    """The words before the last group of a side."""
    return rng.choices(("and", ", and", ","), (0.75, 0.15, 0.1))[0] if rng else "and"


def _say_relation(name: str, rng: random.Random | None) -> str:
    if rng is None or rng.random() < 0.6:
        return name
    return {"above": "over", "below": "under"}.get(name, f"to the {name}")


def _say_canvas(canvas: str, rng: random.Random | None) -> list[Word]:
    if rng is None:
        return _plain(f"on a {canvas} canvas")
    word = "gray" if canvas == "grey" and rng.random() < 0.3 else canvas
    return _plain(rng.choice((f"on a {word} canvas", f"on a {word} background", f"on {word}")))


def _say_group(index: int, group: Group, rng: random.Random | None) -> list[Word]:
    count = COUNTS[group.count - 1]
    size = group.size
    if rng and rng.random() < 0.2:
        count = "one" if group.count == 1 else str(group.count)
    if rng and rng.random() < 0.2:
        size = {"large": "big", "small": "little"}.get(size, size)
    if count == "a" and (size or group.colour)[0] in "aeiou":
        count = "an"
    noun = group.shape if group.count == 1 else PLURALS[group.shape]
    place = group.places[0] if group.count == 1 and group.places else ""
    thing = Wanted(group.colour, group.shape, group.size, place, index)
    words = [*_plain(f"{count} {size} {group.colour}"), Word(noun, thing)]
    if place:
        return words + _plain(_say_place(place, rng))
    if group.places:
        words.append(Word(":"))
        for i, where in enumerate(group.places):
            words += _plain("" if not i else ", and" if i == group.count - 1 else ",")
            words += [Word("one", replace(thing, place=where)), *_plain(_say_place(where, rng))]
    return words


def _say_place(place: str, rng: random.Random | None) -> str:
    if rng is None:
        return f"at the {place}"
    word = rng.choice(("center", "center", "centre", "middle")) if place == "center" else place
    return f"{rng.choice(('at', 'at', 'in'))} the {word}"
