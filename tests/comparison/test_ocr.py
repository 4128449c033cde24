"""ocr: read for real, in texts that Pillow draws."""

import sys

import pytest
from fakes import written

from gcr.comparison import evaluators
from gcr.comparison.evaluators import Choice
from gcr.core.events import ignore
from gcr.core.records import Fact, Sample, Task
from gcr.critic import ocr
from gcr.errors import UsageError


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """The scores, near and exact, of an image with texts for a prompt."""
    folder = tmp_path_factory.mktemp("ocr")
    both = [evaluators.load(Choice(name), ignore) for name in ("ocr", "ocr-exact")]

    def score(prompt, *texts, turned=0):
        path = folder / "image.png"
        written(*texts).rotate(turned, expand=True, fillcolor="white").save(path)
        sample = Sample("raw/1", prompt, path)
        scored = [list(evaluator.score([sample])) for evaluator in both]
        assert [id_ for ((id_, _),) in scored] == ["raw/1"] * 2
        return tuple(score for ((_, score),) in scored)

    return score


def test_what_is_written_as_asked_is_right(measure):
    assert measure('a shop with a sign "OPEN LATE"', "OPEN LATE") == (1, 1)


def test_a_wrong_letter_costs_its_share(measure):
    near, exact = measure('a sign "BAKERY"', "BAKLRY")
    assert (near, exact) == (pytest.approx(5 / 6), 0)


def test_what_is_missing_is_0(measure):
    assert measure('a sign "OPEN"') == (0, 0)


@pytest.mark.parametrize("turned", [90, 180, 25])
def test_turned_writing_is_read(measure, turned):
    assert measure('a sign "OPEN LATE"', "OPEN LATE", turned=turned) == (1, 1)


def test_every_text_counts(measure):
    prompt = "a door with 'OPEN' above and \"Welcome home\" below"
    assert measure(prompt, "OPEN", "Welcome home") == (1, 1)
    assert measure(prompt, "Welcome home", "OPEN") == (1, 1)
    near, exact = measure(prompt, "OPEN")
    assert (0.5 < near < 0.8, exact) == (True, 0)


def test_a_text_may_be_drawn_in_two_lines_and_among_others(measure):
    assert measure('a poster "Grand Opening"', "MONDAY", "Grand", "Opening") == (1, 1)


def test_a_request_without_quotes_has_no_score(measure):
    assert measure("a red circle", "OPEN") == (None, None)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('"OPEN", he said, on a sign', ["OPEN"]),
        ('a sign saying "OPEN," and a dog', ["OPEN"]),
        ("the dog's bowl says 'REX' and “REX”", ["REX"]),
        ("a sign that says 「営業中」", ["営業中"]),
        ('an empty sign " "', []),
    ],
)
def test_texts_that_are_wanted(prompt, texts):
    assert ocr.wanted(prompt) == texts


@pytest.mark.parametrize(
    ("text", "lines", "seen", "near"),
    [
        ("OPEN", ["open"], "open", 1),
        ("it's 5", ["it’s5"], "it's5", 1),
        ("OPEN", ["REOPENED"], "REOPENED", 0.5),
        ("OPEN", ["x", "OPEN", "y"], "OPEN", 1),
        ("Grand Opening", ["SALE", "GRAND", "Opening", "now"], "GRAND Opening", 1),
        ("営業中", ["本日営業中です"], "営業中", 1),
        ("HELLO WORLD", ["HELLOWORLD"], "HELLOWORLD", 1),
        ("abcd", ["wxyz"], "", 0),
        ("a", ["bb", "c d"], "", 0),
    ],
)
def test_what_comes_nearest_of_what_was_read(text, lines, seen, near):
    assert ocr.nearest(text, lines) == Fact(text, seen, near, "ocr")


@pytest.mark.parametrize("name", ["ocr", "ocr-exact"])
def test_prompts_that_ask_for_no_writing_are_refused_at_once(name):
    with pytest.raises(UsageError, match="no prompt has text in quotes"):
        evaluators.check(Choice(name), [Task("a red circle")], [])
    evaluators.check(Choice(name), [Task("a red circle"), Task('a "sign"')], [])


def test_what_has_to_be_installed_is_said_before_anything_is_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UsageError, match="no rapidocr to read") as caught:
        evaluators.check(Choice("ocr"), [Task('a "sign"')], [])
    assert caught.value.hint == "pip install 'gcr[ocr]'"
