"""Scores: expected numbers, several judges, and how far one judgement spreads."""

from dataclasses import replace

import pytest
from fakes import POCKET, FakeCritic, FakeSpeaker, paint, replying
from replies import REPLY, RUBRIC

from gcr.core.records import AspectScore, Critique, Request
from gcr.critic import reply
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.scoring import expected, mean_of_judges
from gcr.critic.speaker import Number, Reply

SURE = {1.0: 0.0, 2.0: 0.0, 3.0: 1.0, 4.0: 0.0}


def soft(chances):
    """The critique of REPLY with these chances at its scores, in order."""
    places = [i for i in range(len(REPLY)) if REPLY[i - 7 : i] == "Score: " and REPLY[i] in "1234"]
    numbers = tuple(Number(at, told) for at, told in zip(places, chances, strict=False))
    places = reply.places(REPLY, RUBRIC)
    return expected(reply.read(REPLY, RUBRIC), Reply(REPLY, numbers=numbers), places)


def scores(critique):
    return [aspect.score for aspect in critique.aspects]


def test_a_critic_that_is_sure_keeps_its_scores():
    hard = reply.read(REPLY, RUBRIC)
    sure = [{float(int(s)): 1.0, 1.0: 0.0} for s in scores(hard) if s is not None]
    assert scores(soft(sure)) == pytest.approx(scores(hard))
    assert soft(sure).overall == pytest.approx(hard.overall)


def test_a_critic_in_doubt_says_so():
    hard = reply.read(REPLY, RUBRIC)
    first = scores(hard)[0]
    doubt = {float(int(first)): 0.6, 1.0: 0.2}
    assert scores(soft([doubt]))[0] == pytest.approx((0.6 * first + 0.2) / 0.8)
    assert soft([doubt]).overall < hard.overall


def test_numbers_that_are_not_found_again_stay_as_written():
    hard = reply.read(REPLY, RUBRIC)
    assert expected(hard, Reply(REPLY), reply.places(REPLY, RUBRIC)) == hard


def test_an_unread_reply_stays_unscored():
    assert expected(reply.read("hm", RUBRIC), Reply("hm"), {}).overall is None


def judged(overall, *scores):
    """A critique with these scores of aspects, whose words are its score."""
    aspects = tuple(AspectScore(f"aspect {i}", score) for i, score in enumerate(scores))
    return Critique(aspects, overall, f"{overall}")


def test_several_judgements_are_one_with_their_mean_and_its_error():
    critiques = [judged(x, 1 + 3 * x) for x in (0.4, 0.6, 0.55, 0.45)]
    one = mean_of_judges(critiques)
    assert one.overall == pytest.approx(0.5)
    assert one.spread == pytest.approx((0.025 / 3) ** 0.5 / 2)
    assert one.summary in {"0.55", "0.45"}  # the words are of a judge who is near the mean
    assert scores(one) == pytest.approx([2.5])


def test_an_aspect_has_the_mean_of_those_who_scored_it_unless_most_did_not():
    critiques = [judged(0.5, 2.0, None), judged(0.6, 3.0, 4.0), judged(0.7, 4.0, None)]
    assert scores(mean_of_judges(critiques)) == [3.0, None]
    assert scores(mean_of_judges(critiques[:2])) == [2.5, 4.0]


def test_judgements_that_could_not_be_read_do_not_count():
    unread, read = Critique(problem="?"), Critique(overall=0.7, summary="fine")
    assert mean_of_judges([unread, read]) == read
    assert mean_of_judges([unread, unread]) == unread
    assert mean_of_judges([unread, read, replace(read, overall=0.5)]).overall == pytest.approx(0.6)


def test_a_spread_that_was_measured_before_goes_with_every_score():
    critic = VisionLanguageCritic(FakeSpeaker(replying(FakeCritic({1: None}))), POCKET, spread=0.04)
    critiques = critic.judge([Request("a")] * 2, [paint(0), paint(1)])
    assert [c.spread for c in critiques] == [0.04, None]
