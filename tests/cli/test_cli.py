"""The command line as a user meets it: streams, exit codes, messages."""

import io
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import FakeCritic, Interrupting
from PIL import Image

import gcr
from gcr.cli.app import COMMANDS
from gcr.core.records import Critique
from gcr.engine import models, single
from gcr.engine.models import load_models
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import checkpoints
from gcr.settings import profiles


def refine(cli, *arguments):
    return cli("refine", "a red circle", *arguments)


def test_stdout_has_the_best_images_path_and_nothing_else(cli):
    ran = refine(cli)
    assert ran.code == 0
    assert Path(ran.out.strip()).is_file()
    assert ran.out.count("\n") == 1
    for words in ("a red circle", "round 0", "round 1", "stopped: ", "best: ", "saved in outputs"):
        assert words in ran.err


def test_json_is_one_object(cli):
    ran = refine(cli, "--json", "--rounds", "2", "-s", "1", "--images", "1")
    told = json.loads(ran.out)
    assert set(told) >= {
        *("run_id", "folder", "request", "best", "raw", "rounds", "stop", "images", "seconds")
    }
    assert set(told["best"]) >= {"image", "prompt", "seed", "round", "score"}
    assert (told["stop"], told["images"], told["best"]["score"]) == ("rounds", 2, 0.6)
    assert "round 0" in ran.err


def test_a_budget_of_images_is_kept_and_is_the_only_limit(cli):
    told = json.loads(refine(cli, "--json", "--max-images", "9", "--patience", "9").out)
    assert (told["stop"], told["images"], len(told["rounds"])) == ("images", 9, 5)


def test_a_budget_of_seconds_ends_the_run(cli):
    told = json.loads(refine(cli, "--json", "--max-seconds", "0.00001").out)
    assert (told["stop"], told["images"]) == ("seconds", 2)


def test_a_strategy_is_chosen_by_name(cli):
    told = json.loads(refine(cli, "--json", "--strategy", "best-of-n").out)
    prompts = {a["prompt"] for round_ in told["rounds"] for a in round_["attempts"]}
    assert prompts == {"a red circle"}


def test_words_to_keep_have_to_be_in_the_prompt(cli):
    ran = refine(cli, "--keep", "red", "--keep", "square")
    assert (ran.code, ran.out) == (2, "")
    assert "error: --keep 'square' is not in the prompt" in ran.err


def test_a_prompt_that_is_cut_off_is_warned_of(cli):
    ran = cli("refine", "a red circle " * 5, "--rounds", "1")
    assert ran.code == 0
    assert "warning: the prompt is too long: it has 15 words, and 12 are read" in ran.err


def test_rewrites_that_were_turned_down_are_shown_and_logged(cli, monkeypatch):
    critic = FakeCritic({i: Critique((), 0.5, refined="a circle, score 4") for i in range(8)})
    cli.models["critic"] = critic
    ran = refine(cli, "--json", "--rounds", "1")
    assert "not drawn: a circle, score 4 (it must only say what is to be seen" in ran.err
    first = json.loads(ran.out)["rounds"][0]["attempts"][0]
    assert first["rejected"][0]["prompt"] == "a circle, score 4"
    assert first["refined"] is None


def test_quiet_says_nothing_but_the_result(cli):
    ran = refine(cli, "-q")
    assert ran.err == ""
    assert Path(ran.out.strip()).is_file()


def test_verbose_shows_raw_replies(cli):
    assert "fine" in refine(cli, "-v").err
    assert "fine" not in refine(cli).err


def test_every_option_reaches_the_settings(cli, monkeypatch):
    seen = []
    monkeypatch.setattr(single, "run", lambda _, settings, **__: seen.append(settings) or stop())

    def stop():
        raise GcrError("enough")

    given = {
        "profile": "pocket",
        "generator": "a/b",
        "critic": "c/d",
        "rubric": "editing",
        "seed": 3,
        "width": 32,
        "height": 48,
        "steps": 5,
        "guidance": 1.5,
        "negative": "dogs",
        "keep": ("red", "circle"),
        "strategy": "best-of-n",
        "strength": 0.3,
        "rounds": 6,
        "images": 7,
        "target": 0.9,
        "patience": 3,
        "min_gain": 0.1,
        "max_images": 9,
        "max_seconds": 2.5,
        "output": Path("elsewhere"),
    }
    flags = [
        f"--{key.replace('_', '-')}={value}"
        for key, values in given.items()
        for value in (values if isinstance(values, tuple) else [values])
    ]
    refine(cli, *flags)
    short = ["-m", "a/b", "-s", "3", "-W", "32", "-H", "48", "-n", "dogs", "-o", "elsewhere"]
    refine(cli, *short)
    assert {key: getattr(seen[0], key) for key in given} == given
    keys = ("generator", "seed", "width", "height", "negative", "output")
    assert [getattr(seen[1], key) for key in keys] == [given[key] for key in keys]


