"""Why a run ends."""

from typing import Any

import pytest

from gcr.core.records import Attempt, Candidate, Critique, Request, Round, Run, StopReason
from gcr.core.stopping import StopRule

Scores = float | None | list[float | None]
"""The scores of one round; one score for a round of one image."""


def run(*rounds: Scores, seconds: float = 0.0) -> Run:
    """A run with these scores; a round is one score or a list of them. seconds: of each image."""
    made = []
    for index, scores in enumerate(rounds):
        many = scores if isinstance(scores, list) else [scores]
        tried = tuple(
            Attempt(
                Candidate("x", 0),
                Critique(overall=s),
                "x.png",
                draw_seconds=seconds / 2,
                judge_seconds=seconds / 2,
            )
            for s in many
        )
        made.append(Round(index, tried))
    return Run("a", Request("x"), rounds=tuple(made))


TARGET, PLATEAU, ROUNDS, FAILED = (
    StopReason.TARGET,
    StopReason.PLATEAU,
    StopReason.ROUNDS,
    StopReason.FAILED,
)


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([], None),
        ([0.5], None),
        ([0.5, 0.5], None),
        ([0.5, 0.5, 0.5], PLATEAU),
        ([0.5, 0.4, 0.3], PLATEAU),
        ([0.5, 0.51, 0.52], PLATEAU),
        ([0.5, 0.6, 0.6, 0.7], None),
        ([0.5, 0.6, 0.6, 0.6], PLATEAU),
        # A gain on the round before is no gain on the best.
        ([0.6, 0.3, 0.5], PLATEAU),
        # 0.70 - 0.68 is a little under 0.02 in binary.
        ([0.66, 0.66, 0.68], None),
        ([0.68, 0.68, 0.70], None),
        ([0.5, [0.1, 0.8], 0.5], None),
        ([0.5, None, None], PLATEAU),
        ([None, None, 0.1], None),
        ([0.5, None, 0.6], None),
        ([None, None], None),
        ([None, None, None], FAILED),
        ([0.5, [0.2, 0.95]], TARGET),
        ([0.95, 0.1, 0.1, 0.1, 0.1], TARGET),
        ([0.1, 0.2, 0.3, 0.4, 0.5], ROUNDS),
        # The limit is named before the plateau, the target before the limit.
        ([0.1, 0.2, 0.3, 0.3, 0.3], ROUNDS),
        ([0.1, 0.2, 0.3, 0.4, 0.9], TARGET),
        ([None, None, None, None, 0.1], ROUNDS),
    ],
)
def test_reason(rounds: list[Scores], reason: StopReason | None) -> None:
    assert StopRule(rounds=5, target=0.9, patience=2, min_gain=0.02).reason(run(*rounds)) is reason


def test_a_run_with_nothing_scored_has_failed_at_its_last_round() -> None:
    rule = StopRule(rounds=2, patience=9)
    assert rule.reason(run(None)) is None
    assert rule.reason(run(None, [None, None])) is FAILED


def test_one_round_is_enough_when_no_more_are_allowed() -> None:
    assert StopRule(rounds=1).reason(run(0.3)) is ROUNDS


def test_a_budget_of_images_ends_a_run_that_has_used_it() -> None:
    rule = StopRule(rounds=9, patience=9, images=3)
    assert rule.reason(run([0.1, 0.2])) is None
    assert rule.room(run([0.1, 0.2])) == 1
    assert rule.reason(run([0.1, 0.2], [0.3])) is StopReason.IMAGES
    assert rule.reason(run([0.1, 0.2], [0.3, 0.4])) is StopReason.IMAGES
    assert rule.room(run([0.1, 0.2], [0.3, 0.4])) == 0
    assert rule.reason(run([0.1, 1.0], [0.3])) is TARGET
    assert rule.reason(run([None, None], [None])) is FAILED
    assert StopRule().room(run([0.1])) is None


def test_a_round_that_would_not_fit_the_time_is_not_begun() -> None:
    rule = StopRule(rounds=9, patience=9, seconds=10)
    assert rule.reason(run()) is None
    assert rule.reason(run([0.1, 0.2], seconds=2)) is None  # 4 s, and 4 more
    assert rule.reason(run([0.1, 0.2], [0.3, 0.4], seconds=2)) is StopReason.SECONDS
    assert rule.reason(run(0.1, seconds=11)) is StopReason.SECONDS
    assert rule.reason(run(1.0, seconds=11)) is TARGET
    assert rule.reason(run(None, seconds=11)) is FAILED


def test_an_equal_score_is_no_gain_even_when_any_gain_will_do() -> None:
    rule = StopRule(rounds=9, patience=1, min_gain=0)
    assert rule.reason(run(0.5, 0.501)) is None
    assert rule.reason(run(0.5, 0.5)) is PLATEAU


def test_a_target_made_of_thirds_can_be_reached() -> None:
    assert StopRule(target=0.9).reason(run((3.7 - 1) / 3)) is TARGET
    assert StopRule(target=0.7).reason(run(0.1 * 7 - 1e-12)) is TARGET


def test_the_defaults_stop_at_a_perfect_score_only() -> None:
    assert StopRule().reason(run(0.99)) is None
    assert StopRule().reason(run(1.0)) is TARGET


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"target": -0.1},
        {"target": 1.1},
        {"target": float("nan")},
        {"patience": 0},
        {"min_gain": -0.01},
        {"min_gain": 2},
        {"images": 0},
        {"seconds": 0},
        {"seconds": float("inf")},
        {"seconds": 10**400},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
        StopRule(**wrong)
