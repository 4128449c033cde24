"""No thought counts: not its scores, not its verdicts, not its drafts."""

from __future__ import annotations

import pytest
from replies import REFINED, REPLY, RUBRIC, read_scores, refined, scores

from gcr.core.records import Preference
from gcr.critic import checklist, pairwise
from gcr.critic.reply import places, read, read_refined, read_wording
from gcr.critic.scoring import expected
from gcr.critic.speaker import Number, Reply
from gcr.critic.thoughts import answer

WRONG = REPLY.replace("2.5", "4.0").replace("A red cat", "A draft of a cat")
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"
THOUGHTS = [
    "<think>\n{}</think>\n\n{}",
    "<think>{}</think>{}",
    "<THINKING>\n{}\n</THINKING>\n{}",
    "<thought>\n{}\n</thought>\n{}",
    "<reasoning>\n{}\n</reasoning>\n{}",
    "<seed:think>{}</seed:think>{}",
    "[THINK]{}[/THINK]{}",
    "◁think▷{}◁/think▷{}",
    "<|START_THINKING|>{}<|END_THINKING|>{}",
    "<|channel>thought\n{}<channel|>{}",
    HARMONY,
    "analysis{}assistantfinal{}",
    "{}</think>\n\n{}",  # the chat template opened it
    "{}\n</reasoning>\n{}",
    "<think>\nThey ask for </think> on a sign.\n{}</think>\n{}",
    "Let me see.\n<think>\n{}\n</think>\n{}",
]


@pytest.mark.parametrize("form", THOUGHTS)
def test_a_judgement_in_a_thought_is_none(form: str) -> None:
    critique = read(form.format(WRONG, REPLY), RUBRIC)
    assert [a.score for a in critique.aspects] == [2.5, 3.0, 2.25]
    assert critique.refined == REFINED


@pytest.mark.parametrize("form", THOUGHTS)
def test_a_verdict_a_list_and_a_prompt_in_a_thought_are_none(form: str) -> None:
    said = form.format("Better: first", "Both are fine.\nBetter: second")
    assert pairwise.read(said) is Preference.SECOND
    assert pairwise.read(form.format("Better: first", "I cannot say.")) is None
    listed = form.format("1 | object | - | Is it a draft?", "1 | object | - | Is it a cat?")
    assert [r.question for r in checklist.read(listed)] == ["Is it a cat?"]
    assert read_refined(form.format("A dog, or so.", "A cat"), RUBRIC) == "A cat"
    wording = form.format("## Refined Request: a draft\n", "## Refined Request: a cat\n")
    assert read_wording(wording, RUBRIC).prompt == "a cat"


@pytest.mark.parametrize(
    "opening", ["<think>\n", "<reasoning>", "[THINK]", HARMONY[: HARMONY.index("{")]]
)
def test_a_thought_that_is_not_closed_says_nothing(opening: str) -> None:
    assert scores(f"{opening}{REPLY}") == [None, None, None]
    assert pairwise.read(f"{opening}Better: first") is None
    assert checklist.read(f"{opening}1 | object | - | Is it a cat?") == ()
    assert read_refined(f"{opening}A cat", RUBRIC) is None


def test_a_thought_between_two_scores_is_none_of_them() -> None:
    text = REPLY.replace("## Score: 2.5", "<think>\n## Score: 1.0\n</think>\n## Score: 2.5")
    assert read_scores(text) == [2.5, 3.0, 2.25]


def test_an_end_of_turn_right_after_a_score_is_no_part_of_it() -> None:
    until = REPLY.index("2.25") + 4
    assert scores(f"{REPLY[:until]}<|im_end|>") == [2.5, 3.0, 2.25]


def test_marks_that_a_request_asks_for_stay() -> None:
    assert refined("a sign that says </think>") == "a sign that says </think>"
    assert read_refined("a sign that says </think> in red", RUBRIC) is not None
    assert read_scores(REPLY.replace("The cat is red.", "The sign reads </think>.")) == [
        *(2.5, 3.0, 2.25)
    ]
    assert read_scores(REPLY.replace("The user", "</think> <|im_end|> The user")) == [
        2.5,
        3.0,
        2.25,
    ]


@pytest.mark.parametrize("form", THOUGHTS)
def test_soft_scores_are_those_of_the_answer(form: str) -> None:
    text = form.format(WRONG.replace("4.0", "2.5"), REPLY).strip()
    doubt = {1.0: 0.5, 2.0: 0.5}
    numbers = tuple(
        # Only inside the thought the model was in doubt.
        Number(at, doubt if at < text.rindex("# Detailed") else {float(text[at]): 1.0})
        for at in range(len(text))
        if text[at] in "123" and text[at - 7 : at] == "Score: "
    )
    hard = read(text, RUBRIC)
    assert expected(hard, Reply(text, numbers=numbers), places(text, RUBRIC)) == hard


def test_places_are_those_of_a_reply_cut_off_too() -> None:
    text = f"{REPLY[: REPLY.index('2.25')]}2.25\n## Score: 4"
    assert scores(text, cut_off=True) == [2.5, 3.0, 2.25]
    assert places(text, RUBRIC, cut_off=True)["Text Rendering"] == text.index("2.25")


def test_soft_scores_are_not_taken_from_words_about_scores() -> None:
    text = REPLY.replace("The cat is red.", "It would score 2.5 at most.")
    at = text.index("2.5")
    numbers = (Number(at, {1.0: 0.5, 2.0: 0.5}), Number(text.index("2.5", at + 1), {2.0: 1.0}))
    hard = read(text, RUBRIC)
    assert expected(hard, Reply(text, numbers=numbers), places(text, RUBRIC)) == hard


def test_every_character_of_the_answer_keeps_its_place() -> None:
    text = "<think>1</think>a<|begin_of_box|>3<|end_of_box|> b</s> <|im_start|>user"
    shown = answer(text)
    assert shown.split() == ["a", "3", "b"]
    assert all(text[i] == sign for i, sign in enumerate(shown) if sign != " ")
    dressed = REPLY.replace("\n", "\r\n").replace("## Score: 2.5", "**Score:**  `2.5`")
    assert dressed[places(dressed, RUBRIC)["Text Faithfulness"] :].startswith("2.5")
