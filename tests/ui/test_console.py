import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from folders import SETTINGS, fill
from rich.console import Console
from rich.progress import Progress

from gcr.core.events import Loading, RoundFinished, RunFinished, RunStarted
from gcr.core.plaintext import plain
from gcr.core.records import (
    AspectScore,
    Attempt,
    Candidate,
    Critique,
    Preference,
    Request,
    Requirement,
    Result,
    Round,
    Run,
    StopReason,
    Wording,
)
from gcr.storage.runfolder import RunFolder
from gcr.ui import terminal
from gcr.ui.batch_terminal import BatchTerminal
from gcr.ui.terminal import STOPPED, Terminal, failure

ASPECTS = (AspectScore("Text Faithfulness", 2.5), AspectScore("Text Rendering", None))
SCORED = Critique(ASPECTS, 0.5, "The star is missing.", "Name its place.", raw="# Summary: raw")
UNSCORED = Critique(raw="gibberish", problem="unreadable reply")


def attempt(position, critique, prompt="a star"):
    image = f"00-{position}.png"
    return Attempt(Candidate(prompt, position), critique, image, "", 0.25, 1.0)


def run_of(*attempts, prompt="a star"):
    return Run("id", Request(prompt), {"profile": "pocket", "seed": 0}, (Round(0, attempts),))


