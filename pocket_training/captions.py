"""Captions to train on: half detailed and true, half short and, like the web's, often wrong."""

from __future__ import annotations

import random
from dataclasses import replace

from gcr.pocket import world
from gcr.pocket.language import RELATIONS, Group, Relation, Spec, describe, detail, gather, relate

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
    """The request with one of the things it says changed: a group, the relation or the canvas; or
    with a thing less, so that a picture that met it shows that thing too many.
    """
    several = sum(g.count for g in spec.groups) > 1
    weights = (3, 3 * bool(spec.relation), bool(spec.canvas), 3 * several)
    (what,) = rng.choices(("group", "relation", "canvas", "fewer"), weights)
    if what == "fewer":
        return fewer(spec, rng)
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


def fewer(spec: Spec, rng: random.Random) -> Spec:
    """The request without one of its two or more things, and without a relation to nothing."""
    groups = list(spec.groups)
    (i,) = rng.choices(range(len(groups)), [g.count for g in groups])
    if groups[i].count > 1:
        places = list(groups[i].places)
        if places:
            places.pop(rng.randrange(len(places)))
        groups[i] = replace(groups[i], count=groups[i].count - 1, places=tuple(places))
        return replace(spec, groups=tuple(groups))
    del groups[i]
    relation = spec.relation
    if relation is not None:
        first, second = (
            tuple(j - (j > i) for j in side if j != i) for side in (relation.first, relation.second)
        )
        relation = Relation(relation.name, first, second) if first and second else None
    return Spec(tuple(groups), relation, spec.canvas)
