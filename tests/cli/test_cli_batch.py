"""`gcr batch` and `gcr resume` as a user meets them: streams, exit codes, messages."""

import io
import json
import signal
import sys
from pathlib import Path

import pytest
from fakes import SCORES, FakeCritic, FakeGenerator, Interrupting
from rich.console import Console

from gcr.core.records import Result
from gcr.engine import models
from gcr.ui import batch_terminal
from gcr.ui.batch_terminal import BatchTerminal, duration


@pytest.fixture
def cli(cli, tmp_path):
    """The tool, in a folder with a prompt file."""
    (tmp_path / "p.txt").write_text("a red circle\ntwo blue stars\na green square\n")
    return cli


def test_stdout_has_the_path_of_the_summary_and_nothing_else(cli):
    ran = cli("batch", "p.txt", "--rounds", "2")
    assert ran.code == 0
    summary = Path(ran.out.strip())
    assert len(summary.read_text().splitlines()) == 3
    assert ran.out.count("\n") == 1
    assert ran.err.splitlines() == [
        "3 prompts",
        "1/3 1: 0.20 → 0.80 · 4 images, rounds, 0 s  a red circle",
        "2/3 2: 0.20 → 0.80 · 4 images, rounds, 0 s  two blue stars",
        "3/3 3: 0.20 → 0.80 · 4 images, rounds, 0 s  a green square",
        f"3 done; saved in {summary.parent}",
        f"{summary.parent}/index.html shows all of them",
    ]


def test_json_is_one_object(cli):
    ran = cli("batch", "p.txt", "--json", "--rounds", "1", "--into", "b")
    told = json.loads(ran.out)
    assert told == {
        "folder": "b",
        "summary": "b/summary.jsonl",
        "table": "b/summary.csv",
        "prompts": 3,
        "done": 3,
        "failed": 0,
        "busy": 0,
        "unfinished": 0,
        "failures": [],
        "seconds": told["seconds"],
    }


def test_quiet_says_nothing_but_the_result(cli):
    ran = cli("batch", "p.txt", "-q", "--into", "b")
    assert (ran.out, ran.err) == ("b/summary.jsonl\n", "")


def test_every_kind_of_option_reaches_the_batch(cli):
    options = ("--rounds=1", "--images=3", "--seed=1", "--keep=red", "--wave=2", "-o", "elsewhere")
    ran = cli("batch", "p.txt", *options)
    folder = Path(ran.out.strip()).parent
    assert folder.parts[0] == "elsewhere"
    assert json.loads((folder / "batch.json").read_text())["settings"]["images"] == 3
    assert [len(call) for call in cli.models["generator"].calls] == [3, 3, 3]


