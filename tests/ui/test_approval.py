"""--approve: a person decides after every round."""

import io
import json

import pytest
from fakes import FakeCritic, FakeGenerator
from rich.console import Console

from gcr.cli.app import run as cli
from gcr.core.records import StopReason, Wording
from gcr.engine import models, single
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.settings import resolving
from gcr.ui.approval import Approval
from gcr.ui.terminal import Terminal


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """A run with these answers given; returns its outcome, what was shown, and the generator."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def call(*answers, **flags):
        said, shown, generator = iter(answers), io.StringIO(), FakeGenerator()
        critic = FakeCritic({0: 0.6, 1: 0.7})
        critic.wordings = call.wordings
        monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, critic))

        def answer(question):
            shown.write(question)
            try:
                return next(said)
            except StopIteration:
                raise EOFError from None

        approval = Approval(Terminal(console=Console(file=shown, width=100)), answer)
        chosen = resolving.resolve({"rounds": 3, "patience": 9, **flags}, ThisMachine())
        outcome = single.run("a red circle", chosen, emit=approval.terminal, approve=approval)
        assert not list(said), "not every answer was asked for"
        return outcome, shown.getvalue(), generator

    call.wordings = {}
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


def test_an_edited_prompt_is_drawn_without_what_the_critic_would_not_see(ask):
    """That was for the critic's own prompt: the person may have written the very thing."""
    ask.wordings, told = {0: Wording("a red ball", "a blue square")}, {"rubric": "text-to-image"}
    _, _, generator = ask("e", "a blue square", "y", negative="dogs", **told)
    assert {c.negative for c in generator.calls[1]} == {"dogs"}
    _, _, generator = ask("y", negative="dogs", **told)
    assert "dogs, a blue square" in {c.negative for c in generator.calls[1]}


def test_an_empty_edit_and_an_answer_that_is_none_of_the_four_ask_again(ask):
    _, shown, generator = ask("what?", "e", "\n", "s")
    assert shown.count("[y] go") == 3
    assert len(generator.calls) == 1


def test_a_kept_image_is_the_best_whatever_its_score(ask):
    outcome, _, _ = ask("k", "7", "1")
    assert outcome.run.stop is StopReason.CHOSEN
    assert (outcome.best.image, outcome.best.score) == ("00-0.png", 0.6)
    record = json.loads((outcome.folder / "run.json").read_text())
    assert (record["kept"], record["best"]["image"]) == ("00-0.png", "00-0.png")
    first = (outcome.folder / "00-0.png").read_bytes()
    assert (outcome.folder / "best.png").read_bytes() == first


def test_of_one_image_it_is_not_asked_which(ask):
    outcome, _, _ = ask("k", images=1)
    assert outcome.best.image == "00-0.png"


def test_stop_and_the_end_of_the_input_keep_the_best(ask):
    for answers in (["s"], []):
        outcome, shown, _ = ask(*answers)
        assert outcome.run.stop is StopReason.CHOSEN
        assert outcome.best.score == 0.7
        assert "you had enough" in shown


def test_a_run_that_a_person_stopped_can_go_on(ask, tmp_path):
    outcome, _, _ = ask("k", "1")
    chosen = resolving.resolve({"rounds": 3, "patience": 9}, ThisMachine())
    longer = single.run("a red circle", chosen, resume=outcome.folder)
    assert len(longer.run.rounds) == 3
    assert longer.run.kept == ""


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_without_a_person_it_is_refused_before_anything_is_loaded(flags, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="--approve") as refused:
        cli(["refine", "a red circle", "--approve", *flags])
    assert refused.value.exit_code == 2
