"""What counts as better than chance: several judges, a pooled spread, and who is best by it."""

from dataclasses import replace

import pytest
from fakes import FakeCritic, paint

from gcr.loop import best
from gcr.records import Attempt, Candidate, Critique, Request, Round, Run, StopReason
from gcr.spread import CONFIDENCE, Known, margin, together
from gcr.stopping import StopRule


def run(*scores, spread=None):
    attempts = [
        Attempt(Candidate("a", i), Critique(overall=score, spread=spread), f"{i:02d}-0.png")
        for i, score in enumerate(scores)
    ]
    return Run("a", Request("a"), rounds=tuple(Round(i, (a,)) for i, a in enumerate(attempts)))


def test_without_a_known_spread_every_difference_counts():
    assert margin(run(0.1, 0.2).attempts) == 0
    assert best(run(0.5, 0.500001, 0.4)).score == 0.500001


def test_the_margin_is_that_of_a_difference_of_two_scores():
    assert margin(run(0.1, 0.2, spread=0.1).attempts) == pytest.approx(CONFIDENCE * 0.02**0.5)


def test_spreads_are_pooled():
    attempts = [*run(0.1, spread=0.3).attempts, *run(0.2, spread=0.1).attempts]
    attempts += run(0.3).attempts
    assert margin(attempts) == pytest.approx(CONFIDENCE * (2 * 0.05) ** 0.5)


def test_an_image_is_replaced_only_by_one_that_is_better_than_chance():
    close, clear = (0.5, 0.6, 0.7), (0.5, 0.6, 0.8)
    assert best(run(*close, spread=0.1)).score == 0.5
    assert best(run(*clear, spread=0.1)).score == 0.8
    assert best(run(*close)).score == 0.7


def test_a_gain_within_the_noise_resets_no_plateau():
    rule = StopRule(rounds=9, patience=2, min_gain=0.02)
    assert rule.reason(run(0.5, 0.6, 0.65)) is None
    assert rule.reason(run(0.5, 0.6, 0.65, spread=0.1)) is StopReason.PLATEAU
    assert rule.reason(run(0.5, 0.6, 0.8, spread=0.1)) is None


def test_the_target_is_reached_by_the_image_that_is_kept_and_by_no_other():
    rule = StopRule(rounds=9, patience=9, target=0.9)
    lucky, clear = run(0.8, 0.95, spread=0.1), run(0.5, 0.95, spread=0.1)
    assert (rule.reason(lucky), best(lucky).score) == (None, 0.8)
    assert (rule.reason(clear), best(clear).score) == (StopReason.TARGET, 0.95)


def test_several_judgements_are_one_with_their_mean_and_its_error():
    said = [Critique(overall=x, summary=f"{x}") for x in (0.4, 0.6, 0.5, 0.5)]
    one = together(said)
    assert one.overall == pytest.approx(0.5)
    assert one.spread == pytest.approx((0.02 / 3) ** 0.5 / 2)
    assert one.summary == "0.4"


def test_judgements_that_could_not_be_read_do_not_count():
    unread, read = Critique(problem="?"), Critique(overall=0.7, summary="fine")
    assert together([unread, read]) == read
    assert together([unread, unread]) == unread
    assert together([unread, read, replace(read, overall=0.5)]).overall == pytest.approx(0.6)


def test_a_spread_that_was_measured_before_goes_with_every_score():
    critiques = Known(FakeCritic({1: None}), 0.04).judge([Request("a")] * 2, [paint(0), paint(1)])
    assert [c.spread for c in critiques] == [0.04, None]
