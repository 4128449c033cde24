"""`gcr calibrate`: the noise it measures, what it says of a critic, and where both are kept."""

import json
from pathlib import Path

import pytest
from fakes import (
    POCKET,
    FakeCritic,
    FakeGenerator,
    FakeSpeaker,
    images_in,
    paint,
    replying,
    text_of,
)

from benchmarks import labels as world_labels
from gcr.cli.app import run
from gcr.core.records import Critique
from gcr.critic.critic import VisionLanguageCritic
from gcr.diagnose import calibration
from gcr.engine import models
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
    return resolving.resolve(flags, ThisMachine(), environ=environ).settings


def test_the_spread_is_that_of_one_judgement_pooled_over_the_images(environ):
    says = {0: Critique(overall=0.5, spread=0.03), 1: Critique(overall=0.9, spread=0.01), 7: None}
    chosen = resolved(environ, judges=4)
    measured = calibration.measure_noise(["a", "b"], 2, FakeGenerator(), FakeCritic(says), chosen)
    assert measured.spread == pytest.approx(2 * ((0.03**2 + 0.01**2) / 2) ** 0.5)
    assert (measured.images, measured.judges) == (4, 4)  # both prompts are drawn on both seeds


def test_faulty_and_unread_images_do_not_count(environ):
    says = {0: Critique(overall=0.5, spread=0.02), 1: Critique(overall=0.5, spread=0.02), 3: None}
    drawer = FakeGenerator(faults={2: "blank"})
    measured = calibration.measure_noise(
        ["a"], 4, drawer, FakeCritic(says), resolved(environ, judges=4)
    )
    assert (measured.spread, measured.images) == (pytest.approx(0.04), 2)