def test_a_dash_reads_the_prompt_from_stdin(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("  two blue stars\n"))
    told = json.loads(cli("refine", "-", "--json").out)
    assert told["request"]["prompt"] == "two blue stars"


@pytest.mark.parametrize("prompt", ["", "   ", "-"])
def test_an_empty_prompt_is_refused(cli, monkeypatch, prompt):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    ran = cli("refine", prompt)
    assert_refused(ran, 2, "the prompt is empty")


def test_a_closed_stdin_is_refused(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert_refused(cli("refine", "-"), 2, "no stdin")


def test_a_prompt_without_quotes_gets_a_hint_about_them(cli):
    ran = cli("refine", "two", "stars")
    assert_refused(ran, 2, "unexpected extra argument")
    assert "quotes" in ran.err


def assert_refused(ran, code, message):
    """An error is one line and a hint on stderr, and nothing on stdout."""
    assert ran.code == code
    assert ran.out == ""
    first, hint = ran.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint.startswith("hint:  ")
    assert len(hint) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refine", "x", "--stepz", "3"], "No such option: --stepz"),
        (["refine", "x", "--steps", "many"], "error: --steps should be a whole number, not 'many'"),
        (["refine", "x", "-s", "1.5"], "error: --seed should be a whole number, not '1.5'"),
        (["list", "--min-score", "2"], "error: --min-score should be at most 1, not '2'"),
        (["batch", "p.txt", "--wave", "x"], "error: --wave should be a whole number, not 'x'"),
        (["refine", "x", "--keep", ""], "error: --keep is empty"),
        (["refine", "x", "--steps", "0"], "--steps should be at least 1, not 0"),
        (["refine", "x", "--profile", "poket"], "no profile named 'poket'"),
        (["refine", "a red circle", "--rubric", "nope"], "no rubric named 'nope'"),
        (["refine", "a red circle", "-o", "/dev/null/x"], "cannot write to /dev/null/x"),
        (["refine"], "Missing argument"),
        (["refien", "x"], "No such command 'refien'. Did you mean 'refine'?"),
        (["a red circle", "-s", "3"], "No such command 'a red circle'"),
    ],
)
def test_wrong_usage_is_refused_with_a_hint(cli, arguments, message):
    assert_refused(cli(*arguments), 2, message)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["refine", "x", "--image", ""], "--image"),
        (["refine", "--from", ""], "--from"),
        (["refine", "x", "-o", ""], "--output"),
        (["list", "-o", " "], "--output"),
        (["critique", ""], "the prompt"),
        (["critique", "", "a red circle"], "IMAGE"),
        (["info", ""], "IMAGE"),
        (["report", ""], "FOLDER"),
        (["report", "x", "-o", ""], "--output"),
        (["export", "x", "", "--format", "preference"], "FOLDER"),
        (["batch", ""], "FILE"),
        (["compare", ""], "FILE"),
        (["batch", "p.txt", "--into", ""], "--into"),
        (["batch", "p.txt", "--shard", "", "--into", "b"], "--shard"),
        (["batch", "p.txt", "--layout", ""], "--layout"),
        (["batch", "p.txt", "--column", ""], "--column"),
        (["compare", "p.txt", "--by", ""], "--by"),
        (["calibrate", "--pairs", ""], "--pairs"),
        (["show", ""], "the name of the run"),
    ],
)
def test_what_is_empty_is_named_and_never_taken_for_the_folder_one_is_in(cli, arguments, named):
    """As where a variable of a script is not set."""
    assert_refused(cli(*arguments), 2, f"error: {named} is empty")


def test_a_model_that_cannot_be_loaded_fails_the_run(cli, monkeypatch):
    def fail(*_, **__):
        raise ModelError("there is no model at x", "give a folder")

    monkeypatch.setattr(models, "load_models", fail)
    assert_refused(refine(cli), 1, "there is no model at x")


def test_a_defect_of_ours_is_one_line_too(cli, monkeypatch):
    monkeypatch.setattr(models, "load_models", lambda *_, **__: 1 / 0)
    ran = refine(cli)
    assert_refused(ran, 1, "ZeroDivisionError: division by zero")
    assert "GCR_DEBUG=1" in ran.err


def test_debugging_shows_the_traceback(cli, monkeypatch):
    monkeypatch.setenv("GCR_DEBUG", "1")
    ran = refine(cli, "--profile", "\x1b]0;title\x07\x1b[31mx\u202ey")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "gcr.errors.UsageError: no profile named" in ran.err
    assert not {"\x1b", "\x07", "\u202e"} & set(ran.err)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: 1 / 0)
    ran = refine(cli)
    assert ran.code == 1
    assert "ZeroDivisionError" in ran.err


