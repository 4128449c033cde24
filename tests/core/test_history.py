"""The rewriter that knows what was tried: what it is told, what it may write, what is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import FakeCritic, FakeGenerator

from gcr.core import history
from gcr.core.guards import check_wordings, negative_complaint
from gcr.core.loop import refine
from gcr.core.records import (
    Attempt,
    Candidate,
    Critique,
    Request,
    Requirement,
    Round,
    Run,
    StopReason,
    Wording,
)
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN, Refine, Reflect
from gcr.critic import reply, rubric

RUBRIC = rubric.load("text-to-image")
FITS = FakeGenerator().excess


def attempt(prompt: str, score: float | None, **critique: object) -> Attempt:
    return Attempt(Candidate(prompt, 0), Critique(overall=score, **critique), "x.png")


def run(*attempts: Attempt, prompt: str = "a cat") -> Run:
    rounds = tuple(Round(index, (one,)) for index, one in enumerate(attempts))
    return Run("a", Request(prompt), rounds=rounds)


def test_each_prompt_is_told_once_with_its_best_image() -> None:
    tried = run(
        attempt("a cat", 0.2, summary="no cat\nat all"),
        attempt("a fat cat", 0.7, advice="say where it sits"),
        attempt("a cat", 0.5, summary="half a cat"),
    )
    assert history.describe(tried).splitlines() == [
        "1. a cat",
        "   Result: 0.50 of 1, the best of 2 images",
        "   half a cat",
        "",
        "2. a fat cat",
        "   Result: 0.70 of 1",
        "   say where it sits",
    ]


def test_what_is_not_met_and_what_could_not_be_scored_is_told() -> None:
    unmet = Requirement("Is there a cat?", chance=0.1)
    tried = run(attempt("a cat", 0.1, requirements=(unmet,)), attempt("a dog", None))
    assert "Not met: Is there a cat?" in history.describe(tried)
    assert "2. a dog\n   Result: no score" in history.describe(tried)


def test_of_the_best_prompt_it_is_told_what_must_stay() -> None:
    cat, red = Requirement("Is there a cat?", chance=0.9), Requirement("Is it red?", chance=0.2)
    tried = run(
        attempt("a cat", 0.4, requirements=(cat, red)),
        attempt("a pet", 0.1, requirements=(cat, red)),
    )
    best, other = history.describe(tried).split("\n\n")
    assert "   Met, must stay: Is there a cat?\n   Not met: Is it red?" in best
    assert "must stay" not in other
    assert "Not met: Is it red?" in other


def test_of_many_prompts_the_best_are_told_in_the_order_they_were_tried() -> None:
    tried = run(*(attempt(f"cat {i}", i / 20) for i in range(12)))
    firsts = [line for line in history.describe(tried).splitlines() if line[:1].isdigit()]
    assert firsts == [f"{i}. cat {i + 3}" for i in range(1, 9)]


def test_the_critic_is_told_all_and_nothing_in_it_is_replaced() -> None:
    request = Request("a {tried} cat", negative="dogs")
    (message,) = RUBRIC.reword(request, "1. {request}", limit=77, avoid=True)
    text = message["content"][0]["text"]
    assert "a {tried} cat" in text
    assert "1. {request}" in text
    assert "dogs" in text
    assert "77 tokens" in text
    assert "## Negative Prompt" in text
    (message,) = RUBRIC.reword(request, "1. {request}")
    assert "## Negative Prompt" not in message["content"][0]["text"]


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("## Refined Request: a fat cat\n## Negative Prompt: dogs, fog", "a fat cat", "dogs, fog"),
        ("## Refinement Comments: x\n## Refined Request: a fat cat", "a fat cat", ""),
        ("Refined Request: a fat cat\nNegative Prompt: None", "a fat cat", ""),
        ("a fat cat", "a fat cat", ""),
        ("## Refined Request: None\n## Negative Prompt: dogs", None, "dogs"),
    ],
)
def test_replies(text: str, prompt: str | None, negative: str) -> None:
    assert reply.read_wording(text, RUBRIC) == Wording(prompt, negative, text)


def test_half_a_negative_prompt_is_none() -> None:
    text = "## Refined Request: a fat cat\n## Negative Prompt: dogs, f"
    assert reply.read_wording(text, RUBRIC, cut_off=True) == Wording("a fat cat", "", text)


@pytest.mark.parametrize(
    ("negative", "said"),
    [
        ("dogs, fog", ""),
        ("", ""),
        ("fog, Red Ball", "must not hold what is asked for: Red Ball"),
        ("low scores", "only name what is not to be seen: scores"),
        (" ".join(["fog"] * 13), "too long: it has 13 words"),
    ],
)
def test_a_negative_prompt_may_not_forbid_what_is_asked_for(negative: str, said: str) -> None:
    complaint = negative_complaint(Request("a cat and a red ball"), negative, FITS)
    assert said in complaint
    assert bool(said) == bool(complaint)


def reworded(wording: Wording, second: Wording | None = None, prompt: str = "a cat") -> Wording:
    critic = FakeCritic({})
    critic.wordings = {0: wording}
    critic.second = {0: second} if second else {}
    runs = [run(attempt(prompt, 0.2), prompt=prompt)]
    (checked,) = check_wordings(critic, runs, critic.reword(runs), FITS)
    assert checked is not None
    return checked


@pytest.mark.parametrize(
    ("wording", "complaint"),
    [
        (Wording("a cat"), "it was tried before"),
        (Wording('a cat that says "BOO"'), "asks for no such writing: BOO"),
        (Wording("a fat cat", "a cat"), "must not hold what is asked for: a cat"),
    ],
)
def test_one_that_breaks_a_guard_is_asked_for_once_more(wording: Wording, complaint: str) -> None:
    good = reworded(wording, Wording("a thin cat", "fog"))
    assert (good.prompt, good.negative) == ("a thin cat", "fog")
    assert [(one.prompt, complaint in one.complaint) for one in good.rejected] == [
        (wording.prompt, True)
    ]
    bad = reworded(wording, wording)
    assert bad.prompt is None
    assert len(bad.rejected) == 2
    assert reworded(wording).prompt is None


def test_one_that_keeps_to_the_guards_is_taken_as_it_is() -> None:
    assert reworded(Wording("a fat cat", "fog")) == Wording("a fat cat", "fog")
    assert reworded(Wording(None)) == Wording(None)


def test_it_is_drawn_first_and_its_negative_prompt_goes_with_it() -> None:
    tried = replace(run(attempt("a cat", 0.2, refined="a fat cat")), request=Request("a cat", "x"))
    last = replace(tried.rounds[0], wording=Wording("a thin cat", "fog"))
    tried = replace(tried, rounds=(last,))
    drawn = [(c.prompt, c.negative) for c in Refine(2, 0).propose(tried)]
    assert drawn == [("a thin cat", "x, fog"), ("a fat cat", "x")]
    (reflected,) = Reflect(1, 0).propose(tried)
    assert (reflected.prompt, reflected.negative) == ("a thin cat", "x, fog")
    assert [c.prompt for c in BestOfN(1, 0).propose(tried)] == ["a cat"]


def test_the_loop_asks_after_each_round_but_the_last() -> None:
    critic = FakeCritic({}, otherwise=0.5)
    critic.wordings = {0: Wording("a thin cat", "fog"), 1: Wording(None)}
    steps = list(
        refine(
            [Run("a", Request("a cat"))],
            generator := FakeGenerator(),
            critic,
            Refine(1, 0),
            StopRule(rounds=3, patience=5),
        )
    )
    assert [step.run.rounds[-1].wording is not None for step in steps] == [True, True, False]
    assert steps[-1].run.stop is StopReason.ROUNDS
    assert [c.prompt for (c,) in generator.calls] == ["a cat", "a thin cat", "the prompt after 0"]
    assert generator.calls[1][0].negative == "fog"


def test_the_loop_does_not_ask_where_it_is_told_so() -> None:
    critic = FakeCritic({}, otherwise=0.5)
    critic.wordings = {0: Wording("a thin cat", "fog")}
    parts = FakeGenerator(), critic, Refine(1, 0), StopRule(rounds=2)
    steps = list(refine([Run("a", Request("a cat"))], *parts, history=False))
    assert [step.run.rounds[-1].wording for step in steps] == [None, None]
    assert [step.last for step in steps] == [True, True]


# What no image of a run met


def by_lists(*tried):
    """A run of (prompt, {question: chance}), each image with a checklist of its own."""
    attempts = tuple(
        Attempt(
            Candidate(prompt, 0),
            Critique(
                requirements=tuple(
                    Requirement(question, "", (0,) if question.startswith("two") else (), chance)
                    for question, chance in answers.items()
                )
            ),
            "x.png",
        )
        for prompt, answers in tried
    )
    return Run("a", Request("a"), rounds=(Round(0, attempts),))


def answered(*tried):
    """A run of (prompt, chances): of a cat, that there are two, and of a hat."""
    names = ("a cat?", "two cats?", "a hat?")
    return by_lists(*[(prompt, dict(zip(names, each, strict=True))) for prompt, each in tried])


def questions(run):
    return [requirement.question for requirement in history.never_met(run)]


FOUR = [("a", (0.9, 0.1, 0.9)), ("a", (0.9, 0.3, 0.1)), ("b", (0.2, 0.2, 0.9)), ("b", (0.9, 0, 1))]


def test_what_failed_on_every_prompt_and_seed_is_named_with_its_best_chance():
    assert questions(answered(*FOUR)) == ["two cats?"]
    assert history.never_met(answered(*FOUR))[0].chance == 0.3


def test_what_was_met_once_can_be_drawn():
    assert questions(answered(*FOUR[:3], ("b", (0.9, 0.6, 1)))) == []


def test_too_little_was_tried_to_say():
    assert questions(answered(*FOUR[:3])) == []
    assert questions(answered(*[("a", chances) for _, chances in FOUR])) == []


def test_what_needs_a_missing_thing_is_not_named_beside_it():
    assert questions(answered(*[(prompt, (0.1, 0.1, 0.9)) for prompt, _ in FOUR])) == ["a cat?"]


def test_without_a_checklist_there_is_no_verdict():
    attempts = tuple(Attempt(Candidate("a", i), Critique(overall=0.1), "x") for i in range(8))
    assert history.never_met(Run("a", Request("a"), rounds=(Round(0, attempts),))) == []


def test_answers_belong_to_their_question_wherever_it_stands():
    """As in a run of old that went on with another checklist: reordered, shorter, longer."""
    cat, two, hat = "a cat?", "two cats?", "a hat?"
    mixed = by_lists(
        ("a", {cat: 0.9, two: 0.1, hat: 0.9}),
        ("a", {cat: 0.9, hat: 0.8, two: 0.3}),
        ("b", {hat: 0.9, cat: 0.9, two: 0.2}),
        ("b", {cat: 0.9, two: 0.1}),
        ("b", {cat: 0.9, two: 0.1, "a dog?": 0.1}),
    )
    assert questions(mixed) == [two]
    assert history.never_met(mixed)[0].chance == 0.3


def test_a_requirement_that_was_asked_too_seldom_is_not_judged_by_what_others_were():
    mixed = by_lists(*[(p, {"a cat?": 0.9}) for p in "aabb"], ("b", {"a hat?": 0.1}))
    assert questions(mixed) == []
