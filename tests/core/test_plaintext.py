import pytest

from gcr.core.plaintext import changed, pieces


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a red cat", "a red cat", [("same", "a red cat")]),
        (
            "a red cat",
            "a blue cat",
            [("same", "a "), ("del", "red "), ("ins", "blue "), ("same", "cat")],
        ),
        ("red cat", "Red cat, asleep", [("same", "Red cat"), ("ins", ", asleep")]),
        ("", "a cat", [("ins", "a cat")]),
        ("a cat", "", [("del", "a cat")]),
        ("赤い猫", "青い猫", [("del", "赤"), ("ins", "青"), ("same", "い猫")]),
        # What two changes have between them is too little to be read as left alone.
        (
            "two red cats",
            "a pair of red, big dogs",
            [("del", "two "), ("ins", "a pair of "), ("same", "red")],
        ),
        (
            "one at a time",
            "two at b places",
            [("del", "one at a time"), ("ins", "two at b places")],
        ),
    ],
)
def test_a_diff_names_what_is_new_and_what_is_gone(before, after, expected):
    assert [tuple(piece) for piece in pieces(before, after)][: len(expected)] == expected


def test_a_diff_loses_no_words():
    before, after = "two red circles, and “a” star", "a red circle: at the top; and a red circle"
    shown = pieces(before, after)
    assert "".join(text for kind, text in shown if kind != "ins") == before
    assert "".join(text for kind, text in shown if kind != "del") == after


def test_very_long_prompts_are_not_compared_word_by_word():
    shown = pieces("word " * 3000, "other word " * 3000)
    assert [piece.kind for piece in shown] == ["del", "ins"]


def test_changed_words_ignore_case_and_commas():
    assert changed("A star above a square", "a blue star, above a square.") == [
        ("a", False),
        ("blue", True),
        ("star,", False),
        ("above", False),
        ("a", False),
        ("square.", False),
    ]


def test_words_of_long_prompts_are_compared_quickly():
    long = "a cat, " * 20_000
    assert changed(long, f"{long}a dog")[-2:] == [("a", False), ("dog", True)]