def test_a_traceback_holds_no_escape_sequences(cli, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("\x1b[2J\u202egone\x9b1m")

    monkeypatch.setenv("GCR_DEBUG", "1")
    monkeypatch.setattr(models, "load_models", fail)
    ran = refine(cli)
    assert "RuntimeError: gone" in ran.err
    assert not {"\x1b", "\x9b", "\u202e"} & set(ran.err)


def test_an_image_to_edit(cli, tmp_path):
    Image.new("RGB", (24, 16), "red").save(tmp_path / "in.png")
    models = ("-m", "owner/editor", "--critic", "owner/critic")
    ran = cli("refine", "make it blue", "-i", "in.png", *models, "--json")
    assert ran.code == 0
    assert Path(json.loads(ran.out)["source"]).is_file()


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("in.png", "error: cannot read in.png: No such file or directory"),
        ("gcr.yaml", "error: gcr.yaml is not an image"),
        (".", "error: cannot read .: Is a directory"),
    ],
)
def test_an_image_that_cannot_be_read_is_one_line_and_a_hint(cli, tmp_path, image, says):
    (tmp_path / "gcr.yaml").write_text("steps: 2")
    ran = refine(cli, "--image", image)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [says, "hint:  name a PNG, JPEG or WebP file with --image"]


def test_nothing_scored_is_a_failed_run_that_keeps_its_images(cli):
    cli.models["critic"] = FakeCritic({}, otherwise=None)
    ran = refine(cli)
    assert ran.code == 1
    assert ran.out == ""
    assert "unscored: unreadable reply" in ran.err
    assert "error: no image could be scored" in ran.err
    assert json.loads(refine(cli, "--json").out)["best"] is None


def test_the_first_ctrl_c_finishes_the_round(cli):
    cli.models["critic"] = Interrupting(at=2)
    ran = refine(cli, "--rounds", "4")
    assert ran.code == 130
    assert Path(ran.out.strip()).is_file()
    assert "stopping after this round" in ran.err
    assert "stopped: interrupted · 2 rounds, 4 images" in ran.err
    assert "best: 0.80" in ran.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_round_changes_nothing(cli):
    cli.models["critic"] = Interrupting(at=2)
    ran = refine(cli, "--rounds", "2")
    assert ran.code == 0
    assert "stopped: that was the last round" in ran.err


def test_the_second_ctrl_c_stops_at_once_and_says_what_is_saved(cli):
    cli.models["critic"] = Interrupting(at=2, times=2)
    ran = refine(cli)
    assert ran.code == 130
    assert Path(ran.out.strip()).is_file()
    assert "stopped: interrupted · 1 round, 2 images" in ran.err
    assert "best: 0.40" in ran.err
    assert "saved in outputs" in ran.err
    assert "Traceback" not in ran.err


def test_ctrl_c_with_json_gives_what_there_is(cli):
    cli.models["critic"] = Interrupting(at=2, times=2)
    ran = refine(cli, "--json")
    assert ran.code == 130
    assert json.loads(ran.out)["stop"] == "interrupted"


def test_ctrl_c_before_anything_is_saved(cli, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "load_models", interrupt)
    ran = refine(cli)
    assert ran.code == 130
    assert ran.err == "error: interrupted before anything was saved\n"


def test_words_of_a_model_cannot_paint_the_terminal(cli):
    evil = "\x1b[2J[red]x"
    cli.models["critic"] = FakeCritic({}, Critique((), 0.5, evil, evil, evil, evil))
    ran = refine(cli, "-v")
    assert "\x1b" not in ran.err
    assert "[red]x" in ran.err


def test_version(cli):
    ran = cli("--version")
    assert (ran.code, ran.out) == (0, f"gcr {gcr.__version__}\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["a red circle"], "gcr refine 'a red circle'"),
        (["a", "red", "circle", "--rounds=2"], "gcr refine 'a red circle'"),
        (["it's red"], """gcr refine 'it'"'"'s red'"""),
    ],
)
def test_a_prompt_where_a_command_is_expected_gets_a_hint(cli, words, meant):
    ran = cli(*words)
    assert ran.code == 2
    assert ran.err.endswith(f"hint:  to refine a prompt: {meant}\n")


def test_without_a_command_there_is_help(cli):
    ran = cli()
    assert (ran.code, ran.out) == (2, "")
    assert "Usage: gcr" in ran.err
    assert all(command in ran.err for command in COMMANDS)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_short_help(cli, command):
    ran = cli(*filter(None, [command]), "-h")
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: " in ran.out