def shown(tell, *, verbose=False, terminal=False):
    """What a person sees of what `tell` tells a terminal."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, highlight=False)
    view = Terminal(verbose=verbose, console=console)
    tell(view)
    view.close()
    return file.getvalue()


def test_a_round_shows_what_is_left_of_the_budgets():
    run = replace(run_of(attempt(0, SCORED)), settings={"max_seconds": 60.0, "max_images": 2})
    text = shown(lambda view: view.round(run, None))
    assert "judged in 1.0 s · 59 s left · 1 image left" in text
    spent = replace(run, settings={"max_seconds": 1.0, "max_images": None})
    assert "judged in 1.0 s · 0 s left\n" in shown(lambda view: view.round(spent, None))


@pytest.mark.parametrize("view", [Terminal, BatchTerminal])
def test_a_pipe_is_told_what_is_loaded_as_well(view):
    file = io.StringIO()
    console = Console(file=file, highlight=False)
    for event in (Loading("a/model"), Loading()):
        view(console=console)(event)
    assert file.getvalue() == "loading a/model\n"


def failing(chance):
    asked = Requirement("Are there two stars?", "count", (), chance)
    return Critique(overall=chance, raw="r", requirements=(asked,))


def test_requirements_that_are_not_met_are_named():
    run = run_of(attempt(0, failing(0.12)), attempt(1, failing(0.9)))
    text = shown(lambda view: view.round(run, None))
    assert text.count("not met: Are there two stars? (yes: 12%)") == text.count("not met") == 1


def test_what_no_image_met_and_what_was_better_side_by_side_end_a_run():
    attempts = [attempt(i, failing(0.1), prompt) for i, prompt in enumerate("aabb")]
    run = replace(run_of(*attempts), comparison=Preference.TIE)
    text = shown(lambda view: view.end(run, attempts[0], Path("x")))
    assert "never met: Are there two stars?  (yes: 10% at most)" in text
    assert "side by side: neither is clearly better" in text


def test_a_round_shows_scores_words_and_seconds():
    one, two = attempt(0, SCORED), attempt(1, UNSCORED)
    text = shown(lambda view: view.round(run_of(one, two), one))
    assert "round 0  drawn in 0.5 s, judged in 2.0 s" in text
    assert "the request as it is" in text
    assert "━━━━━━────── 0.50  ◂ best so far" in text
    assert "text faithfulness 2.5  The star is missing.\n" in text
    assert "unscored: unreadable reply" in text
    assert "gibberish" not in text


def test_an_image_says_what_it_was_drawn_from():
    mutated, started = attempt(0, SCORED), attempt(1, SCORED)
    mutated = replace(mutated, candidate=replace(mutated.candidate, mutations=(4, 7), strength=0.5))
    started = replace(started, candidate=replace(started.candidate, start="00-1.png", strength=0.5))
    text = shown(lambda view: view.round(run_of(mutated, started), None))
    assert "seed 0+4+7 ━" in text
    assert "seed 1 on 00-1.png ━" in text


def test_verbose_shows_replies_as_they_came():
    one = attempt(0, SCORED)
    text = shown(lambda view: view.round(run_of(one), one), verbose=True)
    assert "# Summary: raw" in text


def test_what_the_critic_words_after_a_round_is_a_part_of_judging():
    run = run_of(attempt(0, SCORED))
    last = replace(run.rounds[0], wording=Wording("a blue star", raw="# Refined: x", seconds=2.5))
    run = replace(run, rounds=(last,))
    text = shown(lambda view: view.round(run, None), verbose=True)
    assert "judged in 3.5 s" in text
    assert "# Refined: x" in text
    assert "# Refined: x" not in shown(lambda view: view.round(run, None))


def test_a_rewritten_prompt_is_shown_once_with_its_new_words_marked():
    prompt = "a blue star, at the top"
    pair = [attempt(position, SCORED, prompt) for position in range(2)]
    text = shown(lambda view: view.round(run_of(*pair), None), terminal=True)
    assert plain(text).count("a blue star, at the top") == 1
    assert "\x1b[36mblue\x1b[0m" in text
    assert "\x1b[36mstar" not in text


def test_the_end_says_why_what_and_where():
    one = attempt(0, SCORED)
    run = replace(run_of(one), stop=StopReason.PLATEAU)
    text = shown(lambda view: view.end(run, one, Path("outputs/x")))
    assert "stopped: the score stopped rising · 1 round, 1 image" in text
    assert "best: 0.50 in round 0, 00-0.png" in text
    assert "saved in outputs/x" in text


def test_an_end_without_scores_names_no_best():
    run = replace(run_of(attempt(0, UNSCORED)), stop=StopReason.FAILED)
    text = shown(lambda view: view.end(run, None, Path("x")))
    assert "stopped: the run failed · 1 round, 1 image" in text
    assert "best" not in text


def test_the_beginning_names_models_and_settings():
    settings = {
        "generator": "a/b",
        "critic": "c/d",
        "width": 64,
        "height": 32,
        "steps": 20,
        "guidance": 0.0,
        "seed": 3,
    }
    run = Run("id", Request("a star", "dogs"), settings)
    assert shown(lambda view: view.begin(run)) == (
        "\na star\nwithout: dogs\na/b, judged by c/d · 64×32 · 20 steps · guidance 0.0 · seed 3\n"
    )


def test_an_end_before_any_round_can_be_shown():
    run = Run("id", Request("a star"), stop=StopReason.INTERRUPTED)
    text = shown(lambda view: view.end(run, None, Path("x")))
    assert "stopped: interrupted · 0 rounds, 0 images" in text


def test_every_reason_to_stop_has_words():
    assert set(STOPPED) == set(StopReason)


@pytest.mark.parametrize(
    ("raw", "harmless"),
    [
        ("a\x1b[31mred\x1b[0m star", "ared star"),
        ("\x1b]0;title\x07star", "star"),
        ("\x1b]8;;http://x\x1b\\star\x1b]8;;\x1b\\", "star"),
        ("\x9b31mstar", "star"),
        ("a\x07b\rc\x00d", "a b c d"),
        ("two\nlines", "two lines"),
        ("\u202egnp.exe", "gnp.exe"),
        ("赤い円 🔴", "赤い円 🔴"),
        ("[bold]markup[/] stays", "[bold]markup[/] stays"),
        ("\udcff", ""),
    ],
)
def test_nothing_but_plain_text_reaches_the_terminal(raw, harmless):
    assert plain(raw) == harmless


def test_markup_and_escapes_of_users_and_models_do_nothing():
    evil = "[red]x[/red] \x1b[2J[/]"
    critique = Critique((AspectScore(evil, 1.0),), 0.0, evil, evil, evil, evil)
    one = replace(attempt(0, critique, evil), image="00-0.png")
    run = replace(run_of(one, prompt="[/b] \x1b[2J"), stop=StopReason.ROUNDS)

    def tell(view):
        view.warn(evil, evil)
        view.begin(run)
        view.round(run, one)
        view.end(run, one, Path("[red]"))

    text = shown(tell, verbose=True)
    assert "\x1b" not in text
    assert text.count("[red]x[/red]") == 6


def test_without_a_terminal_there_are_whole_lines_and_no_bars():
    long = "a star " * 40

    def tell(view):
        view.loading("a model")
        view.progress("draw", 1, 2)
        view.round(run_of(attempt(0, SCORED, long), prompt="a"), None)

    text = shown(tell)
    assert long.strip() in text
    assert text.startswith("loading a model\n\nround 0")


def test_a_terminal_shows_what_is_going_on():
    def tell(view):
        view.loading("a model")
        view.progress("draw", 1, 2)
        view.progress("judge", 1, 2)
        view._lines._progress.refresh()

    text = shown(tell, terminal=True)
    assert "judging" in text


def test_two_models_at_work_can_both_tell_how_far_they_are(monkeypatch):
    remove, gone = Progress.remove_task, Event()

    def slowly(progress, row):
        remove(progress, row)
        gone.set()
        Event().wait(0.1)  # meanwhile the other model tells

    def tell(view):
        view.progress("draw", 4, 4)
        with ThreadPoolExecutor() as threads:
            told = threads.submit(view.progress, "judge", 1, 4)
            assert gone.wait(20)
            view.progress("draw", 1, 4)
            told.result()
        assert set(view._lines._rows) == {"draw", "judge"}

    monkeypatch.setattr(Progress, "remove_task", slowly)
    shown(tell, terminal=True)


def test_what_is_complete_is_no_longer_shown_beside_what_is_not():
    view = Terminal(console=Console(file=io.StringIO(), force_terminal=True, width=80))
    view.loading("a model")
    view.progress("draw", 4, 4)
    assert set(view._lines._rows) == {"draw"}
    view.progress("judge", 1, 4)
    assert set(view._lines._rows) == {"judge"}
    view.close()


def test_the_time_left_is_not_spoken_of_before_it_is_known():
    def tell(view):
        view.progress("draw", 0, 4)
        view._lines._progress.refresh()

    text = shown(tell, terminal=True)
    assert "drawing" in text
    assert "left" not in text


def test_the_live_line_has_round_image_best_and_the_time_left_of_the_whole_run(tmp_path):
    file = io.StringIO()
    view = Terminal(console=Console(file=file, force_terminal=True, width=120))
    run = run_of(attempt(0, SCORED), attempt(1, SCORED))
    run = replace(run, settings={**run.settings, "rounds": 4, "images": 2})
    view(RunStarted(replace(run, rounds=()), tmp_path / "day" / "run"))
    view.progress("draw", 1, 28)
    view._lines._progress.refresh()
    assert "round 0 of 3 · drawing 1 of 2" in file.getvalue()
    assert "left" not in file.getvalue()  # nobody knows yet
    view(RoundFinished(run, run.attempts[0]))
    view.progress("draw", 15, 28)
    view._lines._progress.refresh()
    assert "round 1 of 3 · drawing 2 of 2 · best 0.50" in file.getvalue()
    assert "at most 0:07 left" in file.getvalue()  # 6 images, 1.25 seconds each
    view.close()


def test_an_error_is_two_lines_on_stderr(capsys):
    failure("no model at [red]x\nnow", "give another")
    captured = capsys.readouterr()
    assert captured.err == "error: no model at [red]x now\nhint:  give another\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("score", "words", "says"),
    [
        (2.5, "no star is there", "no star is there"),
        (1.0, "very " * 100, "very…"),
        (2.5, "No star is there. " + "But " * 100, "No star is there. …"),
        (
            2.0,
            "Check: a star: missing; a dot: a dot, right. Extra: a cat.",
            "a star: missing; Extra: a cat.",
        ),
        (2.5, "", SCORED.summary),
        (4.0, "all is there", SCORED.summary),
    ],
)
def test_what_the_critic_found_is_shown_in_the_place_of_its_summary(score, words, says):
    aspects = (AspectScore("Quality", 4.0, "clean"), AspectScore("Faithfulness", score, words))
    critique = replace(SCORED, aspects=aspects)
    text = shown(lambda view: view.round(run_of(attempt(0, critique)), None))
    assert f"quality 4 · faithfulness {score:g}  " in text
    assert f"{says}\n" in text
    assert (SCORED.summary in text) == (says == SCORED.summary)


def test_a_terminal_is_told_of_the_page_first_and_has_links(tmp_path):
    (tmp_path / "index.html").write_text("")
    run = run_of(attempt(0, SCORED))

    def tell(view):
        view(RunStarted(run, tmp_path))
        view(RoundFinished(run, run.attempts[0]))
        view(RunFinished(run, run.attempts[0], tmp_path))

    text = shown(tell, terminal=True)
    for name in ("index.html", "00-0.png", ""):
        assert f";file://{tmp_path}/{name}".rstrip("/") in text
    assert text.index("follow along: ") < text.index("round 0")
    piped = shown(tell)
    assert "follow along" not in piped
    assert "\x1b" not in piped


def test_no_text_of_a_result_acts_in_a_terminal():
    acts = "\x1b[31mX"
    file = io.StringIO()
    view = BatchTerminal(Console(file=file, force_terminal=True, width=200))
    view.result(Result(acts, acts, 0, "runs/1", acts))
    view.result(Result(acts, acts, 0, "runs/1", acts, failure=acts))
    view.end()
    assert "\x1b[31mX" not in file.getvalue()
    assert "0 images, X, " in plain(file.getvalue())


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")  # of textual-image
def test_pictures_are_shown_where_the_terminal_can_and_nowhere_else(tmp_path, monkeypatch):
    made = folder_of(tmp_path)

    def tell(view):
        view.begin(made.run, made.path)
        view.pictures(["00-0.png", "00-1.png"])

    monkeypatch.setattr(terminal, "_draws_pictures", lambda: True)
    seen = shown(tell, terminal=True)
    assert "1: 00-0.png" in seen
    assert "2: 00-1.png" in seen
    assert "00-0.png" not in shown(tell)
    monkeypatch.setattr(terminal, "_draws_pictures", lambda: False)
    assert "00-0.png" not in shown(tell, terminal=True)


def folder_of(path):
    made = RunFolder.create(path, Request("a red circle"), SETTINGS)
    fill(made, [[0.4, 0.5]])
    return made


def test_what_a_rewrite_leaves_out_is_named_also_in_a_pipe():
    run = run_of(attempt(0, SCORED, "a blue star, at the top"), prompt="a star, blurry, huge")
    text = shown(lambda view: view.round(run, None))
    assert "  a blue star, at the top\n  left out: blurry, huge\n" in text
