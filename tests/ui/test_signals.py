"""What asks the tool to end, and streams that take nothing more: no work is lost, no traceback."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest
from fakes import SCORES, FakeCritic

from gcr.cli import refine as command
from gcr.engine import signals
from gcr.ui import streams, web

ENDS = [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
FAKES = f"""if True:
    import sys
    sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
    from fakes import SCORES, FakeCritic, FakeGenerator
    from gcr.__main__ import main
    from gcr.engine import models
    models.load_models = lambda *_, **__: (FakeGenerator(), FakeCritic(SCORES))
    sys.exit(main())
"""


class Ended(FakeCritic):
    """A signal, so many times, while the first round is judged."""

    def __init__(self, number, times=1):
        super().__init__(SCORES)
        self.number = number
        self.times = times

    def judge(self, requests, images, sources=()):
        if not self.calls:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return super().judge(requests, images, sources)


@pytest.fixture(params=ENDS, ids=lambda end: end[0].name)
def end(request):
    """A signal and its exit code. Afterwards all is handled as before."""
    before = [signal.getsignal(number) for number in signals.ENDING]
    yield request.param
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_a_run_ends_after_its_round(cli, end):
    cli.models["critic"] = Ended(end[0])
    ran = cli("refine", "a red circle", "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["stop"], told["images"]) == (end[1], "interrupted", 2)
    assert Path(told["best"]["image"]).is_file()
    assert "stopping after this round" in ran.err


def test_a_second_signal_ends_a_run_at_once(cli, end):
    cli.models["critic"] = Ended(end[0], 2)
    ran = cli("refine", "a red circle", "--json")
    assert (ran.code, json.loads(ran.out)["images"]) == (end[1], 0)


def test_a_batch_ends_after_its_round(cli, end):
    Path("p.txt").write_text("a red circle\na blue star\n")
    cli.models["critic"] = Ended(end[0])
    ran = cli("batch", "p.txt", "--into", "b", "--rounds", "3")
    assert (ran.code, ran.out) == (end[1], "b/summary.jsonl\n")
    assert [path.read_text().count("\n") for path in Path("b").rglob("rounds.jsonl")] == [1, 1]


def test_a_comparison_ends_after_its_round(cli, end):
    Path("p.txt").write_text("a red circle\na blue star\n")
    cli.models["critic"] = Ended(end[0])
    ran = cli("compare", "p.txt", "--into", "c", "--evaluator", "command:cat")
    assert (ran.code, ran.out) == (end[1], "")
    assert "gcr resume c goes on from here" in ran.err


def test_nothing_is_saved_before_a_model_is_there(cli, end, monkeypatch):
    monkeypatch.setattr(
        "gcr.engine.models.load_models", lambda *_, **__: signal.raise_signal(end[0])
    )
    ran = cli("refine", "a red circle")
    assert (ran.code, ran.out) == (end[1], "")
    assert ran.err == "error: interrupted before anything was saved\n"


def test_the_page_ends_and_leaves_nothing_behind(cli, end, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(web.listen(0)) as free:
        port = free.getsockname()[1]

    def end_it():
        with closing(socket.socket()) as trying:
            while trying.connect_ex(("127.0.0.1", port)):
                time.sleep(0.05)
        with suppress(HTTPError), urllib.request.urlopen(f"http://127.0.0.1:{port}"):
            pass
        os.kill(os.getpid(), end[0])

    threading.Thread(target=end_it).start()
    ran = cli("ui", "--no-open", "--quiet", "--port", str(port))
    assert (ran.code, ran.err) == (end[1], "")
    assert ran.out.startswith(f"http://127.0.0.1:{port}/?token=")
    assert list(tmp_path.glob("gcr-ui-*")) == []
    web.listen(port).close()


def test_a_person_who_is_asked_is_not_waited_for(cli, end, monkeypatch):
    monkeypatch.setattr(command, "_check_somebody_is_there", lambda **_: None)
    monkeypatch.setattr("gcr.ui.approval.ask", lambda *_: signal.raise_signal(end[0]))
    ran = cli("refine", "a red circle", "--approve", "--json")
    assert (ran.code, json.loads(ran.out)["images"]) == (end[1], 2)


def test_what_is_ignored_stays_ignored(cli, end):
    """As `nohup` starts a command, and a shell what runs in the background."""
    before = signal.signal(end[0], signal.SIG_IGN)
    try:
        cli.models["critic"] = Ended(end[0], 2)
        assert cli("refine", "a red circle").code == 0
    finally:
        signal.signal(end[0], before)


def test_what_would_be_left_half_done_is_interrupted_after_it_or_by_a_second_signal(end):
    done = []

    def work(times):
        with signals.held_back():
            for _ in range(times):
                signal.raise_signal(end[0])
            done.append(times)

    with signals.interrupting():
        for times in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                work(times)
            assert signals.exit_code() == end[1]
    assert done == [1]


def test_ctrl_c_while_libraries_are_imported_leaves_no_halves(cli, end, tmp_path, monkeypatch):
    monkeypatch.undo()  # models are loaded
    monkeypatch.chdir(tmp_path)
    imported = []

    def quiet():
        signal.raise_signal(end[0])
        imported.append(1)

    monkeypatch.setattr("gcr.hub.checkpoints.quiet_libraries", quiet)
    ran = cli("refine", "a red circle")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        end[1],
        "error: interrupted before anything was saved",
    )
    assert imported == [1]


def test_a_signal_in_the_last_round_ends_the_questions_too(cli, end, monkeypatch):
    cli.models["critic"] = Ended(end[0])
    lines = iter(["a red circle", ""])
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    monkeypatch.setattr("gcr.ui.approval.ask", lambda _: next(lines))
    ran = cli("refine", "--rounds", "1")
    assert ran.out.endswith("best.png\n")
    assert (ran.code, list(lines)) == ((0, []) if end[1] == 130 else (end[1], [""]))


def test_a_library_changes_no_handler_for_good(end):
    before = signal.getsignal(end[0])
    with signals.kept():
        signal.signal(end[0], signal.SIG_DFL)
    assert signal.getsignal(end[0]) is before


def run(where, redirected, *arguments):
    """Run the tool on fakes in a shell, under redirections that are there before it begins."""
    line = f'"$0" -c "$1" {" ".join(arguments)} {redirected}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, FAKES],
        capture_output=True,
        text=True,
        check=False,
        cwd=where,
        env={**os.environ, "XDG_CONFIG_HOME": str(where)},
    )


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.mark.parametrize(
    "redirected",
    ["2>&-", pytest.param("2>/dev/full", marks=FULL), "3>&1 2>&1 >&3 | true", "2>&- <&-"],
)
def test_stderr_that_takes_nothing_ends_no_work(tmp_path, redirected):
    run(tmp_path, redirected, "refine", "'a red circle'", "-v")
    told = json.loads(next(tmp_path.rglob("run.json")).read_text())
    assert told["stop"] == "plateau" or told["stop"] == "rounds"
    for path in tmp_path.rglob("*.jsonl"):
        assert all(line.startswith("{") for line in path.read_text().splitlines())


@pytest.mark.parametrize("redirected", [">&-", pytest.param(">/dev/full", marks=FULL)])
def test_stdout_that_takes_nothing_is_told_of_once(tmp_path, redirected):
    ran = run(tmp_path, redirected, "refine", "'a red circle'", "-q")
    assert ran.returncode == 1
    first, hint = ran.stderr.splitlines()
    assert first.startswith("error: stdout did not take the result: ")
    assert hint.endswith("whatever the command saves is saved all the same")
    assert list(tmp_path.rglob("best.png"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 141),
        (["refine", "--help"], 141),
        (["profiles", "--json"], 141),
        (["refine", "a red circle", "-q"], 141),
        (["refine", "a red circle", "-q", "--rounds", "0"], 2),  # what failed has failed
    ],
)
def test_a_reader_who_has_had_enough_is_no_error(tmp_path, arguments, code):
    """As `| head` leaves it: quiet, with the exit code that a shell gives to SIGPIPE."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as nobody:
        ran = subprocess.run(
            [sys.executable, "-c", FAKES, *arguments],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        )
    assert ran.returncode == code
    assert bool(ran.stderr) is (code == 2)
    assert "stdout" not in ran.stderr
    assert len(list(tmp_path.rglob("best.png"))) == (
        "refine" in arguments and "-q" in arguments and code == 141
    )


def test_a_signal_amid_a_word_drops_only_what_it_would_have_said():
    class Amid:
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    stream = streams.Lenient(Amid())
    assert stream.write("stopping") == 8
    assert stream.error is None


def test_a_handler_that_python_did_not_set_is_left_as_it_is(monkeypatch):
    """Such as of a program that embeds Python: it could not be put back."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    assert signals.handled(lambda *_: None) == {}
    with signals.kept():
        pass
