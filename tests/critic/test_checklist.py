"""Checklists: how they are read, what they score, what an image is said to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes import FakeCritic, paint

from gcr.core.checklist import failed as failed_of
from gcr.core.checklist import score
from gcr.core.records import Critique, Request, Requirement
from gcr.critic import checklist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

LIST = """\
1 | object | - | Is there a cat?
2 | count | 1 | Are there exactly two cats?
3 | object | - | Is there a table?
4 | relation | 1, 3 | Are the cats under the table?"""


def questions(text: str) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(r.question, r.kind, r.needs) for r in checklist.read(text)]


def test_a_checklist_in_the_form_that_was_asked_for() -> None:
    assert questions(LIST) == [
        ("Is there a cat?", "object", ()),
        ("Are there exactly two cats?", "count", (0,)),
        ("Is there a table?", "object", ()),
        ("Are the cats under the table?", "relation", (0, 2)),
    ]


@pytest.mark.parametrize(
    "bent",
    [
        f"Here it is:\n\n{LIST}\n\nThat is all.",
        "\n".join(f"| {line} |" for line in LIST.splitlines()),
        "\n".join(f"- {line}" for line in LIST.splitlines()),
        f"| number | kind | needs | question |\n|---|---|---|---|\n{LIST}",
        LIST.replace(" | ", "|").replace("-", "none"),
        LIST.upper().replace("OBJECT", "Object"),
        f"```\n{LIST}\n```",
        f"{LIST}\n5 | object | - | Is there a cat?",
    ],
)
def test_a_checklist_bent_out_of_its_form_is_read_all_the_same(bent: str) -> None:
    assert [(q.lower(), *rest) for q, *rest in questions(bent)] == [
        (q.lower(), *rest) for q, *rest in questions(LIST)
    ]


def test_what_is_no_question_is_not_asked() -> None:
    assert questions("I cannot do that.") == []
    assert questions("1 | object | - | a cat") == []
    assert questions("") == []


def test_a_requirement_needs_only_what_came_before() -> None:
    (first, second) = checklist.read("1 | a | 2, 7 | Is it?\n2 | a | 1, 1, 2 | Is it not?")
    assert (first.needs, second.needs) == ((), (0,))


def test_a_list_without_an_end_is_cut() -> None:
    endless = "\n".join(f"{n} | object | - | Is there a cat {n}?" for n in range(1000))
    assert len(checklist.read(endless)) == checklist.MOST


def answered(*chances: float) -> list[Requirement]:
    return [replace(r, chance=c) for r, c in zip(checklist.read(LIST), chances, strict=True)]


def test_the_score_is_the_geometric_mean_of_what_is_met() -> None:
    assert score(answered(1, 1, 1, 1)) == 1
    assert score(answered(1, 0, 1, 1)) == 0
    assert score(answered(1, 1, 1, 0.0625)) == pytest.approx(0.5)


def test_what_needs_more_is_met_no_more_than_that() -> None:
    # Of no cat one cannot say that there are two of it.
    assert score(answered(0.5, 1, 1, 1)) == pytest.approx((0.5**3) ** 0.25)


def test_what_an_image_fails_is_named_at_its_root() -> None:
    def failed(*chances: float) -> list[str]:
        critique = Critique(requirements=tuple(answered(*chances)))
        return [r.question for r in failed_of(critique)]

    assert failed(0.9, 0.9, 0.9, 0.9) == []
    assert failed(0.1, 0.2, 0.9, 0.1) == ["Is there a cat?"]
    assert failed(0.9, 0.2, 0.9, 0.1) == [
        "Are there exactly two cats?",
        "Are the cats under the table?",
    ]


class Asking(FakeCritic):
    """Answers with the share of the image's seed, and lists what it is told to."""

    lists: dict[str, str] = {}  # noqa: RUF012
    apart: list[str] = []  # noqa: RUF012

    def take_apart(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        self.apart = [*self.apart, *(r.prompt for r in requests)]
        return [checklist.read(self.lists.get(r.prompt, "")) for r in requests]

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        return [
            0.9 if "cat" in question else image.getpixel((0, 0))[2] / 255
            for image, question in zip(images, questions, strict=True)
        ]


def test_scores_come_from_the_answers_and_words_from_the_critic() -> None:
    critic = Asking({0: 0.9, 51: None})
    critic.lists = {"a": "1 | o | - | Is there a cat?\n2 | o | - | Is there a hat?", "b": LIST}
    by_list = checklist.ByChecklist(critic)
    a, b, c = Request("a"), Request("b"), Request("c")
    first, second, third, fourth = by_list.judge([a, b, a, c], [paint(n) for n in (0, 51, 255, 0)])
    assert (first.overall, first.refined) == (0, "the prompt after 0")
    assert second.overall == pytest.approx((0.9 * 0.81 * 0.2 * 0.18) ** 0.25)
    assert (second.problem, second.raw) == ("", "?")  # an unread reply does not unscore it
    assert third.overall == pytest.approx(0.9**0.5)
    assert [r.chance for r in third.requirements] == pytest.approx([0.9, 1.0])
    assert (fourth.overall, "take the request apart" in fourth.problem) == (None, True)


def test_a_request_is_taken_apart_once() -> None:
    critic = Asking({})
    critic.lists = {"a": LIST}
    by_list = checklist.ByChecklist(critic)
    for _ in range(2):
        by_list.judge([Request("a"), Request("a")], [paint(1), paint(2)])
    assert critic.apart == ["a"]


def test_a_request_that_brings_its_checklist_is_held_against_that_one() -> None:
    """As after a resume: another process took it apart, and answers must mean the same."""
    critic = Asking({})
    critic.lists = {"a": LIST}
    (hat,) = checklist.read("1 | o | - | Is there a hat?")
    recorded = Request("a", checklist=(hat,))
    by_list = checklist.ByChecklist(critic)
    first, second = by_list.judge([Request("a"), recorded], [paint(1), paint(2)])
    assert [r.question for r in second.requirements] == ["Is there a hat?"]
    # The same words in the same process are taken apart as they were.
    assert [r.question for r in first.requirements] == ["Is there a hat?"]
    assert critic.apart == []
