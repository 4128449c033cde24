"""Strategies of other distributions; docs/strategies.md's own is run here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gcr.settings import plugins

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
RUN = ("refine", "a red circle", "--strategy", "climb")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Install a distribution: its module, and its entry points as pip would have written them."""

    def install(code, points):
        place = tmp_path / "site"
        about = place / "gcr_climb-1.0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (place / "gcr_climb.py").write_text(code)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gcr-climb\nVersion: 1.0\n")
        lines = (f"{name} = {where}" for name, where in points.items())
        (about / "entry_points.txt").write_text("\n".join(["[gcr.strategies]", *lines]))
        monkeypatch.syspath_prepend(place)
        monkeypatch.delitem(sys.modules, "gcr_climb", raising=False)

    return install


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package that the page tells to make, installed by pip; from the build backend that is
    here, since a test has no network.
    """
    source, place = tmp_path_factory.mktemp("gcr-climb"), tmp_path_factory.mktemp("site")
    blocks = dict(re.findall(r"^```(python|toml)\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL))
    (source / "gcr_climb.py").write_text(blocks["python"])
    (source / "pyproject.toml").write_text(blocks["toml"])
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", place)
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, source], check=True)
    return place


@pytest.fixture
def climb(package, monkeypatch):
    """The package of the page, for this process to import."""
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "gcr_climb", raising=False)


def test_the_pages_strategy_draws(cli, climb):
    ran = cli(*RUN, "--json", "--rounds", "3")
    told = json.loads(ran.out)
    drawn = [attempt["candidate"] for line in lines(told) for attempt in line["attempts"]]
    assert [candidate["seed"] for candidate in drawn] == list(range(6))
    assert drawn[0]["prompt"] == "a red circle"
    assert drawn[2]["prompt"] == drawn[3]["prompt"] != "a red circle"
    record = json.loads((Path(told["folder"]) / "run.json").read_text())
    assert record["settings"]["strategy"] == "climb"


def lines(told):
    text = (Path(told["folder"]) / "rounds.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_goes_on_as_if_it_had_not_been_stopped(cli, climb):
    whole, part = (json.loads(cli(*RUN, "--json", "--rounds", n).out) for n in ("4", "2"))
    resumed = cli("resume", part["folder"], "--rounds", "+2", "--json")
    assert resumed.code == 0
    candidates = [
        [attempt["candidate"] for line in lines(told) for attempt in line["attempts"]]
        for told in (whole, part)
    ]
    assert candidates[0] == candidates[1]


def test_a_run_whose_strategy_is_gone_says_so(cli, package, climb):
    told = json.loads(cli(*RUN, "--json", "--rounds", "2").out)
    sys.path.remove(str(package))
    ran = cli("resume", told["folder"], "--rounds", "+1")
    assert ran.code == 2
    assert "no strategy named 'climb'" in ran.err
    assert cli("report", told["folder"]).code == 0  # what is there can be looked at


def test_it_is_an_arm(cli, climb):
    Path("prompts.txt").write_text("a red circle\na blue star\n")
    ran = cli(
        *("compare", "prompts.txt", "--arm", "raw", "--arm", "climb", "--into", "c"),
        *("--evaluator", "command:sed s/.*/1/", "--rounds", "2"),
    )
    assert ran.code == 0, ran.err
    assert len(list(Path("c/climb").rglob("rounds.jsonl"))) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return ()", "proposed nothing to draw in round 0"),
        ("return [1]", "proposed what is no tuple of candidates"),
        ("return self.fresh(run, ['a dog'])", "does not begin with the request as it is"),
        ("return run.moon", "failed: AttributeError"),
    ],
)
def test_a_strategy_at_fault_is_named(cli, site, body, message):
    site(
        "from gcr.core.strategies import BaseStrategy\n\n\n"
        f"class Odd(BaseStrategy):\n    def propose(self, run):\n        {body}\n",
        {"climb": "gcr_climb:Odd"},
    )
    ran = cli(*RUN)
    assert ran.code == 1
    assert f"error: the strategy gcr_climb.Odd {message}" in ran.err
    assert "defect of gcr" not in ran.err


@pytest.mark.parametrize(
    ("where", "name", "code", "message"),
    [
        ("gcr_climb:Missing", "climb", 1, "the strategy climb cannot be loaded"),
        ("gcr_climb:Path", "climb", 1, "climb is no subclass of gcr.core.strategies.BaseStrategy"),
        ("gcr_climb:Path", "clim", 2, "no strategy named 'clim'"),
        ("gcr_climb:Path", "up/hill", 2, "no strategy named 'up/hill'"),
    ],
)
def test_strategies_that_cannot_be_had(cli, site, where, name, code, message):
    site("from pathlib import Path\n", {"climb": where, "up/hill": where})
    ran = cli("refine", "a red circle", "--strategy", name)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


def test_a_name_of_ours_is_nobody_elses(site, cli):
    site("from pathlib import Path\n", {"refine": "gcr_climb:Path"})
    ran = cli("refine", "a red circle")
    assert ran.code == 2
    assert "2 strategies are called refine" in ran.err


def test_ours_are_found_where_they_are():
    for name in plugins.STRATEGIES.built_in:
        assert plugins.strategy(name).__module__ == "gcr.core.strategies"
