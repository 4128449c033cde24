"""What a caption or request says: a `Spec`, apart from its words (`language`).

A request means what it says and nothing else: things that it does not name must not be there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from gcr.pocket import world

RELATIONS = ("above", "below", "left of", "right of")


@dataclass(frozen=True, slots=True)
class Group:
    """Like things. size: empty when unsaid. places: none, or one for each thing."""

    count: int
    colour: str
    shape: str
    size: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """Every thing of the groups `first` stands so to every thing of the groups `second`."""

    name: str
    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing a request asks for. group: index of the group it comes from."""

    colour: str
    shape: str
    size: str
    place: str
    group: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What a caption says. canvas: empty when unsaid."""

    groups: tuple[Group, ...]
    relation: Relation | None = None
    canvas: str = ""

    def wanted(self) -> Iterator[Wanted]:
        for index, g in enumerate(self.groups):
            for place in g.places or ("",) * g.count:
                yield Wanted(g.colour, g.shape, g.size, place, index)


def describe(scene: world.Scene, *, sizes: bool = False, canvas: bool = False) -> Spec:
    """The short spec of a scene: like things in groups, in order of appearance."""
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
    """Like things with places told as lists: "two red stars: one at the top, one at the left"."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for w in spec.wanted():
        places.setdefault((w.colour, w.shape, w.size), []).append(w.place)
    groups = tuple(Group(len(p), *kind, tuple(p)) for kind, p in places.items())
    return Spec(groups, None, spec.canvas)


def relate(spec: Spec, scene: world.Scene, rng: random.Random) -> Spec:
    """Put a relation that holds in the scene into its short spec, if there is one to find."""
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
