"""Questions about pictures, and their answers from what truth reads in them.

Yes/no questions, the checklists that requests are taken apart into, and which of two pictures is
the better answer to a request.
"""

from __future__ import annotations

import random

from gcr.pocket import world
from gcr.pocket.language import PLURALS, RELATIONS, Spec
from gcr.pocket.truth import Seen, View
from pocket_training.replies import Rewrite, article, judge

Kind = tuple[str, str]
"""A colour and a shape."""

KINDS = (
    *("kind", "kind", "count", "place", "relation", "canvas"),
    *("size", "order", "order", "total"),
)
NUMBERS = ("one", "two", "three", "four", "five")
LINE = "\n{} |"  # the number of a question in a checklist


def ask(view: View, rng: random.Random) -> tuple[str, bool]:
    """A yes/no question about an image and its answer: of each kind, half are yes.

    A critic that is asked one kind with mostly one answer learns the answer without looking.
    """
    asks, wanted = rng.choice(KINDS), rng.random() < 0.5
    tries = [_ask(view, rng, asks) for _ in range(40)]
    return next((found for found in tries if found[1] == wanted), tries[0])


def _ask(view: View, rng: random.Random, asks: str) -> tuple[str, bool]:
    if asks == "canvas":
        name = rng.choice(list(world.CANVASES))
        return _canvas(name), name == view.canvas
    if asks == "total":
        count = rng.randint(1, world.MOST)
        return _total(count), len(view.things) == count
    things = [t for t in view.things if t.clear]
    kinds = list(dict.fromkeys((t.colour, t.shape) for t in things))
    present = rng.choice(kinds or world.TRAINING_PAIRS)
    if asks == "count" and len(kinds) < len(things):
        count = rng.randint(2, world.MOST)
        return _count(present, count), len(_like(present, things)) == count
    kind = present if rng.random() < 0.6 else _near(present, rng)
    others = [k for k in kinds if k != kind]
    if asks in ("relation", "order") and others:
        return _about_two(kind, rng.choice(others), things, rng, every=asks == "order")
    return _about_one(kind, _like(kind, things), rng, asks)


def _about_one(kind: Kind, like: list[Seen], rng: random.Random, asks: str) -> tuple[str, bool]:
    if asks == "size":
        size = rng.choice(list(world.SIZES))
        return _there(kind, size=size), any(t.size == size for t in like)
    if asks == "place":
        place = rng.choice(world.PLACES)
        return _there(kind, place=place), any(t.place == place for t in like)
    return _there(kind), bool(like)


def _about_two(
    kind: Kind, other: Kind, things: list[Seen], rng: random.Random, *, every: bool
) -> tuple[str, bool]:
    name = rng.choice(RELATIONS)
    holds = [world.stands(a, name, b) for a in _like(kind, things) for b in _like(other, things)]
    if every:
        return _in_order(kind, name, other), bool(holds) and all(holds)
    return f"{_there(kind)[:-1]} {name} the {' '.join(other)}?", any(holds)


def _like(kind: Kind, things: list[Seen]) -> list[Seen]:
    return [t for t in things if (t.colour, t.shape) == kind]


def _there(kind: Kind, *, size: str = "", place: str = "") -> str:
    noun = " ".join(filter(None, (size, *kind)))
    return f"is there {article(noun)} {noun}{place and f' at the {place}'}?"


def _count(kind: Kind, count: int) -> str:
    return f"are there {NUMBERS[count - 1]} {kind[0]} {PLURALS[kind[1]]}?"


def _total(count: int) -> str:
    """Whether there are so many things and no more."""
    return "is there one shape?" if count == 1 else f"are there {NUMBERS[count - 1]} shapes?"


def _canvas(name: str) -> str:
    return f"is the canvas {name}?"


def _in_order(first: Kind, relation: str, second: Kind) -> str:
    """Whether all of one kind stand so to all of another."""
    return f"is every {' '.join(first)} {relation} every {' '.join(second)}?"


def checklist(spec: Spec) -> str:
    """The request as a checklist: `number | kind | needs | question?` on each line.

    In the language of pocket what is not asked for must not be there, so the last question is how
    many shapes there are.
    """
    lines: list[tuple[str, str, str]] = []
    objects: dict[Kind, int] = {}
    for group in spec.groups:
        kind = group.colour, group.shape
        if kind not in objects:
            lines.append(("object", "-", _there(kind)))
            objects[kind] = len(lines)
    for kind, number in objects.items():
        alike = [g for g in spec.groups if (g.colour, g.shape) == kind]
        count = sum(g.count for g in alike)
        if count > 1:
            lines.append(("count", f"{number}", _count(kind, count)))
        sizes = dict.fromkeys(g.size for g in alike if g.size)
        lines += [("size", f"{number}", _there(kind, size=size)) for size in sizes]
        places = [place for g in alike for place in g.places]
        lines += [("place", f"{number}", _there(kind, place=place)) for place in places]
    if spec.relation is not None:
        for i in spec.relation.first:
            for j in spec.relation.second:
                one, other = ((spec.groups[k].colour, spec.groups[k].shape) for k in (i, j))
                if one != other:
                    asks = _in_order(one, spec.relation.name, other)
                    lines.append(("relation", f"{objects[one]}, {objects[other]}", asks))
    if spec.canvas:
        lines.append(("canvas", "-", _canvas(spec.canvas)))
    lines.append(("total", "-", _total(sum(g.count for g in spec.groups))))
    return "".join(
        f"{LINE.format(n)} {kind} | {needs} | {question}"
        for n, (kind, needs, question) in enumerate(dict.fromkeys(lines), 1)
    )


def compare(spec: Spec, first: View, second: View) -> str:
    """An account of two pictures, and which is the better answer: the more faithful one, and of
    two that are equally so the cleaner one.
    """
    told, worth = [], []
    for name, view in (("first", first), ("second", second)):
        faithful, quality, _ = judge(spec, view, Rewrite()).aspects
        told.append(f" {name}: {faithful.justification} {faithful.score}.")
        worth.append((faithful.score, quality.score))
    better = "neither" if worth[0] == worth[1] else "first" if worth[0] > worth[1] else "second"
    return f"{told[0]}{told[1]} better: {better}"


def _near(pair: Kind, rng: random.Random) -> Kind:
    """Another trained pair that shares its colour or its shape."""
    return rng.choice(
        [p for p in world.TRAINING_PAIRS if p != pair and (p[0] == pair[0]) != (p[1] == pair[1])]
    )