def test_a_critic_that_cannot_be_read_is_not_calibrated(environ):
    with pytest.raises(GcrError, match="could not be read"):
        calibration.measure_noise(
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


SAYS = {1: 1.0, 2: 1 / 3, 3: 2 / 3, 4: 2 / 3, 5: None}
"""The scores of the images of these seeds."""


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An empty folder, with nobody's settings, and images of the first seeds."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for seed in range(1, 6):
        paint(seed).resize((32, 32)).save(f"{seed}.png")
    return tmp_path


@pytest.fixture
def critic(monkeypatch):
    """A critic that says as it is told, in place of the one that would be loaded."""

    def make(says=None, **settings):
        made = VisionLanguageCritic(
            FakeSpeaker(says or replying(FakeCritic(SAYS))), POCKET, **settings
        )
        monkeypatch.setattr(models, "load_critic", lambda *_: made)
        return made

    return make


def write(rows, name="labels.jsonl"):
    Path(name).write_text("\n".join(map(json.dumps, rows)))


def row(first, second, better, prompt="a red circle"):
    return {"prompt": prompt, "first": f"{first}.png", "second": f"{second}.png", "better": better}


ROWS = [
    row(1, 2, "first"),
    row(2, 1, "second", "a blue star"),
    row(2, 3, "first", "two red circles"),  # the critic says otherwise
    row(3, 4, "first", "a red star"),  # it scores them alike
    row(1, 5, "first", "a pink heart"),  # it cannot be read about one
    row(1, 3, "tie", "a green heart"),
]


def card(capsys, *arguments):
    assert run(["calibrate", "--pairs", "labels.jsonl", "--json", "-q", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_scores_are_held_against_labels(alone, critic, capsys):
    critic()
    write(ROWS)
    told = card(capsys, "--score", "reply")
    assert (told["rows"], told["images"], told["pairs"], told["label_ties"]) == (6, 12, 6, 1)
    grade = told["grades"]["reply"]
    assert grade["outcomes"] == "110h-"
    assert grade["accuracy"] == pytest.approx(2.5 / 4)
    assert (grade["ties"], grade["unread"]) == (0.25, 1)
    low, high = grade["interval"]
    assert 0 <= low < 2.5 / 4 < high <= 1


def test_two_images_are_compared_in_both_orders(alone, critic, capsys):
    def says(chat):
        """Prefers the first image unless the second is that of seed 1."""
        if len(images_in(chat)) < 2:
            return replying(FakeCritic(SAYS))(chat)
        if "pink" in text_of(chat):
            return "hm"
        return "Better: second" if images_in(chat)[1].getpixel((0, 0))[2] == 1 else "Better: first"

    critic(says)
    write(ROWS)
    grade = card(capsys, "--score", "reply")["grades"]["pairwise"]
    assert grade["outcomes"] == "11hh-"  # one order alone would have had three of four right
    assert (grade["accuracy"], grade["unread"]) == (0.75, 1)
    # Of ten answers seven preferred what was shown first.
    assert grade["first"] == pytest.approx(0.7)
    assert grade["split"] == pytest.approx(2 / 5)


def test_scores_as_labels_are_ranked_and_compared_within_a_prompt(alone, critic, capsys):
    critic()
    scores = {1: 5.0, 2: 1.0, 3: 4.0}
    write(
        [{"prompt": "a red circle", "image": f"{i}.png", "score": s} for i, s in scores.items()]
        + [{"prompt": "a blue star", "image": "4.png", "score": 9.0}]
    )
    told = card(capsys, "--score", "reply")
    grade = told["grades"]["reply"]
    assert (told["pairs"], grade["outcomes"]) == (3, "111")
    assert grade["interval"] is None  # nothing varies
    assert -1 < grade["tau"] < 1
    assert len(told["grades"]["pairwise"]["outcomes"]) == 1  # the best against the worst


def test_another_critic_is_held_against_what_was_kept_pair_by_pair(alone, critic, capsys):
    write([row(1, 2, "first", f"a red circle {i}") for i in range(24)])
    score = ("--score", "reply")
    critic(replying(FakeCritic({1: 1.0, 2: 0.0})))
    assert card(capsys, *score)["against"] == {}
    critic(replying(FakeCritic({1: 0.0, 2: 1.0})))
    told = card(capsys, "--quantize-critic", "none", *score)["against"]
    ((name, found),) = told.items()
    assert "nf4" in name
    assert found["reply"]["difference"] == -1
    assert found["reply"]["verdict"] == "worse"
    assert run(["calibrate", "--pairs", "labels.jsonl", "-q", "--score", "soft"]) == 0
    shown = capsys.readouterr().out
    assert "against pocket:critic, rubric pocket, none, judges 1" in shown
    assert "pairwise" in shown
    assert "+0.0 points" in shown
    kept = calibration.CARDS.read({"XDG_CONFIG_HOME": str(alone / "config")})
    assert sorted(len(each.grades) for each in kept.values()) == [2, 3]  # two scores of one critic
    (alone / "1.png").write_bytes((alone / "3.png").read_bytes())  # another image of this name
    assert card(capsys, *score)["against"] == {}
    write([row(1, 2, "second")])  # other labels under the same name
    assert card(capsys, *score)["against"] == {}


def test_several_judges_tell_their_spread_and_it_is_kept(alone, critic, capsys):
    replies = [replying(FakeCritic({1: score, 2: 0.0})) for score in (1.0, 2 / 3)]
    turns = iter(range(10_000))

    def says(chat):
        return replies[next(turns) % 2](chat)

    critic(says, judges=2)
    write([row(1, 2, "first", f"a red circle {i}") for i in range(3)])
    told = card(capsys, "--judges", "2", "--score", "reply")
    # Half of the images have scores that are a third apart, the others none.
    assert told["grades"]["reply"]["spread"] == pytest.approx((1 / 18 / 2) ** 0.5)
    found = resolving.resolve({}, ThisMachine()).settings
    assert found.spread == pytest.approx(told["grades"]["reply"]["spread"], abs=1e-6)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["--pairs", "none.jsonl"], "no file 'none.jsonl'"),
        (["--pairs", "1.png"], "1.png: a file of labels is known by its ending"),
        (["--pairs", "labels.jsonl", "a prompt"], "draws nothing"),
        (["--pairs", "labels.jsonl", "--forget"], "forgets nothing"),
        (["--skip-bad"], "of --pairs"),
        (["--judges", "1"], "one judgement has no spread"),
        (["--pairs", "foreign.jsonl"], "understands nothing"),
        (["--pairs", "some.jsonl"], "is no edit"),
    ],
)
def test_what_cannot_be_measured_is_said_first(alone, command, problem):
    write(ROWS)
    write([row(1, 2, "first", "a portrait of an old man")], "foreign.jsonl")
    write([{**row(1, 2, "first"), "source": "3.png"}, row(1, 2, "first")], "some.jsonl")
    with pytest.raises(UsageError, match=problem):
        run(["calibrate", *command, "-q"])


def test_a_damaged_store_costs_nothing_but_what_was_kept(alone, critic, capsys, caplog):
    critic()
    write(ROWS)
    card(capsys, "--score", "reply")
    path = calibration.CARDS.path({"XDG_CONFIG_HOME": str(alone / "config")})
    path.write_text(path.read_text().replace("outcomes: 110h-", "outcomes: '1x'"))
    told = card(capsys, "--quantize-critic", "none", "--score", "reply")
    assert told["against"] == {}
    assert any("report cards" in message for message in caplog.messages)


def test_the_embedded_critic_agrees_with_truth(alone, capsys, monkeypatch):
    monkeypatch.setenv("GCR_CACHE", str(alone / "cache"))
    world_labels.main(alone / "set", count=12, name="test")
    capsys.readouterr()
    assert run(["calibrate", "--pairs", "set", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["grades"]) == {"reply", "soft", "checklist", "pairwise"}
    for way, grade in told["grades"].items():
        assert grade["accuracy"] > 0.6, way
        assert grade["seconds"] > 0
        assert grade["tokens"] > 10
