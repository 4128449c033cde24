"""Captions to train on: half detailed and true, half short and, like the web's, often wrong."""

from __future__ import annotations

import random
from dataclasses import replace

from gcr.pocket import world
from gcr.pocket.spec import RELATIONS, Group, Relation, Spec, describe, detail, gather, relate

DETAILED = 0.55  # share of captions that give every thing's place
WRONG_RELATION = 0.4  # of the short captions that state one
WRONG_GROUP = 0.25  # of the groups of a short caption: colour, shape, count or presence


def spec_of(scene: world.Scene, rng: random.Random, *, noisy: bool = True) -> Spec:
    """What a caption of this scene says."""
    sizes, canvas = rng.random() < 0.25, rng.random() < 0.35
    things = list(scene.things)
    rng.shuffle(things)
    shuffled = replace(scene, things=tuple(things))
    if rng.random() < DETAILED:
        spec = detail(shuffled, sizes=sizes, canvas=canvas)
        return gather(spec) if rng.random() < 0.3 else spec
    spec = describe(shuffled, sizes=sizes, canvas=canvas)
    if rng.random() < 0.5:
        spec = relate(spec, scene, rng)
    return blur(spec, rng) if noisy else spec


def blur(spec: Spec, rng: random.Random, *, wrong: float = WRONG_GROUP) -> Spec:
    """A short caption as careless people write it: relations, kinds and counts go wrong."""
    relation = spec.relation
    if relation and rng.random() < WRONG_RELATION:
        relation = Relation(rng.choice(RELATIONS), relation.first, relation.second)
    groups = [_blurred(g, rng) if rng.random() < wrong else g for g in spec.groups]
    if not relation and len(groups) > 1 and rng.random() < 0.15:
        groups.pop(rng.randrange(len(groups)))
    while sum(g.count for g in groups) > world.MOST:
        most = max(range(len(groups)), key=lambda i: groups[i].count)
        groups[most] = replace(groups[most], count=groups[most].count - 1)
    return Spec(tuple(groups), relation, spec.canvas)


def _blurred(group: Group, rng: random.Random) -> Group:
    what = rng.choice(("colour", "shape", "count"))
    if what == "count":
        return replace(group, count=max(1, min(world.MOST, group.count + rng.choice((-1, 1)))))
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