def test_a_run_that_is_finished_says_so_at_once(cli, monkeypatch):
    best = refine(cli, "--rounds", "2").out
    monkeypatch.setattr(models, "load_models", lambda *_, **__: 1 / 0)
    ran = cli("resume", str(Path(best.strip()).parent))
    assert (ran.code, ran.out) == (0, best)
    assert "is finished, so nothing is drawn" in ran.err
    assert "best: 0.80 in round 1" in ran.err


@pytest.mark.parametrize("model", ["./none", "/none/at/all", "none", "~/none"])
@pytest.mark.parametrize("flag", ["-m", "--critic"])
def test_a_folder_that_is_not_there_is_wrong_usage(cli, monkeypatch, model, flag):
    monkeypatch.setattr(models, "load_models", load_models)
    ran = refine(cli, flag, model)
    assert_refused(ran, 2, f"there is no model at {model}: no such folder")


def test_capitals_do_not_matter_in_the_name_of_a_profile(cli):
    assert profiles.load("24GB") == profiles.load("24gb")
    told = json.loads(refine(cli, "--profile", "Pocket", "--json").out)
    assert gcr.load_run(told["folder"]).settings["profile"] == "pocket"
    assert "did you mean '24gb'?" in refine(cli, "--profile", "24 GB").err


def test_help_is_on_stdout_and_names_the_options(cli):
    assert "refine" in cli("--help").out
    ran = cli("refine", "--help")
    assert ran.code == 0
    for option in ("--generator", "--min-gain", "--json", "PROMPT"):
        assert option in ran.out


def test_help_breaks_its_lines_where_the_terminal_does(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "79")
    lines = [line.strip() for line in cli("resume", "--help").out.splitlines()]
    ends = lines.index("Prints what gcr refine, gcr batch or gcr compare prints.")
    paragraphs = "\n".join(lines[3:ends]).strip().split("\n\n")
    assert len(paragraphs) == 3
    for paragraph in paragraphs:
        for line, after in itertools.pairwise(paragraph.splitlines()):
            assert len(f"{line} {after.split()[0]}") > 77


def test_a_closed_pipe_is_no_traceback(tmp_path):
    command = f"{sys.executable} -m gcr --help | true"
    shown = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("name", ["L" * 300, "~nosuch"])
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("show",), "no run '"),
        (("list", "-o"), "there is no folder "),
        (("resume",), "no run "),
        (("report",), "no run, batch or comparison in "),
        (("info",), "cannot read "),
        (("refine", "a red circle", "--from"), "cannot read "),
        (("refine", "a red circle", "--image"), "cannot read "),
        (("refine", "a red circle", "--rubric"), "no rubric "),
        (("batch",), "no file '"),
        (("critique", "no.png"), "the embedded critic understands nothing of "),
    ],
)
def test_a_name_that_no_file_can_have_is_wrong_usage(cli, command, says, name):
    ran = cli(*command, name)
    assert (ran.code, ran.out) == (2, "")
    assert f"error: {says}" in ran.err
    assert "hint: " in ran.err


@pytest.mark.parametrize("name", ["L" * 300, "~nosuch"])
def test_a_model_of_a_name_that_no_folder_can_have_is_wrong_usage(name):
    with pytest.raises(UsageError, match="there is no model at"):
        checkpoints.locate(name)


def test_config_lists_every_setting_with_where_it_came_from(cli, monkeypatch):
    monkeypatch.setenv("GCR_ROUNDS", "7")
    Path("gcr.yaml").write_text("images: 3\nguidance: 2.5\n")
    ran = cli("config", "list", "--json", "--guidance", "4")
    listed = json.loads(ran.out)
    assert listed["rounds"] == {"value": 7, "from": "GCR_ROUNDS"}
    assert listed["images"] == {"value": 3, "from": "images in gcr.yaml"}
    assert listed["guidance"] == {"value": 4.0, "from": "--guidance"}
    assert listed["seed"] == {"value": 0, "from": "default"}
    ran = cli("config")
    assert "GCR_ROUNDS" in ran.out
    assert ran.err.splitlines()[0] == "gcr.yaml"


def test_config_asks_no_server_for_its_model(cli):
    ran = cli("config", "--critic", "http://127.0.0.1:9/v1", "--json")
    assert json.loads(ran.out)["critic"]["value"] == "http://127.0.0.1:9/v1"


def test_config_can_only_list(cli):
    assert_refused(cli("config", "set"), 2, "gcr config cannot 'set'")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gcr cri", ["critique"]),
        ("gcr refine --strat", ["--strategy"]),
        ("gcr refine --strategy re", ["refine", "rewrite", "reflect"]),
        ("gcr batch --sel", ["--select"]),
    ],
)
def test_a_shell_completes_commands_options_and_names(line, offered):
    typed = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    ran = subprocess.run(
        [sys.executable, "-m", "gcr"],
        env={**os.environ, **typed, "_GCR_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == offered
