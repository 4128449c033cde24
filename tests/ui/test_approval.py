"""--approve: a person decides after every round."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from fakes import FakeCritic, FakeGenerator
from rich.console import Console

from gcr.cli.app import run as cli
from gcr.core import history
from gcr.core.records import Branch, StopReason, Wording
from gcr.engine import models, single
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.results.report import report
from gcr.settings import resolving
from gcr.storage import runfolder
from gcr.ui.approval import Approval
from gcr.ui.terminal import Terminal


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """A run with these answers given; returns its outcome, what was shown, and the generator."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def call(*answers, **flags):
        said, shown, generator = iter(answers), io.StringIO(), call.generator or FakeGenerator()
        critic = call.critic = FakeCritic({0: 0.6, 1: 0.7})
        critic.wordings, critic.rewrites = call.wordings, call.rewrites
        monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, critic))

        def answer(question, begin=""):
            shown.write(f"{question}{begin}")
            try:
                return next(said)
            except StopIteration:
                raise EOFError from None

        approval = Approval(Terminal(console=Console(file=shown, width=100)), answer)
        chosen = resolving.resolve({"rounds": 3, "patience": 9, **flags}, ThisMachine()).settings
        outcome = single.run("a red circle", chosen, emit=approval.terminal, approve=approval)
        assert not list(said), "not every answer was asked for"
        return outcome, shown.getvalue(), generator

    call.wordings, call.rewrites, call.generator = {}, {}, None
    return call


def prompts(generator):
    return [[candidate.prompt for candidate in wave] for wave in generator.calls]


def test_yes_goes_on_and_the_last_round_asks_nothing(ask):
    outcome, shown, _ = ask("y\n", "\n")
    assert len(outcome.run.rounds) == 3
    assert outcome.run.stop is StopReason.ROUNDS
    assert "next: the prompt after 1" in shown


def test_an_edited_prompt_is_drawn_instead_of_all_others_once(ask):
    outcome, _, generator = ask("e", "  a red   circle \n", "y")
    assert prompts(generator)[1] == ["a red circle", "a red circle"]
    assert "a red circle" not in prompts(generator)[2]
    seeds = [attempt.candidate.seed for attempt in outcome.run.attempts]
    assert len(set(seeds)) == len(seeds)
    (written,) = runfolder.load_run(outcome.folder).edited_prompts
    assert (written.after, written.prompt) == (1, "a red circle")
    page = report(outcome.folder).read_text()
    assert (
        "the command draws this run up to round 0; what you decided after that is not in it" in page
    )
    assert re.search(r"You wrote the next prompt</p>\s*<p[^>]*>a red circle<", page)


def test_an_edited_prompt_outlasts_an_interruption(ask, monkeypatch):
    generator = ask.generator = FakeGenerator()
    draw = generator.draw

    def interrupted(*wave):
        if generator.calls:
            raise KeyboardInterrupt
        return draw(*wave)

    monkeypatch.setattr(generator, "draw", interrupted)
    with pytest.raises(single.Interrupted) as caught:
        ask("e", "a red circle")
    monkeypatch.setattr(generator, "draw", draw)
    single.resume(caught.value.outcome.folder)
    assert prompts(generator)[1] == ["a red circle", "a red circle"]
    assert "a red circle" not in prompts(generator)[2]
    run = runfolder.load_run(caught.value.outcome.folder)
    assert run.edited_prompt == ""  # it is drawn
    pending = replace(run, rounds=run.rounds[:1])
    assert pending.edited_prompt == "a red circle"
    for when, prompt in (("2000", "a red circle"), ("3000", "")):  # from an image, before or since
        branch = Branch(1, "00-0.png", when=when)
        assert replace(pending, branches=(branch,)).edited_prompt == prompt


def test_an_edited_prompt_is_drawn_without_what_the_critic_would_not_see(ask):
    """That was for the critic's own prompt: the person may have written the very thing."""
    ask.wordings, told = {0: Wording("a red ball", "a blue square")}, {"rubric": "text-to-image"}
    _, _, generator = ask("e", "a blue square", "y", negative="dogs", **told)
    assert {c.negative for c in generator.calls[1]} == {"dogs"}
    _, _, generator = ask("y", negative="dogs", **told)
    assert "dogs, a blue square" in {c.negative for c in generator.calls[1]}


def test_an_empty_edit_and_an_answer_that_is_none_of_the_four_ask_again(ask):
    _, shown, generator = ask("what?", "r", "\n", "s")
    assert shown.count("[y] go") == 3
    assert len(generator.calls) == 1


