"""The meaning of a caption or request, without its words (`language`).

A request is complete: things that it does not name must not be in the picture.
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
    """Things that are alike.

    Attributes:
        count: how many.
        colour: of each.
        shape: of each.
        size: of each; empty: any.
        places: one for each thing, or none.
    """

    count: int
    colour: str
    shape: str
    size: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """How every thing of some groups is placed to every thing of others.

    Attributes:
        name: one of RELATIONS.
        first: indices of the groups that are above, below, left of or right of the others.
        second: indices of those others.
    """

    name: str
    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that a request asks for.

    Attributes:
        colour: of it.
        shape: of it.
        size: of it; empty: any.
        place: of it; empty: any.
        group: index of its group.
    """

    colour: str
    shape: str
    size: str
    place: str
    group: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What a caption or request says.

    Attributes:
        groups: the things.
        relation: between groups; None: none is named.
        canvas: its colour; empty: any.
    """

    groups: tuple[Group, ...]
    relation: Relation | None = None
    canvas: str = ""

    def wanted(self) -> Iterator[Wanted]:
        """Every single thing that is asked for."""
        for index, g in enumerate(self.groups):
            for place in g.places or ("",) * g.count:
                yield Wanted(g.colour, g.shape, g.size, place, index)


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
