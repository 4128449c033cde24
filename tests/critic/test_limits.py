"""Requests outside of the embedded world: refused, or drawn with scores that are marked."""

import csv
import json
from pathlib import Path

import pytest
from fakes import POCKET, FakeCritic, FakeGenerator, FakeSpeaker, paint, replying

import gcr
from gcr.core.records import AspectScore, Critique, Request
from gcr.critic import limits, reply
from gcr.critic.critic import VisionLanguageCritic
from gcr.errors import UsageError
from gcr.pocket import language, world
from gcr.results.report import report
from gcr.settings import profiles
from gcr.storage import metadata

OUTSIDE = [
    "a photo of an astronaut riding a horse",
    "ein roter Kreis und ein blauer Stern",
    "赤い円と青い星",
    'a sign that says "OPEN"',
    "a circle",
    "a red apple",
]
PARTLY = "two red circles and a dragon"
WORDS = "“a dragon”"


@pytest.mark.parametrize("prompt", OUTSIDE)
def test_a_request_of_which_nothing_is_understood_is_refused(cli, prompt):
    ran = cli("refine", prompt)
    assert (ran.code, ran.out) == (2, "")
    error, hint = ran.err.splitlines()
    assert error.startswith("error: the embedded critic understands nothing of “")
    assert f'gcr refine "{limits.EXAMPLE}" works' in hint
    for name in set(profiles.known()) - {profiles.EMBEDDED}:
        assert name in hint
    assert not Path("outputs").exists()
    with pytest.raises(UsageError, match="understands nothing of"):
        gcr.refine(prompt)
    assert cli("refine", prompt, "--dry-run").code == 2


def test_another_critic_is_for_anything(cli):
    assert cli("refine", OUTSIDE[0], "--critic", "owner/critic", "--rounds", "1").code == 0


def test_the_example_of_the_hint_is_understood(cli):
    assert language.understand(limits.EXAMPLE) == language.Understanding((limits.EXAMPLE,), ())
    assert cli("refine", limits.EXAMPLE, "--rounds", "1").code == 0


@pytest.mark.parametrize(
    ("prompt", "ignored"),
    [
        (PARTLY, ["a dragon"]),
        ("a dragon above a red circle", ["a dragon above"]),
        ("a photo of a red circle at night", ["a photo of", "at night"]),
        ("a circle and a blue star", ["a circle"]),
        ('a red circle that reads "NO ENTRY"', ["that reads no entry"]),
        ("six red circles", ["six"]),
        ("a red circle above a blue star above a green square", ["above"]),
        ("five red circles and two blue stars", ["two blue stars"]),
        ("A red circle!", []),
        ("red circle, blue star", []),
        ("the red circle and the blue star", []),
        ("two red circles: one at the top, one at the left", []),
    ],
)
def test_what_is_not_understood_is_named(prompt, ignored):
    found = language.understand(prompt)
    assert found.phrases
    assert list(found.ignored) == ignored


def test_all_that_the_language_can_say_is_understood():
    for colour, shape in world.PAIRS:
        for text in (f"a {colour} {shape}", f"three {colour} {language.PLURALS[shape]}"):
            assert language.understand(text).ignored == ()


def marked(critic=None):
    """The embedded critic, had it a model that scores everything 1, or as it is told."""
    speaker = FakeSpeaker(replying(critic or FakeCritic({}, 1.0)))
    return VisionLanguageCritic(speaker, POCKET, limited=True)


def test_scores_say_what_they_say_nothing_of():
    partly, whole = marked().judge([Request(PARTLY), Request("a red circle")], [paint(0)] * 2)
    assert (partly.overall, partly.untrusted) == (1.0, ("a dragon",))
    assert whole.untrusted == ()


LISTED = "Seen: a red heart at the top, a small red heart at the right on white."


@pytest.mark.parametrize(
    ("checks", "contradiction"),
    [
        ("red heart: red heart at the right, right; red heart: red heart at the top, right", ""),
        ("small red heart: medium red heart at the top, wrong size; blue star: missing", ""),
        ("red heart at the top: red heart at the right, wrong place", ""),
        ("red heart: red heart at the top, right; above: top row | middle row, right", ""),
        ("medium red heart: medium red heart at the right, right", ""),
        ("red heart: red heart at the top right, right", "red heart at the top right"),
        (
            "red heart: red heart at the top, right; red heart: red heart at the top, right",
            "red heart at the top",
        ),
        ("blue heart: blue heart at the top, right", "blue heart at the top"),
        ("red star: red star at the right, right", "red star at the right"),
    ],
)
def test_no_perfect_score_is_believed_of_what_contradicts_itself(checks, contradiction):
    account = f"{LISTED} Check: {checks}."
    scored = zip(POCKET.aspects, (4.0, 4.0, None), (account, "clean.", "none."), strict=True)
    text = reply.write(Critique(aspects=tuple(AspectScore(*aspect) for aspect in scored)), POCKET)
    critic = VisionLanguageCritic(FakeSpeaker(lambda _: text), POCKET, limited=True)
    (critique,) = critic.judge([Request("two red hearts")], [paint(0)])
    assert limits.contradiction(account) == contradiction
    first, *_ = critique.aspects
    if contradiction:
        assert (first.score, critique.overall) == (3.0, pytest.approx(5 / 6))
        assert first.justification.endswith(f"no other {contradiction} is listed.")
    else:
        assert (first.score, first.justification, critique.overall) == (4.0, account, 1.0)