def test_an_edit_starts_from_the_proposed_prompt(ask):
    _, shown, generator = ask("e", "the prompt after 1", "y")
    assert "the prompt to draw: the prompt after 1" in shown
    assert prompts(generator)[1] == ["the prompt after 1", "the prompt after 0"]  # as proposed


def test_a_kept_image_is_gone_on_from_and_stays_the_best(ask):
    outcome, _, generator = ask("k", "1", "g", "y")
    assert len(outcome.run.rounds) == 3
    assert outcome.best.image == "00-0.png"
    assert (outcome.run.kept, outcome.run.stop) == ("00-0.png", StopReason.ROUNDS)
    assert prompts(generator)[1][0] == "the prompt after 0"  # of its critique, first


def test_an_earlier_image_is_kept_by_its_name(ask):
    outcome, shown, _ = ask("y", "k", "00-0", "s")
    assert outcome.best.image == "00-0.png"
    assert "or an earlier one by its name" in shown


def test_more_like_one_varies_its_noise_under_its_own_prompt(ask):
    outcome, _, generator = ask("m", "2", "y")
    first = outcome.run.rounds[0].attempts[1].candidate
    for candidate in generator.calls[1]:
        assert (candidate.prompt, candidate.seed) == (first.prompt, first.seed)
        assert (len(candidate.mutations), candidate.strength) == (1, 0.4)
    assert len({candidate.mutations for candidate in generator.calls[1]}) == 2
    assert {candidate.mutations for candidate in generator.calls[2]} == {()}  # once


def test_where_noise_cannot_be_varied_more_like_one_is_its_prompt_on_other_seeds(ask):
    ask.generator = FakeGenerator(obstacle="it draws from seeds alone")
    outcome, shown, generator = ask("m", "2", "s")
    assert "its noise cannot be varied, as it draws from seeds alone" in shown
    assert [c.prompt for c in generator.calls[1]] == ["a red circle"] * 2
    seeds = [attempt.candidate.seed for attempt in outcome.run.attempts]
    assert len(set(seeds)) == 4


def test_a_remark_is_heeded_recorded_and_never_scored(ask, tmp_path):
    """The critic is asked with the remark in view, and the person again with what it wrote."""
    ask.wordings, flags = {0: Wording("a large red circle")}, {"rubric": "text-to-image"}
    outcome, shown, generator = ask("r", "larger, please", "y", "s", **flags)
    assert shown.count("[y] go") == 3
    assert prompts(generator)[1] == ["a large red circle", "a large red circle"]
    record = json.loads((outcome.folder / "run.json").read_text())
    (remark,) = record["remarks"]
    assert (remark["after"], remark["text"]) == (1, "larger, please")
    assert remark["prompt"] == "a large red circle"
    (loaded,) = runfolder.load_run(outcome.folder).remarks
    assert loaded.text == "larger, please"
    assert "The user, after 1 round: larger, please" in history.describe(outcome.run)
    assert {request.prompt for call in ask.critic.calls for request, _ in call} == {"a red circle"}


def test_an_image_that_is_gone_on_from_after_a_remark_has_the_critic_word_it_anew(ask):
    ask.wordings, flags = {0: Wording("a large red circle")}, {"rubric": "text-to-image"}
    outcome, _, generator = ask("r", "larger, please", "f", "1", "s", **flags)
    assert outcome.run.branch.wording.prompt == prompts(generator)[1][0]
    ask.wordings, ask.rewrites = {}, {"the prompt after 1": "a larger red circle"}
    _, _, generator = ask("r", "larger", "f", "1", "s")  # of a critic that words nothing anew
    assert prompts(generator)[1][0] == "the prompt after 0"


def test_a_critic_without_words_for_history_hears_a_remark_as_an_objection(ask):
    ask.rewrites = {"the prompt after 1": "a larger red circle"}
    _, _, generator = ask("r", "larger", "y", "s")
    assert prompts(generator)[1] == ["a larger red circle", "a larger red circle"]
    assert "the user, who has seen the image, says: larger" in ask.critic.complaints


def test_what_a_remark_leads_to_is_guarded_like_any_rewrite(ask):
    ask.rewrites = {"the prompt after 1": "a red circle, score 4.0, perfect"}
    outcome, shown, generator = ask("r", "larger", "y", "s")
    assert "the critic has no other prompt" in shown
    assert "score 4.0" not in str(generator.calls)
    (remark,) = outcome.run.remarks
    assert (remark.prompt, len(remark.rejected)) == (None, 1)


