"""Accuracy against images: a run as it was when it had drawn fewer."""

from __future__ import annotations

from fakes import FakeCritic, paint

from benchmarks import strategies
from benchmarks.refinement import Arm, Judged
from gcr.core.records import Attempt, Candidate, Critique, Request, Round, Run


def arm_of(*scores: tuple[float, bool]) -> Arm:
    """One run, two images a round, each with the critic's score and whether it is right."""
    attempts = [
        Attempt(Candidate("x", i), Critique(overall=score), f"{i}.png")
        for i, (score, _) in enumerate(scores)
    ]
    rounds = tuple(Round(i // 2, tuple(attempts[i : i + 2])) for i in range(0, len(attempts), 2))
    judged = {
        a.image: Judged(a, 0 if right else 1, paint(a.candidate.seed))
        for a, (_, right) in zip(attempts, scores, strict=True)
    }
    return [(Run("a", Request("x"), rounds=rounds), judged)]


def test_a_run_is_cut_in_the_middle_of_a_round() -> None:
    ((run, _),) = arm_of((0.1, False), (0.2, False), (0.3, False), (0.4, True))
    for images in range(1, 5):
        cut = strategies.first(run, images)
        assert cut.attempts == run.attempts[:images]
        assert [round_.index for round_ in cut.rounds] == list(range((images + 1) // 2))
    assert strategies.first(run, 9) == run


def test_what_the_critic_picks_from_the_first_images_is_what_counts() -> None:
    arm = arm_of((0.5, True), (0.9, False), (0.3, False))
    figures = {count: strategies.figures(strategies.cut(arm, count)) for count in (1, 2, 4)}
    assert {count: values["right"] for count, values in figures.items()} == {1: 1.0, 2: 0.0, 4: 0.0}
    assert {count: values["any right"] for count, values in figures.items()} == {
        1: 1.0,
        2: 1.0,
        4: 1.0,
    }
    assert {count: values["images"] for count, values in figures.items()} == {
        1: 1.0,
        2: 2.0,
        4: 3.0,
    }


def test_an_improvement_is_false_where_truth_sees_none() -> None:
    better, same, worse = (0.9, True), (0.9, False), (0.9, False)
    critic = FakeCritic({0: 0.5, 1: 0.9})
    arms = arm_of((0.5, False), better) + arm_of((0.5, False), same) + arm_of((0.5, True), worse)
    assert strategies.reported(arms, critic) == {
        "improvements reported": 1.0,
        "of them no better": 0.3333,
        "of them worse": 0.3333,
    }


def test_what_the_critic_does_not_prefer_side_by_side_is_not_reported() -> None:
    arm = arm_of((0.5, False), (0.9, True))
    report = strategies.reported(arm, FakeCritic({0: 0.9, 1: 0.5}))
    assert report["improvements reported"] == 0
