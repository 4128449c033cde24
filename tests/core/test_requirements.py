"""What a model cannot draw, told from a whole run."""

from gcr.core.records import Attempt, Candidate, Critique, Request, Requirement, Round, Run
from gcr.core.requirements import never_met


def run(*tried):
    """A run of (prompt, chances): of a cat, that there are two, and of a hat."""
    attempts = []
    for prompt, chances in tried:
        asked = (("a cat?", ()), ("two cats?", (0,)), ("a hat?", ()))
        found = tuple(
            Requirement(question, "", needs, chance)
            for (question, needs), chance in zip(asked, chances, strict=True)
        )
        attempts.append(Attempt(Candidate(prompt, 0), Critique(requirements=found), "x.png"))
    return Run("a", Request("a"), rounds=(Round(0, tuple(attempts)),))


def questions(run):
    return [requirement.question for requirement in never_met(run)]


FOUR = [("a", (0.9, 0.1, 0.9)), ("a", (0.9, 0.3, 0.1)), ("b", (0.2, 0.2, 0.9)), ("b", (0.9, 0, 1))]


def test_what_failed_on_every_prompt_and_seed_is_named_with_its_best_chance():
    assert questions(run(*FOUR)) == ["two cats?"]
    assert never_met(run(*FOUR))[0].chance == 0.3


def test_what_was_met_once_can_be_drawn():
    assert questions(run(*FOUR[:3], ("b", (0.9, 0.6, 1)))) == []


def test_too_little_was_tried_to_say():
    assert questions(run(*FOUR[:3])) == []
    assert questions(run(*[("a", chances) for _, chances in FOUR])) == []


def test_what_needs_a_missing_thing_is_not_named_beside_it():
    assert questions(run(*[(prompt, (0.1, 0.1, 0.9)) for prompt, _ in FOUR])) == ["a cat?"]


def test_without_a_checklist_there_is_no_verdict():
    attempts = tuple(Attempt(Candidate("a", i), Critique(overall=0.1), "x") for i in range(8))
    assert never_met(Run("a", Request("a"), rounds=(Round(0, attempts),))) == []


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
    assert never_met(mixed)[0].chance == 0.3


def test_a_requirement_that_was_asked_too_seldom_is_not_judged_by_what_others_were():
    mixed = by_lists(*[(p, {"a cat?": 0.9}) for p in "aabb"], ("b", {"a hat?": 0.1}))
    assert questions(mixed) == []