def test_prompts_on_stdin(cli, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"a red circle\na blue star\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    ran = cli("batch", "-", "--rounds", "1")
    assert "-stdin-" in ran.out
    assert len(Path(ran.out.strip()).read_text().splitlines()) == 2


def test_a_failure_is_exit_code_3_and_the_rest_is_done(cli):
    cli.models["generator"] = FakeGenerator(refused=["stars"])
    ran = cli("batch", "p.txt", "--into", "b", "--rounds", "1")
    ran.assert_refused(3, "1 prompt failed (2: cannot draw two blue stars)")
    assert ran.out == "b/summary.jsonl\n"
    assert "2: failed: cannot draw two blue stars" in ran.err
    assert "2 done, 1 failed; saved in b" in ran.err
    cli.models["generator"] = FakeGenerator()
    again = cli("resume", "b")
    assert (again.code, again.out) == (0, "b/summary.jsonl\n")
    assert "3 prompts, 2 of them done before" in again.err


def test_where_the_gallery_cannot_be_written_the_rest_is_done_and_said(cli):
    cli.models["generator"] = FakeGenerator(refused=["stars"])
    Path("b/index.html").mkdir(parents=True)
    arguments = ("batch", "p.txt", "--into", "b", "--rounds", "1", "--layout", "t2i-compbench")
    ran = cli(*arguments)
    ran.assert_refused(3, "1 prompt failed (2: cannot draw two blue stars)")
    assert "warning: b/index.html is a folder" in ran.err
    assert "its scorer's folders are in " in ran.err
    cli.models["generator"] = FakeGenerator()
    cli(*arguments).assert_refused(2, "b/index.html is a folder")


def test_enough_failures_stop_the_batch(cli):
    cli.models["generator"] = FakeGenerator(refused=["stars"])
    ran = cli("batch", "p.txt", "--rounds", "1", "--max-failures", "1", "--wave", "1", "--json")
    assert ran.code == 3
    told = json.loads(ran.out)
    assert (told["done"], told["failed"], told["unfinished"]) == (1, 1, 1)
    assert "1 not reached" in ran.err


def test_the_first_ctrl_c_finishes_the_round_of_all(cli):
    cli.models["critic"] = Interrupting()
    ran = cli("batch", "p.txt", "--into", "b", "--rounds", "3")
    assert ran.code == 130
    assert ran.out == "b/summary.jsonl\n"
    assert "stopping after this round" in ran.err
    assert "gcr resume b goes on from here" in ran.err
    assert [path.read_text().count("\n") for path in Path("b").rglob("rounds.jsonl")] == [1, 1, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    drawn = len(cli.models["generator"].calls)
    again = cli("resume", "b")
    assert again.code == 0
    assert len(cli.models["generator"].calls) - drawn == 2 * 3


def test_the_second_ctrl_c_stops_at_once(cli):
    cli.models["critic"] = Interrupting(at=2, times=2)
    ran = cli("batch", "p.txt", "--into", "b", "--rounds", "3")
    assert ran.code == 130
    assert [path.read_text().count("\n") for path in Path("b").rglob("rounds.jsonl")] == [1, 1, 1]


def test_ctrl_c_at_the_very_end_changes_nothing(cli):
    cli.models["critic"] = Interrupting(at=2)
    assert cli("batch", "p.txt", "--rounds", "2").code == 0


@pytest.mark.parametrize(
    ("begun", "again", "more"),
    [
        ((), ("refine", "a red circle"), ""),
        ((), ("batch", "p.txt", "--into", "b"), ""),
        ((), ("compare", "p.txt", "--into", "b"), ""),
        (("batch", "p.txt", "--into", "b"), ("batch", "p.txt", "--into", "b"), "more "),
        (("batch", "p.txt", "--into", "b"), ("resume", "b"), "more "),
        (("refine", "a red circle", "-o", "b"), ("resume", "red-circle", "-o", "b"), "more "),
        (
            ("refine", "a red circle", "-o", "b"),
            ("resume", "red-circle", "-o", "b", "--from-attempt", "00-0", "--rounds", "+1"),
            "more ",
        ),
    ],
)
def test_interrupted_while_models_load(cli, monkeypatch, begun, again, more):
    """What is on disk already is not told as lost, and stays as it was."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if begun:
        cli.models["critic"] = Interrupting()
        assert cli(*begun).code == 130
    files = [path for path in Path("b").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    monkeypatch.setattr(models, "load_models", interrupt)
    ran = cli(*again)
    assert (ran.code, ran.out) == (130, "")
    assert f"error: interrupted before anything {more}was saved\n" in ran.err
    assert ("is as it was; the same command goes on from there" in ran.err) == bool(begun)
    assert before == {path: path.read_bytes() for path in files}


def test_an_interrupted_run_says_how_to_go_on(cli):
    cli.models["critic"] = Interrupting()
    ran = cli("refine", "a red circle", "--rounds", "3")
    folder = Path(ran.out.strip()).parent
    assert ran.code == 130
    assert f"gcr resume {folder} goes on from here" in ran.err
    cli.models["critic"] = FakeCritic(SCORES)
    again = cli("resume", str(folder))
    assert (again.code, again.out) == (0, ran.out)
    assert "round 1" in again.err
    assert "round 0" not in again.err
    told = json.loads(cli("resume", str(folder), "--json").out)
    assert (told["stop"], len(told["rounds"])) == ("rounds", 3)


COMPARED = (
    "p.txt",
    "--arm",
    "raw",
    "--arm",
    "refine",
    "--evaluator",
    "command:true",
    "--into",
    "b",
)


@pytest.mark.parametrize(
    "arguments",
    [
        ("refine", "a red circle", "-o", "b"),
        ("batch", "p.txt", "--into", "b"),
        ("compare", *COMPARED),
    ],
)
def test_what_is_gone_on_with_can_have_another_residency(cli, monkeypatch, arguments):
    cli.models["critic"] = Interrupting()
    assert cli(*arguments, "--residency", "swap").code == 130
    (folder,) = Path("b").glob("*/*") if arguments[0] == "refine" else [Path("b")]
    wanted = []

    def load(settings, *_, **__):
        wanted.append(settings.residency)
        return FakeGenerator(), Interrupting()

    monkeypatch.setattr(models, "load_models", load)
    # A command line is not run because a folder says so.
    given = ("--evaluator", "command:true") if arguments[0] == "compare" else ()
    assert cli("resume", str(folder), "--residency", "offload", *given).code == 130
    assert cli("resume", str(folder), *given).code == 130
    assert wanted == ["offload", "auto"]


@pytest.mark.parametrize(
    "arguments",
    [("refine", "a red circle", "-o", "b"), ("batch", "p.txt", "--into", "b")],
)
def test_what_was_begun_before_there_was_a_history_can_be_gone_on_with(cli, arguments):
    cli.models["critic"] = Interrupting()
    assert cli(*arguments, "--no-history").code == 130
    (folder,) = Path("b").glob("*/*") if arguments[0] == "refine" else [Path("b")]
    for path in folder.rglob("*.json"):
        record = json.loads(path.read_text())
        del record["settings"]["history"]
        path.write_text(json.dumps(record))
    cli.models["critic"] = FakeCritic(SCORES)
    assert cli("resume", str(folder)).code == 0
    if arguments[0] == "batch":
        assert cli(*arguments, "--no-history").code == 0


def test_a_resumed_edit_takes_the_source_from_its_folder(cli, tmp_path):
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "in.png")
    cli.models["critic"] = Interrupting()
    models = ("-m", "owner/editor", "--critic", "owner/critic")
    ran = cli("refine", "make it blue", "-i", "in.png", *models, "--rounds", "3")
    (tmp_path / "in.png").unlink()
    cli.models["critic"] = FakeCritic(SCORES)
    again = cli("resume", str(Path(ran.out.strip()).parent), "--json")
    assert json.loads(again.out)["stop"] == "rounds"
    assert cli.models["generator"].sources[-1].size == (256, 256)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch", "nowhere.txt"], "no file 'nowhere.txt'"),
        (["batch", "bad.jsonl"], "bad.jsonl, line 2: "),
        (["batch", "p.txt", "--shard", "1/2"], "--shard needs --into"),
        (["batch", "p.txt", "--into", "b", "--shard", "3/2"], "--shard '3/2' is no part"),
        (["batch", "p.txt", "--wave", "0"], "--wave should be at least 1"),
        (["batch", "p.txt", "--wildcards", "nowhere"], "no folder nowhere"),
        (
            ["batch", "c.csv", "--column", "word"],
            "c.csv: no column 'word'; there is 'words', 'prompt'",
        ),
        (["compare", "c.csv", "--column", "word"], "c.csv: no column 'word'"),
        (["batch", "p.txt", "--keep", "pink"], "--keep 'pink' is in none of the prompts"),
        (["batch", "p.txt", "--steps", "0"], "--steps should be at least 1"),
        (["batch"], "Missing argument"),
        (["resume", "a", "b"], "unexpected extra argument"),
        (["resume", "nowhere"], "no run 'nowhere' below outputs"),
    ],
)
def test_wrong_usage_is_refused_before_models_are_loaded(cli, monkeypatch, arguments, message):
    Path("bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": 3}\n')
    Path("c.csv").write_text("words,prompt\na red circle,a blue star\n")
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("models were loaded"))
    ran = cli(*arguments)
    assert ran.out == ""
    ran.assert_refused(2, message)


def test_bad_rows_can_be_skipped_with_a_warning(cli):
    Path("bad.jsonl").write_text('{"prompt": "a red circle"}\n{"prompt": 3}\n')
    ran = cli("batch", "bad.jsonl", "--skip-bad", "--rounds", "1")
    assert ran.code == 0
    assert "warning: bad.jsonl, line 2 is left out: the prompt is the number 3" in ran.err


def test_what_was_expanded_is_told_once(cli):
    Path("w.txt").write_text("a {red|red} circle\na {placeholder}\ntwo {blue|blue} stars\n")
    ran = cli("batch", "w.txt", "--rounds", "1")
    told = [line for line in ran.err.splitlines() if "wildcards" in line]
    assert told == [
        (
            "warning: wildcards were read in 2 of 3 prompts, as in w.txt, line 1: "
            "a {red|red} circle became a red circle; --literal leaves all as they are"
        )
    ]
    assert "wildcards" not in cli("batch", "w.txt", "--rounds", "1", "--literal").err


def test_a_column_that_is_named(cli):
    Path("c.csv").write_text("words,prompt\na red circle,a blue star\n")
    ran = cli("batch", "c.csv", "--column", "Words", "--rounds", "1")
    (line,) = Path(ran.out.strip()).read_text().splitlines()
    assert json.loads(line)["prompt"] == "a red circle"


def test_help_names_the_options(cli):
    shown = cli("batch", "--help").out
    for option in ("--into", "--wildcards", "--max-failures", "--generator", "--rounds", "FILE"):
        assert option in shown
    assert "--approve" not in shown
    assert "--flags" not in shown
    assert "--shard" in cli("resume", "--help").out


def test_a_terminal_shows_the_batch_and_the_work():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False)
    view = BatchTerminal(console)
    view.loading("pocket:critic")
    view.begin(12, 3)
    view.progress("draw", 1, 8)
    view.result(Result("x\x1b[2J", "[red]a\x1b[2J", 0, "runs/x", "failed", failure="no\x1b[2J"))
    view.progress("judge", 1, 8)
    view._lines._progress.refresh()
    view.end()
    shown = console.file.getvalue()
    for words in ("12 prompts, 3 of them done before", "drawing", "judging", "[red]a"):
        assert words in shown
    assert "4 of 12 prompts · 1 failed · " in shown
    assert "\x1b[2J" not in shown


def test_times_as_a_person_says_them():
    said = [duration(seconds) for seconds in (0.4, 89, 91, 3600, 5430, 36000)]
    assert said == ["0 s", "89 s", "2 min", "60 min", "1 h 30 min", "10 h 00 min"]


def test_lines_have_no_arrow_between_equal_scores_and_no_plural_of_one():
    def line(raw, best, images):
        result = Result("a", "x", 0, "r", "target", raw, best, "b.png", 1, images, 2.0)
        return batch_terminal._came_of(result).plain

    assert line(0.67, 0.671, 1) == "0.67 · 1 image, target, 2 s"
    assert line(0.5, 0.671, 2) == "0.50 → 0.67 · 2 images, target, 2 s"
