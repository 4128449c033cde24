"""Sections are found however their headings are dressed, and only where they belong."""

from __future__ import annotations

import re

import pytest
from replies import REFINED, REPLY, RUBRIC, refined, scores

from gcr.critic.reply import read

DRESSED = {
    "CRLF": REPLY.replace("\n", "\r\n"),
    "upper case": re.sub(r"(?m)^(?:#+|\d\.) .*?:", lambda m: m[0].upper(), REPLY),
    "no spaces": REPLY.replace("## ", "##").replace("# ", "#").replace(": ", ":"),
    "indented": "\n\n" + re.sub("(?m)^", "   ", REPLY),
    "no numbering": re.sub(r"(?m)^\d\. ", "", REPLY),
    "no hash": REPLY.replace("## ", "").replace("# ", ""),
    "bold headings": re.sub(r"(?m)^#+ (.*?):", r"**\1**:", REPLY),
    "bold with colon": re.sub(r"(?m)^#+ (.*?):", r"**\1:**", REPLY),
    "bold aspects": re.sub(r"(?m)^(\d\..*):$", r"**\1**", REPLY),
    "bold after number": re.sub(r"(?m)^(\d\.) (.*):$", r"\1 **\2:**", REPLY),
    "aspects as headings": re.sub(r"(?m)^(\d\.)", r"### \1", REPLY),
    "bullets": re.sub(r"(?m)^## ", "- ", REPLY),
    "ampersand": REPLY.replace("Physical and", "Physical &"),
    "American": REPLY.replace("Judgement", "Judgment"),
    "in a fence": f"```markdown\n{REPLY}```\n",
    "in a fence after a greeting": f"Here is my evaluation:\n\n```\n{REPLY}\n```",
    "thinking first": f"<think>\n## Score: 1.0\n{REPLY.replace('2.5', '4')}</think>\n\n{REPLY}",
    "thinking closed only": f"Let me see.\n{REPLY.replace('2.5', '4')}</think>\n{REPLY}",
    "a mark of thinking asked for": REPLY.replace("The user", "</think> The user"),
    "all on one line": " ".join(REPLY.split()),
    "refined in quotes": REPLY.replace("A red cat", '"A red cat').replace("it\n", 'it"\n'),
    "refined in bold": REPLY.replace("A red cat", "**A red cat").replace("it\n", "it**\n"),
    "refined in backticks": REPLY.replace("A red cat", "`A red cat").replace("it\n", "it`\n"),
    "refined in a fence": REPLY.replace("A red cat", "\n```text\nA red cat") + "```\n",
    "refined below": REPLY.replace("Request: A red", "Request:\n\nA red"),
    "refined as a quote": re.sub(r"(?m)(A red cat|^with)", r"\n> \1", REPLY),
    "prose at the end": REPLY + "\n---\nI hope this helps!",
    "a section of its own at the end": REPLY + "# Note\nScore: 4\n",
}  # fmt: skip


@pytest.mark.parametrize("text", DRESSED.values(), ids=DRESSED.keys())
def test_however_it_is_dressed(text: str) -> None:
    whole, critique = read(REPLY, RUBRIC), read(text, RUBRIC)
    assert [a.score for a in critique.aspects] == [2.5, 3.0, 2.25]
    assert critique.overall == whole.overall
    assert critique.refined == REFINED
    assert (critique.summary, critique.advice) == (whole.summary, whole.advice)
    assert critique.aspects[1].justification == whole.aspects[1].justification
    assert "The mat is missing." in critique.aspects[0].justification
    assert critique.problem == ""


def test_thinking_is_no_reply() -> None:
    assert scores(f"<think>\n{REPLY}") == [None, None, None]
    short = "Text Faithfulness: {}\nPhysical and Visual Quality: 3\n# Summary: ok"
    assert scores(f"<think>{short.format(4)}</think>\n{short.format(2)}") == [2.0, 3.0, None]
    assert refined("a sign that says </think>") == "a sign that says </think>"


def without(start: str, end: str) -> str:
    return REPLY[: REPLY.index(start)] + REPLY[REPLY.index(end) :]


def test_missing_sections() -> None:
    assert scores(without("# User Request Analysis", "# Detailed")) == [2.5, 3.0, 2.25]
    assert scores(without("# User Request Analysis", "1. Text")) == [2.5, 3.0, 2.25]
    assert read(without("# Summary", "# User Request Ref"), RUBRIC).summary == ""
    assert read(without("## Refinement", "## Refined"), RUBRIC).advice == ""
    assert read(REPLY[: REPLY.index("## Refined")], RUBRIC).refined is None
    required = read(without("2. Phys", "3. Text"), RUBRIC)
    assert (required.overall, required.aspects[0].score) == (None, 2.5)
    optional = read(without("3. Text", "# Summary"), RUBRIC)
    assert optional.overall == pytest.approx((2.5 + 3.0 - 2) / 6)


def test_an_optional_aspect_still_to_come_does_not_count_as_left_out() -> None:
    assert read(REPLY[: REPLY.index("3. Text")], RUBRIC).overall is None


def test_short_forms() -> None:
    text = (
        "1. Text Faithfulness: 3.5/4\n2. Physical and Visual Quality: **3**\n3. Text Rendering: N/A"
    )
    assert read(text, RUBRIC).overall == pytest.approx((3.5 + 3 - 2) / 6)
    text = REPLY.replace("## Justification: The cat", "The cat")
    assert read(text, RUBRIC).aspects[0].justification.startswith("The cat is red.")


@pytest.mark.parametrize(
    "extra",
    ["# Overall\n## Score: 4\n", "4. Composition:\n## Score: 4\n", "**Total**\nScore: 4\n",
     "Overall Score: 4\n", "Final score: 4/4\n"],
)  # fmt: skip
def test_a_score_of_something_else_is_not_an_aspects(extra: str) -> None:
    # Text rendering goes unscored itself, so that the stray score is the only one near it.
    text = REPLY.replace("## Score: 2.25\n", extra)
    assert scores(text) == [2.5, 3.0, None]
    assert scores(REPLY.replace("# Summary", f"{extra}# Summary")) == [2.5, 3.0, 2.25]


def test_scores_outside_the_judgement_are_only_words() -> None:
    echoed = "The request says:\n1. Text Faithfulness:\n## Score: 4\n"
    assert scores(REPLY.replace("The user wants", echoed + "The user wants")) == [2.5, 3.0, 2.25]
    advice = "Name the mat.\n1. Text Faithfulness:\nScore: 4"
    critique = read(REPLY.replace("Name the mat.", advice), RUBRIC)
    assert [a.score for a in critique.aspects] == [2.5, 3.0, 2.25]
    assert critique.advice == advice
    sign = "A sign with three lines:\nText Faithfulness: 4\nScore: 4"
    assert refined(sign) == " ".join(sign.split())


def test_other_languages_stay_as_they_are() -> None:
    text = REPLY.replace("The cat is red.", "猫は赤い。評価：良い").replace(
        "A red cat", "一只红色的猫"
    )
    critique = read(text, RUBRIC)
    assert critique.aspects[0].justification.startswith("猫は赤い。評価：良い")
    assert critique.refined == REFINED.replace("A red cat", "一只红色的猫")
    assert critique.overall == read(REPLY, RUBRIC).overall
