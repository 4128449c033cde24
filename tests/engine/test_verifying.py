"""--verify ocr: a program reads the writing, and the loop goes by what it finds.

RapidOCR reads for real. What draws is a fake that writes with Pillow, and what speaks is told what
to say; critic, loop, folders and pages are those of the tool.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeSpeaker, Recorder, Signwriter, images_in, text_of, written

import gcr
from gcr.comparison import comparing
from gcr.core import ranking
from gcr.core.records import (
    AspectScore,
    Attempt,
    Candidate,
    Critique,
    Fact,
    Request,
    Round,
    Run,
)
from gcr.core.stopping import StopRule
from gcr.critic import critic, ocr, reply, rubric, scoring
from gcr.critic.critic import VisionLanguageCritic
from gcr.device.memory import SharedDevice
from gcr.engine import models, settling
from gcr.errors import UsageError

SIGN = 'a shop with a sign that reads "HELLO"'
WRONG = "“HELO” can be read where “HELLO” was asked for"
BETTER = 'a shop with a sign that reads "HELLO" in block letters'
WORDS = rubric.load("text-to-image")
PLEASED = Critique(
    aspects=tuple(AspectScore(aspect, 4.0, "fine") for aspect in WORDS.aspects),
    summary="all is right",
    refined='a small shop with a sign that reads "HELLO"',
)


def pleased(chat):
    """Finds no fault, and words another prompt as soon as it hears of one."""
    words = text_of(chat)
    if "yes/no questions" in words:
        return "1 | object | - | Is there a shop?"
    if len(images_in(chat)) == 2:
        return "Better: neither"
    if "HELO" in words:
        return f"## Refined Request: {BETTER}"
    return reply.write(PLEASED, WORDS)


@pytest.fixture(scope="module", autouse=True)
def reader():
    """The reader, loaded once for all tests."""
    loaded = ocr.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "load", lambda: loaded)
        yield loaded


@pytest.fixture
def speaker(cli, monkeypatch):
    """The model behind the critic that judges what a signwriter draws."""
    model = FakeSpeaker(pleased, lambda _: 0.9)

    def load(settings, *_, **__):
        reader = ocr.load() if settings.verify == "ocr" else None
        judge = VisionLanguageCritic(model, WORDS, score=settings.score, reader=reader)
        return Signwriter(), judge

    monkeypatch.setattr(models, "load_models", load)
    return model


VERIFIED = {"verify": "ocr", "rubric": "text-to-image", "images": 1, "critic": "some/critic"}


def test_the_loop_goes_on_until_the_program_reads_what_was_asked_for(speaker):
    without = gcr.refine(SIGN, **VERIFIED | {"verify": "none"})
    assert (without.best.score, without.run.stop) == (1, "target")  # the critic sees no fault
    outcome = gcr.refine(SIGN, **VERIFIED)
    first, second = outcome.run.attempts
    assert first.critique.facts == (Fact("HELLO", "HELO", pytest.approx(0.8), "ocr"),)
    assert second.critique.facts == (Fact("HELLO", "HELLO", 1, "ocr"),)
    assert first.critique.aspects[2] == AspectScore("Text Rendering", pytest.approx(2.6), WRONG)
    assert first.score == pytest.approx((4 + 4 + 2.6 - 3) / 9)
    assert (second.candidate.prompt, second.score) == (BETTER, 1)
    assert (outcome.run.stop, outcome.best.image) == ("target", second.image)
    assert any(f"A program checked: {WRONG}" in words for words in map(text_of, speaker.chats))


def test_it_is_shown_and_recorded(cli, speaker):
    options = ("--rubric", "text-to-image", "--critic", "some/critic", "--images", "1")
    ran = cli("refine", SIGN, "--verify", "ocr", "--rounds", "1", *options)
    assert ran.code == 0
    folder = Path(ran.out.strip()).parent
    assert f"checked by ocr: {WRONG}" in ran.err
    (line,) = (folder / "rounds.jsonl").read_text().splitlines()
    (fact,) = json.loads(line)["attempts"][0]["critique"]["facts"]
    assert fact == {"wanted": "HELLO", "seen": "HELO", "nearness": 0.8, "by": "ocr"}
    assert json.loads((folder / "run.json").read_text())["settings"]["verify"] == "ocr"
    assert WRONG in (folder / "index.html").read_text()
    again = cli("resume", str(folder), "--rounds", "+2")
    assert again.code == 0
    assert "checked by ocr: “HELLO” can be read" in again.err
    assert cli("show", str(folder)).out.count("checked by ocr:") == 3
    ran = cli("refine", SIGN, "--rounds", "1", *options)
    folder = Path(ran.out.strip()).parent
    assert "verify" not in json.loads((folder / "run.json").read_text())["settings"]


def test_a_critic_without_a_history_is_told_before_its_prompt_is_drawn(speaker):
    outcome = gcr.refine(SIGN, strategy="rewrite", **VERIFIED)
    first, second = outcome.run.attempts
    (rejected,) = first.critique.rejected
    assert rejected.prompt == PLEASED.refined
    assert rejected.complaint == f"a program looked at the image: {WRONG}"
    assert (second.candidate.prompt, outcome.run.stop) == (BETTER, "target")


def test_a_prompt_that_breaks_no_guard_is_drawn_where_there_is_no_better_one(speaker, monkeypatch):
    monkeypatch.setattr("test_verifying.BETTER", "a shop")  # without the text
    outcome = gcr.refine(SIGN, strategy="rewrite", rounds=2, **VERIFIED)
    first, second = outcome.run.attempts
    assert [one.prompt for one in first.critique.rejected] == ["a shop"]
    assert second.candidate.prompt == PLEASED.refined


def test_a_checklist_counts_what_was_read_as_one_more_of_its_questions(speaker):
    outcome = gcr.refine(SIGN, score="checklist", rounds=1, **VERIFIED)
    assert outcome.best.score == pytest.approx((0.9 * 0.8) ** 0.5)
    alone = scoring.checklist_score(outcome.best.critique.requirements)
    assert alone == pytest.approx(0.9)


def test_pictures_from_anywhere_are_checked(speaker, cli, monkeypatch):
    monkeypatch.setattr(
        models, "load_critic", lambda *_: VisionLanguageCritic(speaker, WORDS, reader=ocr.load())
    )
    written("HELLO").save("right.png")
    written("HELP").save("wrong.png")
    options = ("--verify", "ocr", "--rubric", WORDS.name, "--critic", "some/critic")
    ran = cli("critique", "wrong.png", "right.png", SIGN, *options)
    assert ran.code == 0
    marks = ("right.png", "“HELLO” can be read", "wrong.png")
    assert sorted(marks, key=ran.out.index) == list(marks)
    assert "“HELP” can be read where “HELLO” was asked for" in ran.out


def test_the_embedded_critic_is_settled_by_it_too():
    questions = rubric.load("pocket")
    judge = critic.load("pocket:critic", questions, SharedDevice("cpu"), verify="ocr")
    request = Request('a red circle and a sign "OPEN"')
    right, wrong, plain = judge.judge(
        [request, request, Request("a red circle")],
        [written("OPEN"), written("OVEN"), written("OPEN")],
    )
    assert [a.score for a in right.aspects if a.aspect == "Text Rendering"] == [4]
    assert [a.score for a in wrong.aspects if a.aspect == "Text Rendering"] == [2.5]
    assert right.overall > wrong.overall
    assert plain.facts == ()


def attempt(name, score, *nearness):
    facts = tuple(Fact("A", "B", near, "ocr") for near in nearness)
    return Attempt(Candidate("a", 1), Critique(overall=score, facts=facts, spread=0.1), name)


def run_of(*attempts):
    return Run("1", Request("a"), rounds=(Round(0, attempts),))


def test_a_target_is_not_reached_while_a_program_finds_something_wrong():
    rule = StopRule(target=0.8)
    assert rule.reason(run_of(attempt("a", 0.9, 1, 0.9))) is None
    assert rule.reason(run_of(attempt("a", 0.9, 1, 1))) == "target"


def test_no_preference_overrules_what_a_program_found():
    right, wrong = attempt("r", 0.8, 1), attempt("w", 0.75, 0.9)
    assert ranking.contenders([wrong, right]) == [right]
    assert ranking.contenders([wrong, attempt("v", 0.7, 0)]) == [wrong, attempt("v", 0.7, 0)]
    assert settling._rivals(run_of(right, wrong)) == []
    better = replace(wrong, critique=replace(wrong.critique, overall=0.85))
    assert settling._rivals(run_of(right, better)) == [(better, right)]


def test_what_has_no_score_gets_none_from_a_program():
    unread = Critique(raw="?", problem="unreadable")
    settled = scoring.verified(unread, [Fact("A", "A", 1, "ocr")])
    assert (settled.overall, settled.aspects, len(settled.facts)) == (None, (), 1)


def test_a_rubric_without_text_rendering_gets_it():
    other = Critique((AspectScore("Likeness", 1.0),), 0.0)
    settled = scoring.verified(other, [Fact("A", "", 0, "ocr"), Fact("B", "B", 1, "ocr")])
    assert [(a.aspect, a.score) for a in settled.aspects] == [
        ("Likeness", 1),
        ("Text Rendering", 2),
    ]
    assert settled.overall == pytest.approx(1 / 6)


REFUSED = "cannot measure what --verify ocr steered"


@pytest.mark.parametrize("name", ["ocr", "ocr-exact"])
def test_who_verifies_does_not_evaluate_whichever_way_it_is_asked_for(cli, speaker, name):
    Path("p.txt").write_text(f"{SIGN}\n")
    options = ("--rubric", "text-to-image", "--max-images", "2", "--critic", "some/critic")
    with_other = ("--evaluator", "command:true", "--evaluator", name)
    ran = cli("compare", "p.txt", "--verify", "ocr", "--evaluator", name, *options)
    assert (ran.code, REFUSED in ran.err) == (2, True)
    ran = cli("compare", "p.txt", "--verify", "ocr", "--force", *with_other, *options)
    assert (ran.code, REFUSED in ran.err) == (2, True)
    Path("gcr.yaml").write_text("verify: ocr\n")
    ran = cli("compare", "p.txt", "--evaluator", name, *options)
    assert (ran.code, REFUSED in ran.err) == (2, True)
    assert not Path("outputs").exists()
    with pytest.raises(UsageError, match=REFUSED):
        gcr.compare([SIGN], evaluator=("command:true", name), **VERIFIED)


def test_who_verified_does_not_evaluate_afterwards(cli, speaker, monkeypatch):
    from gcr.comparison import evaluators

    class Even:
        def score(self, samples):
            return ((one.id, 0.5) for one in samples)

    Path("p.txt").write_text(f"{SIGN}\n")
    options = ("--rubric", "text-to-image", "--images", "1", "--critic", "some/critic")
    real = evaluators.load
    monkeypatch.setattr(evaluators, "load", lambda *_: Even())
    budget = ("--max-images", "2", "--evaluator", "command:x")
    done = cli("compare", "p.txt", "--verify", "ocr", "--into", "c", *budget, *options)
    assert done.code == 0
    monkeypatch.setattr(evaluators, "load", real)
    for again in (
        ("resume", "c", "--evaluator", "ocr"),
        ("compare", "c", "--evaluator", "command:true", "--evaluator", "ocr-exact"),
        ("compare", "c/raw", "c/refine", "--evaluator", "ocr"),
    ):
        ran = cli(*again)
        assert (ran.code, REFUSED in ran.err) == (2, True), again
    record = json.loads(Path("c/arms.json").read_text())
    record["evaluator"] = {"name": "ocr", "model": None}  # as somebody may have sent it
    Path("c/arms.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=REFUSED):
        comparing.resume(Path("c"))


def test_a_prompt_without_quotes_is_said_to_have_nothing_to_check(speaker):
    told = Recorder()
    gcr.refine("a red circle", rounds=1, on_event=told, **VERIFIED)
    assert [notice.message for notice in told.notices if "--verify" in notice.message] == [
        "--verify ocr has nothing to check: no text is in quotes"
    ]


def test_what_has_to_be_installed_is_said_before_a_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UsageError, match="no rapidocr to read"):
        gcr.refine('a red circle, "HELLO"', output=tmp_path / "o", verify="ocr")
    assert not (tmp_path / "o").exists()