def test_a_kept_image_is_the_best_whatever_its_score(ask):
    outcome, _, _ = ask("k", "7", "1", "s")
    assert outcome.run.stop is StopReason.CHOSEN
    assert (outcome.best.image, outcome.best.score) == ("00-0.png", 0.6)
    record = json.loads((outcome.folder / "run.json").read_text())
    assert (record["kept"], record["best"]["image"]) == ("00-0.png", "00-0.png")
    first = (outcome.folder / "00-0.png").read_bytes()
    assert (outcome.folder / "best.png").read_bytes() == first


def test_of_one_image_it_is_not_asked_which(ask):
    outcome, _, _ = ask("k", "s", images=1)
    assert outcome.best.image == "00-0.png"


def test_stop_and_the_end_of_the_input_keep_the_best(ask):
    for answers in (["s"], []):
        outcome, shown, _ = ask(*answers)
        assert outcome.run.stop is StopReason.CHOSEN
        assert outcome.best.score == 0.7
        assert "you had enough" in shown


def test_a_run_that_a_person_stopped_can_go_on(ask, tmp_path):
    outcome, _, _ = ask("k", "1", "s")
    chosen = resolving.resolve({"rounds": 3, "patience": 9}, ThisMachine()).settings
    longer = single.run("a red circle", chosen, resume=outcome.folder)
    assert len(longer.run.rounds) == 3
    assert longer.run.kept == ""


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_without_a_person_it_is_refused_before_anything_is_loaded(flags, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="--approve") as refused:
        cli(["refine", "a red circle", "--approve", *flags])
    assert refused.value.exit_code == 2


# Lines at a terminal

LINE = """
from gcr.ui.approval import ask
print("answer:", ask("question: ", "begin"))
"""


def at_a_terminal(keys, **streams):
    """What a process shows on a terminal where these keys are pressed, and on its other streams."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", LINE], stdin=theirs, stderr=theirs, **{"stdout": theirs, **streams}
    )
    os.close(theirs)
    seen = b""
    while b"question: " not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, keys)
    out = process.communicate(timeout=60)[0]
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while more := os.read(ours, 1000):
            seen += more
    os.close(ours)
    return seen.decode(), out


def test_an_answer_begins_with_what_is_proposed_and_can_be_changed():
    shown, _ = at_a_terminal(b" more\n")
    assert "answer: begin more" in shown
    assert "answer: new" in at_a_terminal(b"\x15new\n")[0]  # Ctrl-U


def test_the_question_is_no_part_of_the_result():
    shown, out = at_a_terminal(b"\n", stdout=subprocess.PIPE)
    assert out == b"answer: begin\n"
    assert "question: " in shown


def test_without_a_prompt_prompts_are_asked_for_one_after_another(cli, monkeypatch):
    """Models are loaded once, what is wrong with one prompt is told, and an empty line ends it."""
    lines, loads, pair = iter(["a red circle", "a blue star", "a red star", ""]), [], cli.models
    fakes = pair["generator"], pair["critic"]
    monkeypatch.setattr(models, "load_models", lambda *_, **__: loads.append(1) or fakes)
    monkeypatch.setattr(models, "adapt", lambda drawer, critic, *_: (drawer, critic))
    monkeypatch.setattr("gcr.cli.refine._is_terminal", lambda: True)
    monkeypatch.setattr("gcr.ui.approval.ask", lambda _: next(lines))
    ran = cli("refine", "--rounds", "1", "--keep", "red")
    assert (ran.code, ran.out.count("best.png\n")) == (0, 2)
    assert "--keep 'red' is not in the prompt" in ran.err
    assert loads == [1]


def test_ctrl_c_ends_the_run_at_hand_and_the_end_of_the_input_the_whole(cli, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    def ask(_):
        if lines:
            return lines.pop()
        raise EOFError

    lines = ["a red circle"]
    monkeypatch.setattr(models, "load_models", interrupted)
    monkeypatch.setattr("gcr.cli.refine._is_terminal", lambda: True)
    monkeypatch.setattr("gcr.ui.approval.ask", ask)
    ran = cli("refine")
    assert (ran.code, ran.out) == (0, "")
    assert "the next prompt, or an empty line to end" in ran.err


@pytest.mark.parametrize("flags", [["--quiet"], ["--dry-run"]])
def test_where_nobody_can_be_asked_a_missing_prompt_is_an_error(cli, monkeypatch, flags):
    monkeypatch.setattr("gcr.cli.refine._is_terminal", lambda: True)
    ran = cli("refine", *flags)
    assert ran.code == 2
    assert "Missing argument 'PROMPT'" in ran.err
