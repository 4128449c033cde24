"""Eyesight is measured by requests that a picture meets, and by ones that it does not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from benchmarks import acuity
from gcr.core.records import AspectScore, Candidate, Critique, Drawing, Request
from gcr.pocket import truth, world
from gcr.pocket.language import parse

if TYPE_CHECKING:
    from PIL.Image import Image


def faults(finding: truth.Finding) -> set[str]:
    """What is wrong with a picture, in the words of `acuity.CHANGES`."""
    faults = {name for _, _, names in finding.matched for name in names}
    if finding.missing or finding.extra:
        faults.add("count")
    if finding.relation is False and not finding.missing:  # with a thing missing it cannot hold
        faults.add("relation")
    if finding.canvas is False:
        faults.add("canvas")
    return faults


@pytest.mark.parametrize("kind", acuity.CHANGES)
def test_requests_are_met_and_unmet_in_turn_and_in_one_thing_only(kind: str) -> None:
    rng = random.Random(kind)
    turns = itertools.islice(acuity.pairs(kind, acuity.rendered(rng), rng), 10)
    for turn, (image, text, met) in enumerate(turns):
        assert met == (turn % 2 == 0)
        spec, view = parse(text), truth.look(image)
        assert faults(truth.compare(spec, view)) == (set() if met else {kind})
        named = {(g.colour, g.shape) for g in spec.groups}
        assert not named & world.HELD_OUT
        if kind == "relation":
            assert spec.relation


class Painter:
    """Draws any scene, whatever it is asked for."""

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        rng = random.Random(candidates[0].seed)
        return [Drawing(world.draw(world.sample(rng, world.PAIRS))) for _ in candidates]


def test_drawings_are_held_against_what_they_show_and_held_out_pairs_are_left_out() -> None:
    rng = random.Random("drawn")
    for image, view in itertools.islice(acuity.drawn(Painter(), rng), 40):
        assert truth.look(image) == view
        assert 1 <= len(view.things) <= world.MOST
        assert not {(t.colour, t.shape) for t in view.things} & world.HELD_OUT


class Fixed:
    """A critic that scores every picture the same."""

    def __init__(self, score: float | None) -> None:
        self.score = score

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        aspects = (AspectScore("Text Faithfulness", self.score, ""),)
        return [Critique(aspects) for _ in requests]


@pytest.mark.parametrize(
    ("score", "shares"), [(4.0, (1.0, 0.0)), (3.5, (0.0, 1.0)), (None, (0.0, 1.0))]
)
def test_a_critic_that_does_not_look_is_right_half_of_the_time(
    score: float | None, shares: tuple[float, float]
) -> None:
    rng = random.Random("blind")
    asked_pairs = list(itertools.islice(acuity.pairs("canvas", acuity.rendered(rng), rng), 6))
    met, not_met = shares
    accuracy = acuity.accuracy(Fixed(score), asked_pairs)
    assert accuracy == {"met": met, "not met": not_met, "balanced": 0.5}


class Brightness:
    """A critic that scores a picture by its brightness."""

    def judge(self, requests: Sequence[Request], images: Sequence[Image]) -> list[Critique]:
        shades = [sum(image.convert("L").tobytes()) / world.SIDE**2 / 255 for image in images]
        return [Critique(overall=shade) for shade in shades]


def test_inflation_is_what_writing_and_noise_add_to_the_score_of_the_same_picture() -> None:
    rng = random.Random("inflation")
    grey = [(world.draw(world.Scene("grey", ())), "a red circle and two blue squares")] * 3
    added = acuity.inflation(Brightness(), grey, rng)
    assert added["request written"] < added["score written"] < 0  # the more dark red, the darker
    share = acuity.STRIP / world.SIDE
    assert added["empty strip"] == pytest.approx(share * (1 - 128 / 255), abs=0.01)
    assert -share < added["caption strip"] < 0  # as against the empty strip
    assert added["noise"] == pytest.approx(0, abs=0.01)
    (image, text), *_ = grey
    strip = acuity.written(image, text, acuity.STRIP)
    above = (0, 0, world.SIDE, world.SIDE - acuity.STRIP)
    assert strip.crop(above).tobytes() == image.crop(above).tobytes()
