"""`gcr calibrate`: what it measures, where it keeps it, and that later runs know it."""

import json

import pytest
from fakes import FakeCritic, FakeGenerator

from gcr.cli.app import run
from gcr.core.records import Critique
from gcr.diagnose import calibration
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, UsageError
from gcr.settings import resolving
from gcr.settings.measurements import SPREADS


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def resolved(environ, **flags):
    return resolving.resolve(flags, ThisMachine(), environ=environ)


def test_the_spread_is_that_of_one_judgement_pooled_over_the_images(environ):
    says = {0: Critique(overall=0.5, spread=0.03), 1: Critique(overall=0.9, spread=0.01), 7: None}
    chosen = resolved(environ, judges=4)
    measured = calibration.measure(["a", "b"], 2, FakeGenerator(), FakeCritic(says), chosen)
    assert measured.spread == pytest.approx(2 * ((0.03**2 + 0.01**2) / 2) ** 0.5)
    assert (measured.images, measured.judges) == (4, 4)  # both prompts are drawn on both seeds


def test_faulty_and_unread_images_do_not_count(environ):
    says = {0: Critique(overall=0.5, spread=0.02), 1: Critique(overall=0.5, spread=0.02), 3: None}
    drawer = FakeGenerator(faults={2: "blank"})
    measured = calibration.measure(["a"], 4, drawer, FakeCritic(says), resolved(environ, judges=4))
    assert (measured.spread, measured.images) == (pytest.approx(0.04), 2)


def test_a_critic_that_cannot_be_read_is_not_calibrated(environ):
    with pytest.raises(GcrError, match="could not be read"):
        calibration.measure(
            ["a"], 2, FakeGenerator(), FakeCritic({}, None), resolved(environ, judges=4)
        )


def test_what_was_measured_is_found_again_for_the_same_critic_and_rubric_alone(environ):
    SPREADS.keep(environ, {"pocket:critic pocket reply": 0.0421})
    SPREADS.keep(environ, {"pocket:critic pocket soft": 0.01})
    assert resolved(environ).spread == 0.0421
    assert resolved(environ, score="soft").spread == 0.01
    assert resolved(environ, rubric="text-to-image").spread is None
    assert resolved(environ, judges=3).spread is None  # then it is measured in the run itself


def test_a_damaged_store_is_told_once_and_stops_nothing(environ, caplog):
    path = SPREADS.path(environ)
    path.parent.mkdir(parents=True)
    for damage in ("- a", "a: b", "a: 7", "a: .nan", "{", "\0", "[" * 50_000):
        path.write_text(damage)
        assert resolved(environ).spread is None
        assert resolved(environ).spread is None
        (warning,) = caplog.messages
        assert warning.startswith(f"{path} was damaged (")
        assert "gcr calibrate measures spreads again" in warning
        assert path.with_name("spreads.yaml.damaged").read_text() == damage
        caplog.clear()


def test_several_judges_of_a_checklist_are_refused(environ):
    with pytest.raises(UsageError, match="--judges"):
        resolved(environ, judges=2, score="checklist")


def test_the_command_measures_the_embedded_critic(environ, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    command = ["calibrate", "a red star", "two blue circles", "--judges", "3", "--images", "1"]
    assert run([*command, "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert 0 <= record["spread"] < 0.5
    assert (record["images"], record["judges"]) == (2, 3)
    assert resolved(environ).spread == pytest.approx(record["spread"], abs=1e-6)
