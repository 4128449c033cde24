"""Replies in the forms that RationalRewards was trained to write, read as its own parsers do.

The words are ours, the forms those of its repository (TIGER-AI-Lab/RationalRewards: the parsers in
README.md for single images, `reward_model_evaluation/modular_rm_eval` for pairs, with the heading
of the second aspect as the prompts have it). Each case has what the released parser makes of it;
where we read something else, the case says so, and why.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from gcr.core.records import Preference
from gcr.critic import pairwise, rubric
from gcr.critic.reply import places, read

T2I = rubric.load("rational-rewards")
EDIT = rubric.load("rational-rewards-editing")

Scores = tuple[float | None, ...]
"""Of each aspect; None where it does not apply or cannot be read, which the released parsers do not
tell apart: either leaves the mean.
"""
SAME: Scores = ()
FIRST, SECOND, TIE = Preference

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
THOUGHT = "<think>\nThe boat looks fine, perhaps ## Score: 2 or so.\n</think>\n\n"


class Single(NamedTuple):
    """A reply on one image.

    scores: what stands after `## Score:` for each aspect. released: the released parser's reading.
    ours: what we read instead, and why.
    """

    scores: tuple[str, ...]
    released: Scores
    ours: Scores = SAME
    why: str = ""
    before: str = ""
    after: str = ""
    form: str = "justified"


def drawn(case: Single, aspects: tuple[str, ...]) -> str:
    """The whole reply."""
    lines = ["# User Request Analysis", "A green boat on a calm lake, seen from the shore."]
    lines.append("# Detailed Judgement")
    for number, (aspect, score) in enumerate(zip(aspects, case.scores, strict=True), 1):
        words = "## Justification: The hull is green, and its mast leans a little."
        written = f"## Score: {score}"
        lines.append(f"{number}. {aspect}:")
        lines += [words, written] if case.form == "justified" else [written, words]
    lines += [
        "# Summary: A good boat.",
        "",
        "# User Request Refinement:",
        "## Refinement Comments: Say that the mast is upright.",
        "## Refined Request: A green boat with an upright mast on a calm lake",
    ]
    return case.before + "\n".join(lines) + case.after


ASKED = "unreadable here, so the critic is asked again: it is no score out of 4"
WHOLE = "a reply that is read in part must not outrank one that is read whole"

T2I_CASES = [
    Single(("3.5", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("4", "4", "4"), (4.0, 4.0, 4.0)),
    Single(("1", "1.2", "N/A"), (1.0, 1.2, None)),
    Single(("3.75", "2.25", "1.5"), (3.75, 2.25, 1.5)),
    Single(("3.5", "3.0", "N/A"), (3.5, 3.0, None), before=EMPTY_THOUGHT),
    Single(("3.5", "3.0", "N/A"), (3.5, 3.0, None), before=THOUGHT),
    Single(("3.5", "3.0", "N/A"), (3.5, 3.0, None), form="score first"),
    Single(("3.5", "3.0", "2.8"), (3.5, 3.0, 2.8), after="<|im_end|>"),
    Single(("3.5 (anchored at 4, minus 0.5)", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("3.5 -> 3.3", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("3.5 → 3.3 after a second look", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("3.8 (4.0 - 0.2)", "3.0", "N/A"), (3.8, 3.0, None)),
    Single(("3.2 = 3 + 0.2 for the light", "3.0", "N/A"), (3.2, 3.0, None)),
    Single(("3.5, deducted 0.5 for the mast", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("3 (level 3 of 4), adjusted by 0", "3.0", "N/A"), (3.0, 3.0, None)),
    Single(("3.6 / 4.0", "3.0", "N/A"), (3.6, 3.0, None)),
    Single(("3.6 out of 4", "3.0", "N/A"), (3.6, 3.0, None)),
    Single(("3 or 4", "3.0", "N/A"), (3.0, 3.0, None)),
    Single(("3.5; text 4, boat 3", "3.0", "N/A"), (3.5, 3.0, None)),
    Single(("3.9 points", "2.9 points", "N/A"), (3.9, 2.9, None)),
    Single(("4.5", "3.0", "N/A"), (4.0, 3.0, None)),
    Single(("0", "3.0", "N/A"), (1.0, 3.0, None)),
    Single(("5 (exceptional)", "0.5", "N/A"), (4.0, 1.0, None)),
    Single(("3.5", "3.0", "N/A (no writing is asked for)"), (3.5, 3.0, None)),
    Single(("3.5", "3.0", "Not applicable"), (3.5, 3.0, None)),
    Single(
        ("**3.5**", "3.0", "N/A"),
        (None, 3.0, None),
        (3.5, 3.0, None),
        "bold type hides the number from that parser, not from a reader",
    ),
    Single(
        ("[3.5]", "`3.0`", "N/A"), (None, None, None), (3.5, 3.0, None), "as above, of brackets"
    ),
    Single(("7/10", "3.0", "N/A"), (4.0, 3.0, None), (None, 3.0, None), ASKED),
    Single(("85%", "3.0", "N/A"), (4.0, 3.0, None), (None, 3.0, None), ASKED),
    Single(("1-4", "3.0", "N/A"), (1.0, 3.0, None), (None, 3.0, None), "it repeats the scale"),
    Single(("3,5", "3.0", "N/A"), (3.0, 3.0, None), (None, 3.0, None), "a decimal comma, cut off"),
    Single(("N/A", "3.0", "N/A"), (None, 3.0, None), why=WHOLE),
    Single(("about 3", "3.0", "N/A"), (None, 3.0, None), why=WHOLE),
]
EDIT_CASES = [
    Single(("3.5", "4.0", "3.0", "N/A"), (3.5, 4.0, 3.0, None)),
    Single(("2", "3", "3.4", "3.9"), (2.0, 3.0, 3.4, 3.9)),
    Single(("3.5", "4.0", "3.0", "N/A"), (3.5, 4.0, 3.0, None), before=EMPTY_THOUGHT),
    Single(("3.5", "4.0", "3.0", "N/A"), (3.5, 4.0, 3.0, None), before=THOUGHT),
    Single(("3.5", "4.0", "3.0", "N/A"), (3.5, 4.0, 3.0, None), form="score first"),
    Single(("**3.5**", "4.0", "3.0", "**N/A**"), (3.5, 4.0, 3.0, None)),
    Single(("3.5 (anchored at 4, minus 0.5)", "4", "3 -> 2.8", "N/A"), (3.5, 4.0, 3.0, None)),
    Single(("3.5", "4 or 3", "3.0", "N/A: no text"), (3.5, 4.0, 3.0, None)),
    Single(
        ("4.5", "4.0", "3.0", "N/A"),
        (4.5, 4.0, 3.0, None),
        (None, 4.0, 3.0, None),
        "that parser clamps nothing here; beyond the scale there is no score, so it is asked again",
    ),
    Single(("0", "4.0", "3.0", "N/A"), (0.0, 4.0, 3.0, None), (None, 4.0, 3.0, None), "as above"),
    Single(("3.5", "N/A", "3.0", "N/A"), (3.5, None, 3.0, None), why=WHOLE),
]


@pytest.mark.parametrize("case", T2I_CASES)
def test_an_image(case: Single) -> None:
    check(case, drawn(case, T2I.aspects), clamped=True)


@pytest.mark.parametrize("case", EDIT_CASES)
def test_an_edit(case: Single) -> None:
    check(case, drawn(case, EDIT.aspects), clamped=False)


def check(case: Single, text: str, *, clamped: bool) -> None:
    rules = T2I if clamped else EDIT
    critique = read(text, rules)
    expected = case.ours or case.released
    assert tuple(a.score for a in critique.aspects) == expected
    assert critique.refined == "A green boat with an upright mast on a calm lake"
    scores = [score for score in expected if score is not None]
    mean = pytest.approx((sum(scores) / len(scores) - 1) / 3)
    assert critique.overall == (None if case.why == WHOLE or None in expected[:-1] else mean)
    assert (case.ours == SAME) or case.why
    for aspect, at in places(text, rules).items():
        score = next(a.score for a in critique.aspects if a.aspect == aspect)
        assert text[at:].startswith(f"{score:g}")


class Pair(NamedTuple):
    """A reply on two images. lines: of each aspect, those after its justification."""

    lines: tuple[tuple[str, ...], ...]
    released: Preference
    ours: Preference | None = None
    why: str = ""
    before: str = ""
    after: str = ""


def scores(a: str, b: str, winner: str = "") -> tuple[str, ...]:
    lines = (f"## Score A: {a}", f"## Score B: {b}")
    return (*lines, f"## Winner: {winner}") if winner else lines


NONE = scores("N/A", "N/A", "N/A")
PAIRS = [
    Pair((scores("3.5", "3.0", "Image A"), scores("3.0", "3.0", "It's a tie"), NONE), FIRST),
    Pair((scores("3.0", "3.6", "Image B"), scores("3.0", "3.0", "It's a tie"), NONE), SECOND),
    Pair((scores("3.0", "3.0", "It's a tie"), scores("2", "2.0", "It's a tie"), NONE), TIE),
    Pair((scores("3.5", "3.0"), scores("3.0", "3.2"), NONE), FIRST),
    Pair((scores("3.5", "3.0"), scores("3.0", "3.5"), NONE), TIE),
    Pair((scores("4", "1"), scores("1", "3.9"), scores("2.5", "2.7")), SECOND),
    Pair((scores("3.0", "3.0"), scores("3", "3"), scores("N/A", "2.0", "Image A")), FIRST),
    Pair((scores("3.0", "3.0"), scores("3", "3"), scores("N/A", "3.0", "Image B")), SECOND),
    # The winner that an aspect names does not count: the sums do.
    Pair((scores("3.5", "3.0", "Image B"), scores("3", "3", "Image B"), NONE), FIRST),
    Pair((scores("3.5 (4 - 0.5)", "3.8 (anchored at 4)"), scores("3", "3"), NONE), SECOND),
    Pair((scores("3.5/4", "3.0/4"), scores("3", "3"), NONE), FIRST),
    Pair((scores("**3.5**", "**3.0**"), scores("~3", "~3"), NONE), FIRST),
    Pair((scores("3.5", "3.0"), scores("3", "3"), NONE), FIRST, before=EMPTY_THOUGHT),
    Pair((scores("3.5", "3.0"), scores("3", "3"), NONE), FIRST, before=THOUGHT),
    Pair((scores("3.5", "3.0"), scores("3", "3"), ()), FIRST),
    Pair((("## Score A: 3.5",), scores("3", "3"), NONE), FIRST),
    Pair(
        (("## Winner: Image A",), ("## Winner: Image A",), ("## Winner: It's a tie",)),
        TIE,
        FIRST,
        "without any scores the winners are all that it says",
    ),
    Pair(
        (scores("3.5", "3.0"), scores("3", "3"), NONE),
        FIRST,
        SECOND,
        "it says of both images as a whole which one wins, after all",
        after="\nOverall Winner: Image B",
    ),
]


@pytest.mark.parametrize("case", PAIRS)
def test_a_pair(case: Pair) -> None:
    lines = ["# User Request Analysis", "A green boat.", "# Detailed Judgement"]
    for number, (aspect, said) in enumerate(zip(T2I.aspects, case.lines, strict=True), 1):
        words = (
            "## Justification: Image A has an upright mast; Image B is better: its hull is green."
        )
        lines += [f"{number}. {aspect}:", words, *said]
    lines.append("# Summary: Image B is better: Image A has no green hull.")
    assert (case.ours is None) or case.why
    assert pairwise.read(case.before + "\n".join(lines) + case.after) is (
        case.ours or case.released
    )


def test_there_are_sixty() -> None:
    assert len(T2I_CASES) + len(EDIT_CASES) + len(PAIRS) >= 60
