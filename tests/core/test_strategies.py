"""What is drawn next."""

from collections.abc import Sequence

import pytest
from fakes import FakeCritic, FakeGenerator, paint

from gcr.core.loop import refine
from gcr.core.records import Attempt, Candidate, Critique, Gallery, Request, Round, Run, Strategy
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN, Evolve, Refine, Reflect, Rewrite, make

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
    assert [(c.prompt, c.seed) for c in second] == [("one", 10), ("one", 11)]


def drawn(strategy: Strategy, critic: FakeCritic, rounds: int) -> list[list[Candidate]]:
    """What a strategy has drawn in each round."""
    generator = FakeGenerator()
    gallery = paint_all(generator)
    rule = StopRule(rounds=rounds, patience=9)
    for _ in refine([run()], generator, critic, strategy, rule, gallery=gallery):
        pass
    return generator.calls


def paint_all(generator: FakeGenerator) -> Gallery:
    """A gallery of all images; what is painted does not depend on them."""
    return lambda _run, _name: paint(len(generator.calls))


def test_reflect_starts_from_the_best_image_under_its_own_rewrite() -> None:
    critic = FakeCritic({40: 0.2, 41: 0.6, 42: 0.3, 43: Critique(overall=0.9), 44: 0.1, 45: 0.1})
    rounds = drawn(Reflect(2, 40, 0.8), critic, 4)
    assert rounds == [
        [Candidate("a cat", 40, "dogs"), Candidate("a cat", 41, "dogs")],
        [
            Candidate("the prompt after 41", seed, "dogs", start="00-1.png", strength=0.8)
            for seed in (42, 43)
        ],
        # The best now is an image that was itself started from one, and it has no rewrite.
        [
            Candidate("the prompt after 41", seed, "dogs", start="01-1.png", strength=0.8)
            for seed in (44, 45)
        ],
        [
            Candidate("the prompt after 41", seed, "dogs", start="01-1.png", strength=0.8)
            for seed in (46, 47)
        ],
    ]


def test_evolve_mutates_the_noise_of_the_best_image_again_and_again() -> None:
    critic = FakeCritic({40: 0.6, 41: 0.2, 42: 0.3, 43: 0.9, 44: 0.1, 45: 0.1})
    rounds = drawn(Evolve(2, 40, 0.3), critic, 3)
    assert rounds == [
        [Candidate("a cat", 40, "dogs"), Candidate("a cat", 41, "dogs")],
        [
            Candidate("the prompt after 40", 40, "dogs", mutations=(seed,), strength=0.3)
            for seed in (42, 43)
        ],
        [
            Candidate("the prompt after 43", 40, "dogs", mutations=(43, seed), strength=0.3)
            for seed in (44, 45)
        ],
    ]


@pytest.mark.parametrize("kind", [Reflect, Evolve])
def test_where_nothing_has_a_score_there_is_nothing_to_go_on_from(
    kind: type[Reflect | Evolve],
) -> None:
    proposal = kind(2, 5).propose(run([("a cat", None, "better"), ("a cat", None, None)]))
    assert proposal == (Candidate("a cat", 7, "dogs"), Candidate("a cat", 8, "dogs"))


@pytest.mark.parametrize("kind", [Reflect, Evolve])
def test_a_generator_is_asked_about_what_will_be_drawn(kind: type[Reflect | Evolve]) -> None:
    strategy = kind(1, 5, 0.4)
    (proposed,) = strategy.propose(run([("a cat", 0.5, "better")]))
    later = strategy.later()
    assert bool(later.start) == bool(proposed.start)
    assert bool(later.mutations) == bool(proposed.mutations)
    assert later.strength == proposed.strength == 0.4


def test_strength_goes_to_the_strategies_that_have_one() -> None:
    assert make(Reflect, 2, 7, 0.4) == Reflect(2, 7, 0.4)
    assert make(Evolve, 2, 7, 0.4) == Evolve(2, 7, 0.4)
    assert make(Evolve, 2, 7) == Evolve(2, 7)
    assert make(Refine, 2, 7, 0.4) == Refine(2, 7)


def test_at_least_one_image_is_drawn() -> None:
    with pytest.raises(ValueError, match="images must be at least 1"):
        Refine(0, 0)
