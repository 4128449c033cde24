"""What is drawn next."""

from collections.abc import Sequence

import pytest
from fakes import FakeCritic, FakeGenerator

from gcr.loop import refine
from gcr.records import Attempt, Candidate, Critique, Request, Round, Run
from gcr.settings import Settings
from gcr.stopping import StopRule
from gcr.strategies import STRATEGIES, BestOfN, Refine, Rewrite, load

Tried = tuple[str, float | None, str | None]
"""The prompt of an attempt, its score, and the prompt its critique would draw instead."""

RAW = Request("a cat", negative="dogs")


def run(*rounds: Sequence[Tried]) -> Run:
    """A run of rounds of (prompt, score, refined prompt)."""
    return Run(
        "a",
        RAW,
        rounds=tuple(
            Round(
                index,
                tuple(
                    Attempt(Candidate(prompt, 0), Critique(overall=score, refined=refined), "x.png")
                    for prompt, score, refined in tried
                ),
            )
            for index, tried in enumerate(rounds)
        ),
    )


def prompts(images: int, *rounds: Sequence[Tried]) -> list[str]:
    return [candidate.prompt for candidate in Refine(images, 0).propose(run(*rounds))]


def test_round_0_draws_the_raw_request_from_the_users_seed_on() -> None:
    assert Refine(3, 42).propose(run()) == (
        Candidate("a cat", 42, "dogs"),
        Candidate("a cat", 43, "dogs"),
        Candidate("a cat", 44, "dogs"),
    )


def test_the_best_attempts_rewrite_comes_first() -> None:
    assert prompts(2, [("a cat", 0.2, "low"), ("a cat", 0.6, "high")]) == ["high", "low"]
    assert prompts(1, [("a cat", 0.2, "low"), ("a cat", 0.6, "high")]) == ["high"]


def test_fewer_rewrites_than_images_are_drawn_with_several_seeds() -> None:
    proposal = Refine(3, 5).propose(run([("a cat", 0.2, "low"), ("a cat", 0.6, "high")]))
    assert [(c.prompt, c.seed) for c in proposal] == [("high", 7), ("low", 8), ("high", 9)]
    assert {c.negative for c in proposal} == {"dogs"}


def test_equal_rewrites_are_one() -> None:
    first = [("a cat", 0.2, "same"), ("a cat", 0.1, "same"), ("a cat", 0.0, "other")]
    assert prompts(2, first) == ["same", "other"]


def test_a_prompt_already_drawn_waits_for_new_ones() -> None:
    first = [("a cat", 0.2, "one"), ("a cat", 0.1, "two")]
    assert prompts(2, first, [("one", 0.9, "two"), ("one", 0.3, "three")]) == ["two", "three"]
    assert prompts(2, first, [("one", 0.9, "a cat"), ("one", 0.3, "three")]) == ["three", "two"]


def test_known_rewrites_get_fresh_seeds_when_there_is_no_new_one() -> None:
    rounds = [("a cat", 0.2, "one")], [("one", 0.9, "one")]
    proposal = Refine(2, 0).propose(run(*rounds))
    assert [(c.prompt, c.seed) for c in proposal] == [("one", 2), ("one", 3)]
    assert prompts(3, *rounds[:1], [("one", 0.9, "two")], [("two", 0.3, None)]) == [
        "two",
        "one",
        "two",
    ]


def test_the_best_prompt_gets_fresh_seeds_when_there_is_no_rewrite() -> None:
    rounds = [("a cat", 0.2, None)], [("better", 0.9, None)]
    assert prompts(2, *rounds) == ["better", "better"]
    assert prompts(2, [("a cat", None, None)]) == ["a cat", "a cat"]


def test_no_seed_is_drawn_twice_and_the_same_run_gets_the_same_proposal() -> None:
    generator = FakeGenerator()
    strategy = Refine(3, 100)
    steps = refine([run()], generator, FakeCritic({}), strategy, StopRule(rounds=5, patience=9))
    last = list(steps)[-1].run
    assert [c.seed for call in generator.calls for c in call] == list(range(100, 115))
    assert strategy.propose(last) == Refine(3, 100).propose(last)


def test_best_of_n_draws_the_raw_request_on_seed_after_seed() -> None:
    rounds = [("a cat", 0.2, "low"), ("a cat", 0.6, "high")], [("a cat", 0.2, "low")]
    assert BestOfN(3, 5).propose(run()) == Refine(3, 5).propose(run())
    assert BestOfN(2, 5).propose(run(*rounds)) == (
        Candidate("a cat", 8, "dogs"),
        Candidate("a cat", 9, "dogs"),
    )


def test_rewrite_moves_nothing_but_the_wording() -> None:
    generator = FakeGenerator()
    critic = FakeCritic({40: Critique(overall=0.2, refined="one"), 41: 0.3})
    rule = StopRule(rounds=3, patience=9)
    for _ in refine([run()], generator, critic, Rewrite(2, 40), rule):
        pass
    assert [[(c.prompt, c.seed) for c in call] for call in generator.calls] == [
        [("a cat", 40), ("a cat", 41)],
        [("one", 40), ("the prompt after 41", 41)],
        # The critic has nothing new to say: these were drawn on these seeds.
        [("one", 44), ("the prompt after 41", 45)],
    ]
    assert {c.negative for call in generator.calls for c in call} == {"dogs"}


def test_rewrite_keeps_the_prompt_and_moves_the_seed_where_there_is_no_rewrite() -> None:
    rounds = [("a cat", 0.2, "one"), ("a cat", 0.1, None)], [("one", None, None)]
    first = Rewrite(2, 7).propose(run(*rounds[:1]))
    assert [(c.prompt, c.seed) for c in first] == [("one", 0), ("a cat", 10)]
    second = Rewrite(2, 7).propose(run(*rounds))
    assert [(c.prompt, c.seed) for c in second] == [("one", 10)]


def test_a_strategy_is_known_by_its_name_and_no_other() -> None:
    for name, kind in STRATEGIES.items():
        assert Settings(generator="g", critic="c", strategy=name).strategy == name
        assert isinstance(load(name, 2, 7), kind)
    with pytest.raises(ValueError, match="should be 'refine', 'best-of-n' or 'rewrite'"):
        Settings(generator="g", critic="c", strategy="random")


def test_at_least_one_image_is_drawn() -> None:
    with pytest.raises(ValueError, match="images must be at least 1"):
        Refine(0, 0)
