"""What the critic is asked in training, and what it should say."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch

from gcr.pocket import world
from gcr.pocket.language import RELATIONS, Relation, Spec
from gcr.pocket.truth import View
from pocket_training import eyes, questions, replies
from pocket_training.captions import gather, near_miss, say, spec_of
from pocket_training.session import Batch, Plan

KINDS = {"critique": 0.84, "checklist": 0.04, "comparison": 0.12}
"""Shares of the steps."""
QUESTIONS = 0.16  # share of the examples of a step of critiques that are yes/no questions instead
AGAIN = 0.03  # that go on with another turn: a reply asked for again, or another refined request
DETAILED = 0.2  # share of requests that give every place: few that users make do
SIZED = 0.5  # share of requests that give every thing's size
RELATED = 0.8  # share of the other requests that state a relation, where one can be stated
MISSED = 0.5  # share of requests changed in one thing; of those, the share changed once more
ASKED = 0.6  # share of the generator's pictures that are held against what it was asked for
TURNED = 0.5
"""Share of stated relations that are turned into another. With fewer, where things are can be
guessed from the relation, and the critic learns to guess it rather than to look.
"""
CROWDED = 0.5  # share of the steps of verdicts that are about pictures of MOST things or more
SECOND_ASPECT = f"\n2. {replies.RUBRIC.aspects[1]}:"
ROUND = 64  # a step's examples are padded to a multiple of it, so that few shapes come up
IGNORED = -100  # the label of a token that is not learned
MARK = "<image>"  # of a picture in a prompt


class Album(NamedTuple):
    """Pictures to learn from.

    pixels: (n, 3, SIDE, SIDE), uint8. patches: what is drawn at each patch, as `eyes.labels` has
    it, (n, patches, 5). views: what truth reads in each. asked: what the generator was asked for
    when it drew it, or what a picture with a thing too many was to show; None for others. ways:
    how best to rewrite each kind of request: by number of things and whether it has a relation.
    """

    pixels: torch.Tensor
    patches: torch.Tensor
    views: list[View]
    asked: list[Spec | None]
    ways: dict[tuple[int, bool], replies.Rewrite]


class Example(NamedTuple):
    """pictures: by their places in the album, in the order of their marks in the prompt. whole:
    whether the reply ends where it ends.
    """

    pictures: tuple[int, ...]
    prompt: str
    reply: str
    whole: bool = True


class Batcher:
    """The examples of a step as tensors: of one kind and with pictures of as many things, so that
    they are about as long.
    """

    def __init__(
        self, tokenize: Any, album: Album, plan: Plan, kinds: Mapping[str, float] = KINDS
    ) -> None:
        self._tokenize = tokenize
        self._album = album
        self._plan = plan
        self._kinds = kinds
        by_count: dict[int, list[int]] = defaultdict(list)
        for i, view in enumerate(album.views):
            by_count[min(len(view.things), world.MOST)].append(i)
        self._by_count = by_count

    def __call__(self, step: int) -> Batch:
        """Token ids and labels, each (examples, tokens), padded on the right; `at`, where the
        tokens of pictures stand, which is the same in all; `pictures` (examples, pictures).

        The model looks back only, so padding needs no mask. Prompts are left out of the loss.
        """
        rng = random.Random(f"{self._plan.seed} critic {step}")
        (kind,) = rng.choices(list(self._kinds), list(self._kinds.values()))
        counts = list(self._by_count)
        (count,) = rng.choices(counts, [len(self._by_count[c]) for c in counts])
        if kind == "verdict" and world.MOST in counts and rng.random() < CROWDED:
            count = world.MOST
        pictures = self._by_count[count]
        examples = [
            example(self._album, rng.choice(pictures), kind, rng) for _ in range(self._plan.batch)
        ]
        return self.tensors(examples)

    def tensors(self, examples: list[Example]) -> Batch:
        heads = self._ids(
            f"<user>{e.prompt.replace(MARK, MARK * eyes.GRID**2)}<critic>" for e in examples
        )
        tails = self._ids(e.reply + "</s>" * e.whole for e in examples)
        rows = [
            (head + tail, [IGNORED] * len(head) + tail)
            for head, tail in zip(heads, tails, strict=True)
        ]
        longest = -(-max(len(ids) for ids, _ in rows) // ROUND) * ROUND
        ids = torch.tensor([i + [0] * (longest - len(i)) for i, _ in rows])
        labels = torch.tensor([t + [IGNORED] * (longest - len(t)) for _, t in rows])
        marks = ids == self._tokenize.convert_tokens_to_ids(MARK)
        if not (marks == marks[0]).all():
            raise ValueError("pictures stand at different places in the examples of one step")
        told = {"ids": ids, "labels": labels, "at": marks[0].nonzero().flatten()}
        if examples[0].pictures:
            told["pictures"] = torch.tensor([e.pictures for e in examples])
        return told

    def _ids(self, texts: Iterable[str]) -> list[list[int]]:
        told = self._tokenize(list(texts), add_special_tokens=False)
        return cast("list[list[int]]", told.input_ids)


def example(album: Album, picture: int, kind: str, rng: random.Random) -> Example:
    """Something that a critic is asked about a picture, and what it should say."""
    view = album.views[picture]
    if kind == "question" or (kind == "critique" and rng.random() < QUESTIONS):
        text, yes = questions.ask(view, rng)
        return Example((picture,), MARK + text, " yes" if yes else " no")
    asked = album.asked[picture]
    spec = asked if asked and rng.random() < ASKED else request(view, rng)
    if kind == "checklist":
        return Example((), f"Checklist: {say(spec, rng)}", questions.checklist(spec))
    if kind == "comparison":
        return comparison(album, picture, spec, rng)
    if spec.relation and rng.random() < TURNED:
        spec = turned(spec, spec.relation, rng)
    while rng.random() < MISSED:
        spec = near_miss(spec, rng)
    way = album.ways[sum(g.count for g in spec.groups), spec.relation is not None]
    prompt, reply = f"{MARK}Request: {say(spec, rng)}", replies.write(spec, view, way)
    if kind == "verdict":
        return Example((picture,), prompt, reply.partition(SECOND_ASPECT)[0], whole=False)
    if rng.random() < AGAIN:
        return another_turn(Example((picture,), prompt, reply), spec, way, rng)
    return Example((picture,), prompt, reply)


def turned(spec: Spec, relation: Relation, rng: random.Random) -> Spec:
    """The request with another relation."""
    names = [name for name in RELATIONS if name != relation.name]
    return replace(spec, relation=replace(relation, name=rng.choice(names)))


def another_turn(first: Example, spec: Spec, way: replies.Rewrite, rng: random.Random) -> Example:
    """The conversation gone on with: a reply that broke off is asked for again, or the refined
    request must hold words of the request.
    """
    before = f"{first.prompt}<critic>"
    if rng.random() < 0.3:
        words = first.reply.split(" ")
        broken = " ".join(words[: rng.randrange(len(words) // 2)])
        return Example(
            first.pictures, f"{before}{broken}</s><user>{replies.RUBRIC.complaint}", first.reply
        )
    detailed = replace(way, lists=True).apply(spec)
    group = rng.choice(gather(detailed).groups)
    kept = say(Spec((replace(group, places=()),)))
    objection = replies.RUBRIC.objection.format(complaint=f"it must hold, word for word: {kept}")
    return Example(
        first.pictures, f"{before}{first.reply}</s><user>{objection}", f" {say(detailed)}"
    )


def comparison(album: Album, picture: int, spec: Spec, rng: random.Random) -> Example:
    """Which of two pictures is better. Both were drawn for the same request, if there are such."""
    asked, around = album.asked[picture], range(max(0, picture - 11), picture + 12)
    rivals = [i for i in around if i != picture and asked and album.asked[i : i + 1] == [asked]]
    other = rng.choice(rivals) if rivals else rng.randrange(len(album.views))
    first, second = rng.sample((picture, other), 2)
    return Example(
        (first, second),
        f"First:{MARK}Second:{MARK}Compare: {say(spec, rng)}",
        questions.compare(spec, album.views[first], album.views[second]),
    )


def request(view: View, rng: random.Random) -> Spec:
    """A request that a picture meets, or now and then has little to do with."""
    scene = (
        world.Scene(view.canvas, tuple(view.things[: world.MOST]))
        if view.things
        else world.sample(rng)
    )
    if rng.random() < 0.06:
        scene = world.sample(rng)
    return spec_of(scene, rng, noisy=False, detailed=DETAILED, related=RELATED, sized=SIZED)
