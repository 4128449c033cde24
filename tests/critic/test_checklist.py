"""Checklists: how they are read, what they score, what an image is said to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from fakes import POCKET, FakeCritic, FakeSpeaker, images_in, paint, replying, seed_of, text_of

from gcr.core.history import failed as failed_of
from gcr.core.records import Critique, Request, Requirement
from gcr.critic import checklist
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.scoring import checklist_score as score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.critic.rubric import Message

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


class Asked:
    """A model whose lists are as they are told, and whose answers are the share of a seed.

    lists: by the request. apart: the requests that it was asked to take apart.
    """

    def __init__(self, says: Mapping[int, float | None], lists: Mapping[str, str]) -> None:
        self.lists = lists
        self.apart: list[str] = []
        self.judges = replying(FakeCritic(says))

    def critic(self) -> VisionLanguageCritic:
        return VisionLanguageCritic(FakeSpeaker(self.says, self.yes), POCKET, score="checklist")

    def says(self, chat: list[Message]) -> str:
        if images_in(chat):
            return self.judges(chat)
        if len(chat) > 1:  # asked once more, in vain
            return ""
        request = text_of(chat).removeprefix("Checklist: ")
        self.apart.append(request)
        return self.lists.get(request, "")

    def yes(self, chat: list[Message]) -> float:
        (image,) = images_in(chat)
        return 0.9 if "cat" in text_of(chat) else seed_of(image) / 255


def test_scores_come_from_the_answers_and_words_from_the_critic() -> None:
    lists = {"a": "1 | o | - | Is there a cat?\n2 | o | - | Is there a hat?", "b": LIST}
    critic = Asked({0: 0.9, 51: None}, lists).critic()
    a, b, c = Request("a"), Request("b"), Request("c")
    first, second, third, fourth = critic.judge([a, b, a, c], [paint(n) for n in (0, 51, 255, 0)])
    assert (first.overall, first.refined) == (0, "the prompt after 0")
    assert second.overall == pytest.approx((0.9 * 0.81 * 0.2 * 0.18) ** 0.25)
    assert (second.problem, second.raw) == ("", "?")  # an unread reply does not unscore it
    assert third.overall == pytest.approx(0.9**0.5)
    assert [r.chance for r in third.requirements] == pytest.approx([0.9, 1.0])
    assert (fourth.overall, "take the request apart" in fourth.problem) == (None, True)


def test_a_request_is_taken_apart_once() -> None:
    asked = Asked({}, {"a": LIST})
    critic = asked.critic()
    for _ in range(2):
        critic.judge([Request("a"), Request("a")], [paint(1), paint(2)])
    assert asked.apart == ["a"]


def test_what_is_screened_first_has_the_same_scores_and_is_asked_once() -> None:
    lists = {"a": "1 | o | - | Is there a cat?\n2 | o | - | Is there a hat?", "b": LIST}
    requests, images = [Request("a"), Request("b"), Request("c")], [paint(n) for n in (51, 255, 0)]
    whole = Asked({51: 0.9}, lists).critic().judge(requests, images)
    asked = Asked({51: 0.9}, lists)
    critic = asked.critic()
    scored = critic.screen(requests, images)
    assert [critique.overall for critique in scored] == [c.overall for c in whole]
    assert [critique.is_score_alone for critique in scored] == [True, True, False]
    assert not any(critique.raw or critique.refined for critique in scored)
    assert asked.apart == ["a", "b", "c"]
    assert isinstance(critic.speaker, FakeSpeaker)
    critic.speaker.chance_of_yes = lambda _: 1 / 0
    assert critic.judge(requests, images, scored=scored) == whole


def test_an_image_is_made_ready_once_for_all_questions() -> None:
    speaker = FakeSpeaker(lambda _: "", lambda chat: shown.append(images_in(chat)[0]) or 0.5)
    shown: list[object] = []
    images = [paint(0), paint(1)]
    critic = VisionLanguageCritic(speaker, POCKET, score="checklist")
    critic.answer([images[0]] * 3 + [images[1]] * 2, ["a?", "b?", "c?", "d?", "e?"])
    assert [shown.index(image) for image in shown] == [0, 0, 0, 3, 3]
    assert len({id(image) for image in shown}) == 2


def test_what_is_read_from_critiques_is_not_screened() -> None:
    critic = VisionLanguageCritic(FakeSpeaker(lambda _: ""), POCKET, score="soft")
    with pytest.raises(ValueError, match="soft"):
        critic.screen([Request("a")], [paint(0)])


def test_a_request_that_brings_its_checklist_is_held_against_that_one() -> None:
    """As after a resume: another process took it apart, and answers must mean the same."""
    asked = Asked({}, {"a": LIST})
    (hat,) = checklist.read("1 | o | - | Is there a hat?")
    recorded = Request("a", checklist=(hat,))
    first, second = asked.critic().judge([Request("a"), recorded], [paint(1), paint(2)])
    assert [r.question for r in second.requirements] == ["Is there a hat?"]
    # The same words in the same process are taken apart as they were.
    assert [r.question for r in first.requirements] == ["Is there a hat?"]
    assert asked.apart == []
