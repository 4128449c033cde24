"""What was measured here is kept, whoever writes at the same time, and is never in the way."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import FakeMachine

from gcr.errors import GcrError
from gcr.settings.measurements import SPREADS
from gcr.settings.resolving import resolve

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from gcr.settings.measurements import SPREADS
for number in range(25):
    SPREADS.keep({"XDG_CONFIG_HOME": sys.argv[1]}, {f"{sys.argv[2]} {number}": 0.25})
"""


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_threads_that_write_at_the_same_time_lose_nothing(environ):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: SPREADS.keep(environ, {f"critic {n}": n / 100}), range(40)))
    assert SPREADS.read(environ) == {f"critic {n}": n / 100 for n in range(40)}


def test_processes_that_write_at_the_same_time_lose_nothing(environ):
    python = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, environ["XDG_CONFIG_HOME"]]
    processes = [subprocess.Popen([*command, name], env=python) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(SPREADS.read(environ)) == 75


def test_a_writer_that_dies_leaves_what_was_there(environ, monkeypatch):
    SPREADS.keep(environ, {"critic": 0.1})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        SPREADS.keep(environ, {"other": 0.2})
    assert SPREADS.read(environ) == {"critic": 0.1}
    assert not list(SPREADS.path(environ).parent.glob("*.tmp"))


def test_a_file_that_is_a_link_stays_one(environ, tmp_path):
    """Config files are often links into a folder that is kept elsewhere."""
    elsewhere = tmp_path / "dotfiles.yaml"
    elsewhere.write_text("critic: 0.1\n")
    path = SPREADS.path(environ)
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    SPREADS.keep(environ, {"other": 0.2})
    assert path.is_symlink()
    assert elsewhere.read_text() == "critic: 0.1\nother: 0.2\n"


def test_what_is_damaged_is_put_aside_by_a_writer_too(environ, caplog):
    path = SPREADS.path(environ)
    path.parent.mkdir(parents=True)
    path.write_text("critic: 0.1\nother: broken\n")
    SPREADS.keep(environ, {"third": 0.3})
    assert SPREADS.read(environ) == {"critic": 0.1, "third": 0.3}
    assert path.with_name("spreads.yaml.damaged").read_text() == "critic: 0.1\nother: broken\n"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_file_that_is_none_is_not_waited_for(environ, kind, caplog):
    path = SPREADS.path(environ)
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    settings = resolve({"score": "soft"}, FakeMachine(), environ=environ).settings
    assert settings.spread is None
    assert f"cannot read {path}, so it is not used" in caplog.text
    with pytest.raises(GcrError, match="cannot write"):
        SPREADS.keep(environ, {"critic": 0.1})
