"""Batches on a real Ray, with the embedded pair: `make test-ray`."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from fakes import images, summary

from benchmarks.refinement import requests

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'gcr[ray]'"),
]

ROOT = Path(__file__).parents[2]
OPTIONS = ("--rounds", "3", "--patience", "9", "--images", "1", "--no-compare")
PROMPTS = 6

# The tool, which fails where torch was imported into its own process.
WITHOUT_TORCH = """
import sys
from gcr.__main__ import main
code = main()
sys.exit("torch was imported" if "torch" in sys.modules else code)
"""


def environ(folder):
    """Of every process: one thread each, as how many there are decides how sums are rounded, and
    one priority, as Ray would have its workers wait for all else on a busy machine.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
    }


def start(folder, *arguments, **changes):
    code = ["-c", WITHOUT_TORCH] if "--ray" in arguments else ["-m", "gcr"]
    return subprocess.Popen(
        [sys.executable, *code, *map(str, arguments)],
        cwd=folder,
        env={**environ(folder), **changes},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def saved(folder):
    """Each round that is on disk, its times of drawing included, and when its images were."""
    found = {}
    for path in folder.rglob("rounds.jsonl"):
        content = path.read_bytes()
        for line in content[: content.rfind(b"\n") + 1].splitlines():
            names = [attempt["image"] for attempt in json.loads(line)["attempts"]]
            found[path.parent.name, line] = [(path.parent / n).stat().st_mtime_ns for n in names]
    return found


def workers(process):
    """The workers of a batch on a cluster of its own."""
    family = psutil.Process(process.pid).children(recursive=True)
    return [one for one in family if "".join(one.cmdline()[:1]).startswith("ray::Worker")]


def in_hand(worker):
    """The run folders that a worker has claimed."""
    return [Path(file.path).parent for file in worker.open_files() if file.path.endswith(".claim")]


def until(found, process):
    """What `found` returns, as soon as it is something."""
    while not (what := found()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return what


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a prompt file, and its batch done without Ray."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "p.txt").write_text("\n".join(requests(PROMPTS, "ray")) + "\n")
    finish(start(folder, "batch", "p.txt", "--into", "whole", *OPTIONS))
    return folder


def test_a_worker_that_is_killed_is_replaced_and_its_prompts_are_gone_on_with(whole):
    torn = whole / "torn"
    arguments = ("--into", "torn", *OPTIONS, "--ray", "local", "--workers", 2)
    process = start(whole, "batch", "p.txt", *arguments)

    def torn_apart():
        """A worker with saved rounds in hand, none of whose runs is over."""
        for worker in workers(process) if torn.exists() else ():
            runs = in_hand(worker)
            if len(runs) > 1 and all((run / "rounds.jsonl").exists() for run in runs):
                return worker, runs
        return None

    worker, runs = until(torn_apart, process)
    worker.send_signal(signal.SIGSTOP)  # so that what it saved can be looked at
    before = saved(torn)
    worker.kill()
    assert {run.name for run in runs} <= {name for name, _ in before}
    out, err = finish(process)
    assert out == "torn/summary.jsonl\n"
    assert "died at" in err
    assert "another takes its place, and goes on from saved rounds" in err
    assert images(torn) == images(whole / "whole")
    assert summary(torn) == summary(whole / "whole")
    after = saved(torn)
    assert {round_: after[round_] for round_ in before} == before  # none was drawn again
    assert len(after) == len(saved(whole / "whole"))


def test_ctrl_c_ends_all_workers_after_their_rounds(whole):
    arguments = ("--into", "stopped", *OPTIONS, "--ray", "local", "--workers", 2)
    process = start(whole, "batch", "p.txt", *arguments)
    until(lambda: saved(whole / "stopped"), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = finish(process, 130)
    assert out == "stopped/summary.jsonl\n"
    assert "stopping after this round" in err
    assert "gcr resume stopped goes on from here" in err
    assert not psutil.wait_procs(family, timeout=30)[1]
    before = saved(whole / "stopped")
    assert 0 < len(before) < len(saved(whole / "whole"))
    finish(start(whole, "resume", "stopped", "--ray", "local", "--workers", 2))
    after = saved(whole / "stopped")
    assert {round_: after[round_] for round_ in before} == before
    assert images(whole / "stopped") == images(whole / "whole")


@pytest.fixture
def running(tmp_path):
    """A Ray that runs on this machine: its address, and what reaching it takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    access["RAY_USAGE_STATS_ENABLED"] = "0"
    options = ("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2")
    options += ("--include-dashboard=false", f"--object-store-memory={100 * 1024**2}", "--block")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**environ(tmp_path), **access}, stdout=log, stderr=log
        )
    until(lambda: "Ray runtime started" in (tmp_path / "log").read_text(), process)
    family = psutil.Process(process.pid).children(recursive=True)
    yield f"127.0.0.1:{port}", access
    process.terminate()  # `ray stop` would end every Ray on this machine
    process.wait()
    for one in psutil.wait_procs(family, timeout=30)[1]:
        one.kill()


def test_a_running_cluster_is_joined_and_left_as_it_was(whole, running):
    address, access = running
    arguments = ("--into", "joined", *OPTIONS, "--ray", address, "--workers", 2)
    _, err = finish(start(whole, "batch", "p.txt", *arguments, **access))
    assert f"{PROMPTS} done; saved in joined" in err
    assert images(whole / "joined") == images(whole / "whole")
    again = ("--into", "again", "--rounds", "1", "--images", "1", "--ray", address)
    finish(start(whole, "batch", "p.txt", *again, **access))


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}])
def test_a_cluster_that_wants_another_token_says_so_at_once(tmp_path, running, token):
    (tmp_path / "p.txt").write_text("a red circle\n")
    _, err = finish(start(tmp_path, "batch", "p.txt", "--ray", running[0], **token), 2)
    error, hint = err.splitlines()
    assert error.startswith(
        f"error: the Ray cluster at {running[0]} refuses this machine: its token"
    )
    assert "RAY_AUTH_TOKEN" in hint


def test_no_cluster_there(tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\n")
    _, err = finish(start(tmp_path, "batch", "p.txt", "--ray", "127.0.0.1:1"), 2)
    assert err.startswith("error: no Ray cluster at 127.0.0.1:1: ")
