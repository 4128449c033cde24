import pytest

from gcr.core.promptdiff import left_out, pieces

MARKS = {"same": "{}", "del": "[-{}]", "ins": "[+{}]", "moved": "[~{}]"}


def marked(before, after):
    """A diff in one line, without the space at the ends of its pieces."""
    return " ".join(MARKS[kind].format(text.strip()) for kind, text in pieces(before, after))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a red cat", "a red cat", "a red cat"),
        ("a red cat", "a blue cat", "a [-red] [+blue] cat"),
        ("red cat", "Red cat, asleep", "Red cat, [+asleep]"),
        ("", "a cat", "[+a cat]"),
        ("a cat", "", "[-a cat]"),
        ("赤い猫", "青い猫", "[-赤] [+青] い猫"),
        (
            "A star above a square",
            "a blue star, above a square.",
            "a [+blue] star, above a square.",
        ),
        ("red hair", "(red hair:1.3)", "[+(] red hair: [+1.3)]"),
        # What two changes have between them is too little to be read as left alone.
        ("two red cats", "a pair of red, big dogs", "[-two red cats] [+a pair of red, big dogs]"),
        ("one at a time", "two at b places", "[-one at a time] [+two at b places]"),
        (
            "a fox above two hens, and a dog at the left",
            "a fox up, a hen down, a hen under it and a dog at the left",
            "a fox [-above two hens,] [+up, a hen down, a hen under it] and a dog at the left",
        ),
        # But what is only added leaves the words around it alone.
        ("a fox in snow", "a red fox asleep in snow", "a [+red] fox [+asleep] in snow"),
        # A phrase is added or left out as a whole, and known again in another place.
        ("a cat, a dog", "a cat, a bird, a dog", "a cat, [+a bird] , a dog"),
        ("a cat, a bird, a dog", "a cat, a dog", "a cat [-a bird] , a dog"),
        ("a red cat, a blue dog", "a blue dog, a red cat", "[~a blue dog,] a red cat"),
        (
            "a lake, soft light, red sails, blurry, 85mm",
            "Red sails, a lake, 85mm, soft light, film grain",
            "[~Red sails,] a lake, [~85mm] , soft light, [-blurry,] [+film grain]",
        ),
    ],
)
def test_a_diff_is_of_phrases(before, after, expected):
    assert marked(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("two red circles, and “a” star", "a red circle: at the top; and a red circle"),
        ("a lake, soft light, red sails, 85mm", "Red sails, 85mm, a lake, a boat and soft light"),
    ],
)
def test_a_diff_loses_no_words(before, after):
    def words(text):
        split = "".join(c if c.isalnum() else " " for c in text.casefold()).split()
        return sorted(word for word in split if word != "and")

    shown = pieces(before, after)
    assert "".join(text for kind, text in shown if kind != "del") == after
    assert words(" ".join(text for kind, text in shown if kind != "ins")) == words(before)


def test_what_is_left_out_is_named():
    shown = pieces("a cat, blurry, on a red mat", "a cat, on a blue mat")
    assert left_out(shown) == ["blurry", "red"]


def test_very_long_prompts_are_compared_quickly():
    shown = pieces("word " * 3000, "other word " * 3000)
    assert [piece.kind for piece in shown] == ["del", "ins", "same"]
    long = "a cat, " * 20_000
    assert marked(long, f"{long}a dog").endswith("a cat, [+a dog]")
