"""Which image is best, and what counts as better than chance."""

from dataclasses import replace

import pytest

from gcr.core.ranking import BRACKET, CONFIDENCE, best, contenders, knock_out, margin, near, ranked
from gcr.core.records import (
    Attempt,
    Candidate,
    Critique,
    Preference,
    Request,
    Round,
    Run,
    StopReason,
)
from gcr.core.stopping import StopRule


def run(*scores, spread=None):
    attempts = [
        Attempt(Candidate("a", i), Critique(overall=score, spread=spread), f"{i:02d}-0.png")
        for i, score in enumerate(scores)
    ]
    return Run("a", Request("a"), rounds=tuple(Round(i, (a,)) for i, a in enumerate(attempts)))


def attempts(*critiques):
    rounds = (
        Round(0, tuple(Attempt(Candidate("x", i), c, f"{i}") for i, c in enumerate(critiques))),
    )
    return Run("a", Request("x"), rounds=rounds)


UNREAD = Critique(raw="gibberish", problem="unreadable reply")
BLANK = Critique(problem="blank image")


def scored(score):
    return Critique(overall=score, raw="fine")


@pytest.mark.parametrize(
    ("critiques", "order"),
    [
        ([scored(0.3), scored(0.7), scored(0.5)], "120"),
        ([scored(0.5), scored(0.7), scored(0.7)], "120"),
        ([UNREAD, BLANK, scored(0.0)], "201"),
        ([BLANK, UNREAD, UNREAD], "120"),
        ([BLANK, BLANK], "01"),
        ([], ""),
    ],
    ids=["highest", "tie to the earlier", "unscored never wins", "no fault first", "first", "none"],
)
def test_ranking(critiques, order):
    tried = attempts(*critiques)
    assert "".join(a.image for a in ranked(tried.attempts)) == order
    assert best(tried) is next(iter(ranked(tried.attempts)), None)


def test_without_a_known_spread_every_difference_counts():
    assert margin(run(0.1, 0.2).attempts) == 0
    assert best(run(0.5, 0.500001, 0.4)).score == 0.500001


def test_the_margin_is_that_of_a_difference_of_two_scores():
    assert margin(run(0.1, 0.2, spread=0.1).attempts) == pytest.approx(CONFIDENCE * 0.02**0.5)


def test_spreads_are_pooled():
    attempts = [*run(0.1, spread=0.3).attempts, *run(0.2, spread=0.1).attempts]
    attempts += run(0.3).attempts
    assert margin(attempts) == pytest.approx(CONFIDENCE * (2 * 0.05) ** 0.5)


@pytest.mark.parametrize("spread", [None, 0.0, 0.1, 1.0])
def test_the_best_is_the_highest_score_whatever_the_noise_and_of_equals_the_earlier(spread):
    assert best(run(0.5, 0.6, 0.7, 0.65, spread=spread)).score == 0.7
    assert best(run(0.83, 1.0, 1.0, spread=spread)).image == "01-0.png"


def test_what_is_near_the_best_is_what_chance_may_have_put_below_it():
    tried = run(0.5, 0.6, 0.8, None, 0.79, spread=0.1).attempts
    assert [attempt.score for attempt in near(tried, tried[2])] == [0.79, 0.6]
    unknown = run(0.5, 0.5).attempts
    assert near(unknown, unknown[0]) == []
    unscored = run(None, 0.5, spread=0.1).attempts
    assert near(unscored, unscored[0]) == []


def test_a_blind_comparison_settles_and_a_person_has_the_last_word():
    tried = run(0.9, 1.0, spread=0.1)
    assert best(replace(tried, settled="00-0.png")).score == 0.9
    assert best(replace(tried, settled="00-0.png", kept="01-0.png")).score == 1.0


def test_a_gain_within_the_noise_resets_no_plateau():
    rule = StopRule(rounds=9, patience=2, min_gain=0.02)
    assert rule.reason(run(0.5, 0.6, 0.65)) is None
    assert rule.reason(run(0.5, 0.6, 0.65, spread=0.1)) is StopReason.PLATEAU
    assert rule.reason(run(0.5, 0.6, 0.8, spread=0.1)) is None


def test_the_target_is_reached_by_the_best_image():
    rule = StopRule(rounds=9, patience=9, target=0.9)
    for before in (0.5, 0.8):
        tried = run(before, 0.95, spread=0.1)
        assert (rule.reason(tried), best(tried).score) == (StopReason.TARGET, 0.95)


def test_the_target_is_never_reached_by_a_score_that_says_nothing_of_some_of_the_request():
    rule = StopRule(rounds=9, patience=9, target=0.9)
    tried = run(0.5, 1.0)
    attempts = [
        replace(a, critique=replace(a.critique, untrusted=("a dragon",))) for a in tried.attempts
    ]
    partly = replace(tried, rounds=tuple(Round(i, (a,)) for i, a in enumerate(attempts)))
    assert (rule.reason(tried), rule.reason(partly)) == (StopReason.TARGET, None)
    assert partly.untrusted == ("a dragon",)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 20])
def test_of_a_bracket_the_preferred_one_wins(count):
    """Whoever prefers consistently gets the image that is preferred to all others."""
    asked = []

    def prefer(pairs):
        asked.extend(pairs)
        likes = [(int(a.image[:2]) * 7 % 11, int(b.image[:2]) * 7 % 11) for _, a, b in pairs]
        return [Preference.FIRST if a > b else Preference.SECOND for a, b in likes]

    field = contenders(run(*(0.9 - i / 100 for i in range(count))).attempts)
    assert len(field) == min(count, BRACKET)
    liked = max(field, key=lambda attempt: int(attempt.image[:2]) * 7 % 11, default=None)
    assert knock_out([field, field[:1]], prefer) == [liked, field[0] if field else None]
    assert len(asked) == max(0, len(field) - 1)


def test_without_a_preference_the_higher_score_goes_on():
    fields = [contenders(run(*scores).attempts) for scores in ((0.1, 0.9, 0.5), (0.2, None, 0.2))]
    for said in (Preference.TIE, None, Preference.FIRST):
        winners = knock_out(fields, lambda pairs, said=said: [said] * len(pairs))
        assert [winner.image for winner in winners] == ["01-0.png", "00-0.png"]