def test_a_score_that_is_not_to_be_trusted_is_marked_wherever_it_stands(cli):
    cli.models["critic"] = marked()
    ran = cli("refine", PARTLY, "--rounds", "2", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["stop"], told["best"]["score"]) == (0, "rounds", 1.0)  # not "target"
    assert told["untrusted"] == ["a dragon"]
    every = [told["best"], *(a for round_ in told["rounds"] for a in round_["attempts"])]
    assert all(attempt["untrusted"] == ["a dragon"] for attempt in every)
    lines = ran.err.splitlines()
    assert sum("1.00 untrusted" in line for line in lines) == 1 + told["images"]
    assert (
        f"untrusted: the score says nothing of {WORDS}, which the critic does not understand"
        in (lines[-2])
    )
    folder = Path(told["folder"])
    assert json.loads((folder / "run.json").read_text())["untrusted"] == ["a dragon"]
    story = json.loads(metadata.read(folder / "00-0.png")["gcr"])
    assert story["critique"]["untrusted"] == ["a dragon"]
    page = (folder / "index.html").read_text()
    assert f"says nothing of {WORDS}" in page
    assert page.count(">untrusted</span>") == 1 + told["images"]
    assert gcr.load_run(folder).untrusted == ("a dragon",)


def test_a_run_that_is_trusted_bears_no_mark(cli):
    cli.models["critic"] = marked()
    ran = cli("refine", "a red circle", "--json")
    told = json.loads(ran.out)
    assert (told["stop"], told["untrusted"]) == ("target", [])
    assert "untrusted" not in ran.err
    assert "untrusted" not in (Path(told["folder"]) / "index.html").read_text()


def test_in_a_batch_prompts_fail_one_by_one_and_the_others_go_on(cli, tmp_path):
    cli.models["critic"] = marked()
    (tmp_path / "p.txt").write_text("\n".join(["a red circle", OUTSIDE[0], PARTLY, OUTSIDE[2]]))
    ran = cli("batch", "p.txt", "--into", "b", "--rounds", "1")
    assert ran.code == 3
    assert (
        "2: failed: the embedded critic understands nothing of “a photo of an astronaut" in ran.err
    )
    (line,) = [line for line in ran.err.splitlines() if "/4 3: " in line]
    assert " 1.00 untrusted" in line
    results = [json.loads(line) for line in Path("b/summary.jsonl").read_text().splitlines()]
    assert [bool(one["failure"]) for one in results] == [True, True, False, False]
    by_id = {one["id"]: one for one in results}
    assert (by_id["1"]["untrusted"], by_id["3"]["untrusted"]) == ("", WORDS)
    rows = {
        row["id"]: row for row in csv.DictReader(Path("b/summary.csv").read_text().splitlines())
    }
    assert rows["3"]["untrusted"] == WORDS
    page = Path("b/index.html").read_text()
    assert page.count(">untrusted</span>") == 1
    assert cli("batch", "p.txt", "--into", "b", "--rounds", "1").code == 3
    assert cli("resume", "b").code == 3


def test_a_comparison_marks_what_it_was_steered_by(cli, tmp_path, monkeypatch):
    from gcr.comparison import evaluators

    class Even:
        def score(self, samples):
            return ((one.id, 0.5) for one in samples)

    monkeypatch.setattr(evaluators, "load", lambda *_: Even())
    cli.models["critic"] = marked()
    (tmp_path / "p.txt").write_text(f"a red circle\n{PARTLY}\n{OUTSIDE[0]}\n")
    arms = ("--arm", "raw", "--arm", "refine", "--evaluator", "command:x")
    ran = cli("compare", "p.txt", "--into", "c", "--max-images", "2", *arms)
    assert ran.code == 3
    assert (
        "untrusted: on 1 of 3 prompts the critic does not understand all that is asked: 2"
    ) in ran.err.splitlines()
    told = json.loads(Path("c/compare.json").read_text())
    assert [p["arms"]["refine"]["untrusted"] for p in told["prompts"]] == ["", WORDS, ""]
    assert "understands nothing" in told["prompts"][2]["arms"]["raw"]["failure"]
    rows = list(csv.DictReader(Path("c/compare.csv").read_text().splitlines()))
    assert [row["untrusted"] for row in rows] == ["", "", WORDS, WORDS, "", ""]
    assert Path("c/index.html").read_text().count(">untrusted</span>") == 2


def test_pairs_for_training_rest_on_scores_that_are_trusted(cli):
    from gcr.results.pairs import gather

    critiques = {i: Critique(overall=i / 10, raw="x") for i in range(4)}
    cli.models["critic"] = marked(FakeCritic(critiques))
    for prompt, left_out in ((PARTLY, {"untrusted": 1}), ("a red circle", {})):
        folder = gcr.refine(prompt, rounds=2, compare=False).folder
        found = gather([folder])
        assert (len(found.pairs), found.left_out) == (1 - len(left_out), left_out)


def test_the_embedded_critic_as_it_is_loaded_marks_its_scores():
    folder = gcr.refine(PARTLY, rounds=1, images=1, steps=4).folder
    assert gcr.load_run(folder).untrusted == ("a dragon",)
    assert "untrusted" in report(folder).read_text()


def test_nothing_is_rewarded_for_what_the_critic_knows_nothing_of():
    reward = gcr.Reward()
    with pytest.raises(UsageError, match="understands nothing of"):
        reward.judge([paint(3).resize((64, 64))], [OUTSIDE[0]])


def test_the_generator_alone_refuses_nothing(cli):
    """A critic that knows more says truly that the picture shows nothing of it."""
    cli.models["generator"] = FakeGenerator()
    ran = cli("refine", OUTSIDE[0], "--critic", "owner/critic", "--rounds", "1")
    assert "warning: the embedded pair does not understand" in ran.err
