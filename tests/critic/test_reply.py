"""Replies of every shape."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from replies import ASPECTS, EDITING, REFINED, REPLY, RUBRIC, refined, scored, scores

from gcr.core.guards import complaint
from gcr.core.plaintext import plain
from gcr.core.records import AspectScore, Critique, Request
from gcr.critic import checklist, pairwise
from gcr.critic.reply import is_complete, read, read_wording, write
from gcr.critic.scoring import overall

if TYPE_CHECKING:
    from gcr.critic.rubric import Rubric


def test_a_reply_in_the_form_it_was_asked_for() -> None:
    critique = read(REPLY, RUBRIC)
    assert critique.overall == pytest.approx((2.5 + 3.0 + 2.25 - 3) / 9)
    assert critique == Critique(
        aspects=(
            AspectScore(ASPECTS[0], 2.5, "The cat is red.\nThe mat is missing."),
            AspectScore(ASPECTS[1], 3.0, "The tail ends in a second tail."),
            AspectScore(ASPECTS[2], 2.25, 'It reads "HELO".'),
        ),
        overall=critique.overall,
        summary="A cat without its mat.",
        advice="Name the mat.",
        refined=REFINED,
        raw=REPLY,
    )


def test_editing_has_an_aspect_more() -> None:
    text = REPLY.replace("3. Text R", "4. Text R").replace("2. Phys", "3. Phys")
    text = text.replace(
        "3. Phys", "2. Image Faithfulness:\n## Justification: Same face.\n## Score: 4.0\n3. Phys"
    )
    critique = read(text, EDITING)
    assert [a.score for a in critique.aspects] == [2.5, 4.0, 3.0, 2.25]
    assert read(REPLY, EDITING).problem == "unreadable reply: no score for Image Faithfulness"


@pytest.mark.parametrize(
    ("lowest", "highest"), [([1.0], [4.0]), ([1, 1, 1], [4, 4, 4]), ([0.9], [4.1])]
)
def test_overall_goes_from_0_to_1(lowest: list[float], highest: list[float]) -> None:
    assert (overall(lowest), overall(highest)) == (0.0, 1.0)
    assert overall([1.0, 4.0]) == pytest.approx(0.5)


def test_the_score_may_come_before_the_justification() -> None:
    text = re.sub(r"(?m)^(## Justification: [^#]*)(## Score: .*\n)", r"\2\1", REPLY)
    assert text.index("## Score: 2.5") < text.index("## Justification: The cat is red.")
    assert read(text, RUBRIC) == replace(read(REPLY, RUBRIC), raw=text)


@pytest.mark.parametrize(
    ("written", "score"),
    [
        ("## Score: 3", 3.0),
        ("##Score:3", 3.0),
        ("## Score 3", 3.0),
        ("## score: 3.5", 3.5),
        ("## Score: 3.5/4", 3.5),
        ("## Score: 3.5 / 4.0", 3.5),
        ("## Score: 3.5 out of 4", 3.5),
        ("## Score: 3.5 (out of 4)", 3.5),
        ("## Score: **3.5**", 3.5),
        ("## Score: **3.5**/4", 3.5),
        ("**Score: 3.5**", 3.5),
        ("**Score:** 3.5", 3.5),
        ("* Score: 3.5", 3.5),
        ("## Score: [3.5]", 3.5),
        ("## Score: `3.5`.", 3.5),
        ("## Score: 3.25", 3.25),
        ("## Score (1-4): 3", 3.0),
        ("## Score: 3.", 3.0),
        ("## Score: 3 points", 3.0),
        ("## Score: 3 - good, but the mat is missing", 3.0),
        ("## Score: 3 (the mat is missing)", 3.0),
        ("## Score:\n3.5", 3.5),
        ("## Score:\n\n**3.5**\n", 3.5),
        ("## Score\uff1a3", 3.0),
        ("Text Faithfulness Score: 3.5", 3.5),
        ("## Score: 1", 1.0),
        ("## Score: 4.0", 4.0),
        ("## Score: 3\n## Score: 3.0", 3.0),
        ("## Score: 2.5/4 — 2 objects missing", 2.5),
        ("## Score: 3 (2 objects missing)", 3.0),
        ("## Score: 3: the 2 cats are missing", 3.0),
        ("## Score: 3 because the mat is missing", 3.0),
        ("## Score (2.5/4): the mat is missing", 2.5),
        ("## Score (1-4): 2.5", 2.5),
        ("## Score: \uff083.5\uff09", 3.5),
        ("## Score: <|begin_of_box|>2.5<|end_of_box|>", 2.5),
    ],
)
def test_ways_to_write_a_score(written: str, score: float) -> None:
    assert scores(scored(written)) == [score, 3.0, 2.25]


@pytest.mark.parametrize(
    "written",
    [
        *("0", "0.5", "5", "4.5", "10", "45", "34", "-3", "+-3", "04", "3e0", "3.5.2", "3,5"),
        *("3.5/10", "3/5", "3/40", "7/10", "3 out of 5", "3 (out of five)", "85%", "3.5%"),
        *("3 (maybe 4)", "3 (maybe 4 points)", "3/4 or 4/4", "3.5/4, 4 if lenient", "3 | 4"),
        *("3 - 2 to 4 objects", "3/4/5", "3.5 / 4.5", "3, 4 objects", "4 (3 would be harsh)"),
        *("1-4", "1 - 4", "3\u20134", "3 or 4", "3 to 4", "3, maybe 4", "3; 4", "between 3 and 4"),
        *(
            "3\u00bd",
            "\uff13",
            "\u0663",
            "three",
            "high",
            "...",
            "?",
            "N/A or 3",
            "<score>",
            "",
            "-",
        ),
        "3 and a half",
        "3\n## Score: 4",
        "3\n## Score: N/A",
        "N/A",  # required: something was asked for
    ],
)
def test_what_is_not_one_score_is_not_read(written: str) -> None:
    critique = read(scored(f"## Score: {written}"), RUBRIC)
    assert [a.score for a in critique.aspects] == [None, 3.0, 2.25]
    assert critique.overall is None
    assert critique.problem == "unreadable reply: no score for Text Faithfulness"
    # What else it says is still of use.
    assert critique.refined == REFINED


ON_THE_ASPECT = REPLY.replace(
    "1. Text Faithfulness:\n## Justification: The cat is red.\nThe mat is missing.\n## Score: 2.5",
    "{}",
)


@pytest.mark.parametrize(
    ("line", "score", "justification"),
    [
        ("1. Text Faithfulness: 2.5\nThe mat is missing.", 2.5, "The mat is missing."),
        ("1. Text Faithfulness (2.5/4): the mat is missing", 2.5, "the mat is missing"),
        ("1. **Text Faithfulness (2.5/4):** the mat is missing", 2.5, "the mat is missing"),
        ("1. Text Faithfulness [score: 3]: the mat is missing", 3.0, "the mat is missing"),
        ("1. Text Faithfulness\uff08文本保真度\uff09\uff1a\n## Score: 2.5", 2.5, ""),
        ("1. Text Faithfulness – 3/4", 3.0, ""),
        ("1. Text Faithfulness 3/4", 3.0, ""),
        ("1. Text Faithfulness: Score: 3", 3.0, ""),
        ("| Text Faithfulness | 3 | The mat is missing. |", 3.0, ""),
        ("1. Text Faithfulness (1-4): unclear", None, "unclear"),
        ("1. Text Faithfulness (3): unclear", None, "unclear"),
        ("1. Text Faithfulness (4.5/4): too good", None, "too good"),
        ("1. Text Faithfulness: 3\nof 4 cats are red", None, "of 4 cats are red"),
        ("1. Text Faithfulness: 3 objects are missing", None, "3 objects are missing"),
        ("| Text Faithfulness | 3 | 4 |", None, "3 | 4 |"),
    ],
)
def test_scores_on_an_aspects_line(line: str, score: float | None, justification: str) -> None:
    (aspect, *others) = read(ON_THE_ASPECT.format(line), RUBRIC).aspects
    assert (aspect.score, aspect.justification) == (score, justification)
    assert [a.score for a in others] == [3.0, 2.25]


def test_the_number_that_a_list_begins_with_is_no_score() -> None:
    listed = "1. Text Faithfulness: 1. the mat is missing\n2. the cat is blue\n"
    assert read(f"# Detailed Judgement\n{listed}", RUBRIC).aspects[0].score is None
    headed = "1. Text Faithfulness: 1. it is missing\n2. Physical and Visual Quality: 2. dull\n"
    scores = [aspect.score for aspect in read(f"# Detailed Judgement\n{headed}", RUBRIC).aspects]
    assert scores[:2] == [1, 2]


@pytest.mark.parametrize(
    "written",
    ["N/A", "n/a", "NA", "N.A.", "**N/A**", "N / A", "N/A (no text asked for)", "Not applicable."],
)
def test_an_optional_aspect_that_does_not_apply_leaves_the_mean(written: str) -> None:
    critique = read(REPLY.replace("2.25", written), RUBRIC)
    assert critique.aspects[2].score is None
    assert critique.overall == pytest.approx((2.5 + 3.0 - 2) / 6)
    assert critique.problem == ""


@pytest.mark.parametrize("written", ["0", "", "None of it can be read", "poor"])
def test_an_optional_aspect_that_cannot_be_read_is_not_taken_for_one_that_does_not_apply(
    written: str,
) -> None:
    critique = read(REPLY.replace("2.25", written), RUBRIC)
    assert critique.overall is None
    assert critique.problem == "unreadable reply: no score for Text Rendering"


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        ("A cat", "A cat"),
        ("A cat,\n  on a mat", "A cat, on a mat"),
        ("A cat\n\non a mat", "A cat on a mat"),
        ('"A cat"', "A cat"),
        ("“A cat”", "A cat"),
        ("'A cat's toy'", "A cat's toy"),
        ('**"A cat"**', "A cat"),
        ('"A poster with "HELLO" in red"', 'A poster with "HELLO" in red'),
        ('"HELLO" above "WORLD"', '"HELLO" above "WORLD"'),
        ("“A” and “B”", "“A” and “B”"),
        ("**Red** cat, **blue** mat", "**Red** cat, **blue** mat"),
        ('"A cat."\n\nThis wording names the cat.', "A cat."),
        ("```A cat```\n# Note: good", "A cat"),
        ("```\n# 1 DAD\non a mug\n```\nDone.", "# 1 DAD on a mug"),
        ("A cat {with} braces, 100%", "A cat {with} braces, 100%"),
        ("None of the cats look at us", "None of the cats look at us"),
        ("The same cat on a mat", "The same cat on a mat"),
        ("No changes in the sky, a cat", "No changes in the sky, a cat"),
    ],
)
def test_refined_requests(written: str, prompt: str) -> None:
    assert refined(written) == prompt
    assert refined(f"\n{written}\n") == prompt


@pytest.mark.parametrize(
    "written",
    [
        *("", "None", "none.", "**None**", "N/A", '"N/A"', "null", "...", "-", '""', "```\n```"),
        *("same", "Same as the original request.", "Unchanged", "Keep as is."),
        *("No change needed", "No changes are needed.", "No refinement necessary", "[None]"),
    ],
)
def test_no_refined_request(written: str) -> None:
    assert refined(written) is None


def test_a_reply_cut_off_loses_what_may_be_half_of_something() -> None:
    assert read(REPLY, RUBRIC, cut_off=True).refined is None
    assert read(REPLY, RUBRIC, cut_off=True).overall == read(REPLY, RUBRIC).overall
    assert read(REPLY + "# Note: and so", RUBRIC, cut_off=True).refined == REFINED
    until = REPLY.index("2.25") + 1
    assert scores(REPLY[:until]) == [2.5, 3.0, 2.0]
    assert scores(REPLY[:until], cut_off=True) == [2.5, 3.0, None]
    assert scores(REPLY[: until + 4], cut_off=True) == [2.5, 3.0, 2.25]
    short = "Text Faithfulness: 3.5\nPhysical and Visual Quality: 3"
    assert scores(short, cut_off=True) == [3.5, None, None]
    # A number in the heading's line is no score where a score was to come.
    heading = REPLY.replace("3. Text Rendering:", "3. Text Rendering: 1. the sign\n2. the rest")
    assert scores(heading) == [2.5, 3.0, 2.25]
    assert scores(heading[: heading.index("2.25") + 2], cut_off=True) == [2.5, 3.0, None]


def test_a_reply_cut_off_anywhere_never_says_more_than_the_whole() -> None:
    whole = read(REPLY, RUBRIC)
    for end in range(len(REPLY)):
        part = read(REPLY[:end], RUBRIC, cut_off=True)
        for now, then in zip(part.aspects, whole.aspects, strict=True):
            assert now.score in (None, then.score)
        assert part.overall in (None, whole.overall)
        assert (part.overall is None) == bool(part.problem)
        assert part.refined is None
        assert whole.summary.startswith(part.summary)
        unaware = read(REPLY[:end], RUBRIC)
        assert unaware.overall is None or end > REPLY.index("2.25")
        assert_literal(unaware)


def assert_literal(critique: Critique) -> None:
    """Every score stands in the reply as a number."""
    numbers = [float(n) for n in re.findall(r"[0-9]+(?:\.[0-9]+)?", critique.raw)]
    for aspect in critique.aspects:
        assert aspect.score is None or aspect.score in numbers


def test_nothing_makes_the_reader_fail_or_invent() -> None:
    rng = random.Random(7)
    pieces = [*re.split(r"(?<=[\n :])", REPLY), "```", "**", "<think>", "</think>", "1-4", "N/A",
              "Score", "\r", "\x00", "\x0b", "\u2028", "\ufffd", "\u017fcore: 3",
              "Phy\u017f\u0131cal", "#" * 40]  # fmt: skip
    for _ in range(600):
        text = "".join(rng.choices(pieces, k=rng.randrange(60)))
        assert_literal(read(text, RUBRIC, cut_off=rng.random() < 0.5))
        noise = rng.randbytes(rng.randrange(200)).decode("utf-8", errors="replace")
        assert read(noise, RUBRIC).overall is None


MARKS = (
    *(
        " ",
        "#",
        "*",
        "## Score ",
        "## Score:\n",
        ". ",
        "1. ",
        "`",
        "\n",
        "> ",
        "(",
        '"',
        "|",
        "3/4 ",
    ),
    *("«", "» ", "'a ", " 'a", "</think>", "</think>\n", "<think>\n", "<|im_end|>", "</answer>"),
    *("```\n", "# Detailed Judgement ", "1. Text Faithfulness: ", "## Refined Request:\n", "\x1b["),
    *("\x9d", "None, ", "Note: ", "sorry ", "better is the ", "1 | a |", "? ", "option 1 ", "\r"),
)


@pytest.mark.parametrize("mark", MARKS)
def test_long_rubbish_is_read_quickly(mark: str) -> None:
    # 64 kB of one mark: a pattern that tries every way to split it would take minutes.
    rubbish = mark * (65536 // len(mark))
    started = time.process_time()
    read(scored(f"## Score: 3 {rubbish}9") + rubbish, RUBRIC)
    read(rubbish, RUBRIC)
    read_wording(f"A cat {rubbish}", RUBRIC)
    pairwise.read(f"Better{rubbish}x")
    checklist.read(f"1 | {rubbish}x")
    plain(rubbish)
    complaint(Request(rubbish[:4096]), rubbish[:16384], lambda _: "")
    assert time.process_time() - started < 10


WORDS = [*("a red", "cat,", "the", '"OPEN"', "sign:", "3.5", "of 4", "(left)", "größer", "猫"),
         *("{x}", "it's", "1.", "and/or", "–")]  # fmt: skip


def words(rng: random.Random, most: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(most)))


@pytest.mark.parametrize("rules", [RUBRIC, EDITING], ids=lambda rules: rules.name)
def test_what_is_written_is_read_back(rules: Rubric) -> None:
    rng = random.Random(3)
    for _ in range(300):
        critique = Critique(
            aspects=tuple(
                AspectScore(
                    aspect,
                    None if aspect in rules.optional and rng.random() < 0.5
                    else rng.choice([1.0, 1.5, 2.0, 3.5, 4.0, round(rng.uniform(1, 4), 3)]),
                    words(rng),
                )
                for aspect in rules.aspects
            ),
            summary=words(rng),
            advice=f"Name {words(rng)} so\n  and {words(rng)} so",
            refined=f"A {words(rng)} cat".replace("  ", " ") if rng.random() < 0.8 else None,
        )  # fmt: skip
        text = write(critique, rules, analysis=words(rng))
        again = read(text, rules)
        assert again == replace(critique, overall=again.overall, raw=text)
        given = [a.score for a in critique.aspects if a.score is not None]
        assert again.overall == overall(given)


def test_it_is_written_in_the_form_asked_for() -> None:
    text = REPLY.replace("mat,\nwith", "mat, with").rstrip()
    analysis = 'The user wants a red cat on a mat, with the word "HELLO".'
    assert write(read(REPLY, RUBRIC), RUBRIC, analysis) == text


@pytest.mark.parametrize(
    "wrong",
    [
        {"aspects": (AspectScore(ASPECTS[0], 7.0),)},
        {"aspects": ()},
        {"summary": "Good.\n# Summary: bad"},
        {"refined": "none"},
        {"refined": '"in quotes"'},
    ],
)
def test_what_cannot_be_read_back_is_not_written(wrong: dict[str, object]) -> None:
    critique = replace(read(REPLY, RUBRIC), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"cannot say this {next(iter(wrong))}"):
        write(critique, RUBRIC)


BEFORE = REPLY[: REPLY.index("A red cat sitting")]


@pytest.mark.parametrize(
    "refined",
    [
        "None\n\n",
        '"A red cat"\n\n',
        "**A red cat**\n \n",
        "A red cat\n---\n",
        "A red cat\n## Note\n",
        "```\nA red cat\n```\n",
        "A red cat\n\nThis wording names the mat.\n\n",
        "<prompt>A red cat</prompt>\n\n",
        "I'm sorry, but I can't help with that.\n\n",
    ],
)
def test_nothing_is_read_of_what_follows_a_complete_reply(refined: str) -> None:
    text = BEFORE + refined
    assert is_complete(text, RUBRIC)
    for more in (
        "A blue dog.\n",
        "Note: x\n\nA dog",
        '"A dog"\n',
        "# Summary: other\n",
        "```\nA dog",
    ):
        assert replace(read(text + more, RUBRIC), raw="") == replace(read(text, RUBRIC), raw="")


@pytest.mark.parametrize(
    "refined",
    [
        "",
        "\n\n",
        "A red cat\n",
        "A red cat\n\n",
        "```\nA red cat\n\n",
        "Here is the request:\n\n",
        '"HELLO" above "WORLD"\n\n',
    ],
)
def test_a_request_that_may_go_on_is_not_complete(refined: str) -> None:
    assert not is_complete(BEFORE + refined, RUBRIC)


def test_a_draft_in_a_thought_is_no_complete_reply() -> None:
    assert not is_complete(f"<think>\n{BEFORE}None\n\n", RUBRIC)
    assert is_complete(f"<think>\n{BEFORE}None\n\n</think>\n{BEFORE}None\n\n", RUBRIC)
