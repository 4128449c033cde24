"""A run that is over goes on with a larger budget, and says so wherever it is read."""

import json
import re
import shutil
from pathlib import Path

import pytest
from fakes import FakeCritic, FakeGenerator
from folders import make_batch

import gcr
from gcr.core import stopping
from gcr.core.records import Extension
from gcr.errors import UsageError
from gcr.storage import timings


@pytest.fixture
def over(cli):
    """Begin a run with options, and come to its end; its folder."""

    def begin(*options):
        assert cli("refine", "a red circle", *options).code == 0
        (path,) = Path("outputs").glob("*/*")
        return path

    return begin


def story(folder):
    return json.loads((folder / "run.json").read_text())


def drawn(folder):
    return [(a.image, a.candidate, a.score) for a in gcr.load_run(folder).attempts]


def test_more_rounds_are_those_of_a_run_that_was_begun_with_them(cli, over):
    folder = over("--rounds", "4", "--patience", "9", "--images", "1")
    whole = drawn(folder)
    shutil.rmtree("outputs")
    folder = over("--rounds", "2", "--patience", "9", "--images", "1")
    ran = cli("resume", str(folder), "--rounds", "+2")
    assert (ran.code, ran.out) == (0, f"{folder}/best.png\n")
    assert drawn(folder) == whole
    assert "that was the last round · 4 rounds, 4 images" in ran.err


def test_the_change_is_recorded_beside_settings_that_stay(cli, over):
    folder = over("--rounds", "2", "--patience", "9")
    before = story(folder)
    assert "extensions" not in before
    assert cli("resume", str(folder), "--rounds", "+1").code == 0
    after = story(folder)
    assert after["settings"] == before["settings"]
    (extension,) = after["extensions"]
    assert extension.pop("when").startswith("20")
    assert extension == {
        "after": 2,
        "rounds": 3,
        "max_images": None,
        "max_seconds": None,
        "stop": "rounds",
    }
    run = gcr.load_run(folder)
    assert (len(run.rounds), run.stop, len(run.extensions)) == (3, "rounds", 1)
    assert stopping.is_over(run)
    # By its settings alone, as a version reads it that knows no extensions, it is over as well.
    assert stopping.rule(run.settings).reason(run) == run.stop
    ran = cli("resume", str(folder))
    assert "is finished, so nothing is drawn" in ran.err
    assert cli("resume", str(folder), "--rounds", "+1").code == 0
    assert [e["rounds"] for e in story(folder)["extensions"]] == [3, 4]


def test_it_is_shown_in_terminal_and_page(cli, over):
    folder = over("--rounds", "1")
    ran = cli("resume", str(folder), "--rounds", "+1", "--max-images", "+2")
    assert "extended to 2 rounds, 4 images at most on 20" in ran.err
    assert "0 images left" in ran.err
    assert "extended to 2 rounds, 4 images at most on 20" in cli("show", str(folder)).out
    assert "extended to 2 rounds, 4 images at most on 20" in (folder / "index.html").read_text()


def test_a_budget_that_came_later_is_told_of_the_rounds_after_it_and_names_no_rounds(cli, over):
    folder = over("--rounds", "1", "--images", "2")
    cli("resume", str(folder), "--max-images", "+2")
    first, second = re.findall("^round .*", cli("show", str(folder)).out, re.MULTILINE)
    assert "left" not in first
    assert second.endswith("0 images left")
    assert "extended to 4 images at most on 20" in cli("show", str(folder)).out


def test_a_run_that_reached_its_target_goes_on_until_new_rounds_do(cli, over):
    cli.models["critic"] = FakeCritic({0: 1.0}, otherwise=0.5)
    folder = over("--images", "1", "--patience", "2")
    assert gcr.load_run(folder).stop == "target"
    cli("resume", str(folder), "--rounds", "+3")
    run = gcr.load_run(folder)
    assert (len(run.rounds), run.stop) == (3, "plateau")  # two rounds without a gain
    assert story(folder)["best"]["image"] == "00-0.png"
    cli.models["critic"] = FakeCritic({3: 1.0}, otherwise=0.5)
    cli("resume", str(folder), "--rounds", "+3")
    run = gcr.load_run(folder)
    assert (len(run.rounds), run.stop) == (4, "target")


def test_a_budget_of_images_alone_lifts_the_limit_on_rounds(cli, over):
    folder = over("--rounds", "1", "--images", "2")
    cli("resume", str(folder), "--max-images", "+5")
    run = gcr.load_run(folder)
    assert (len(run.attempts), len(run.rounds), run.stop) == (7, 4, "images")


def test_an_extension_outlasts_an_interruption(cli, over):
    folder = over("--rounds", "1", "--patience", "9")
    cli.models["generator"] = FakeGenerator(fails=KeyboardInterrupt())
    assert cli("resume", str(folder), "--rounds", "+3").code == 130
    assert (len(gcr.load_run(folder).rounds), story(folder)["stop"]) == (2, "interrupted")
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder)).code == 0
    assert len(gcr.load_run(folder).rounds) == 4


def test_a_stopped_run_can_have_more_than_what_is_left(cli, over):
    folder = over("--rounds", "1")
    told = story(folder)
    told["settings"]["rounds"] = 2  # one is left
    told["stop"] = "interrupted"
    (folder / "run.json").write_text(json.dumps(told))
    assert cli("resume", str(folder), "--rounds", "+2").code == 0
    assert len(gcr.load_run(folder).rounds) == 3


def ended(folder, stop, **results):
    """Have a run end as if a person or the critic had preferred an image of a low score."""
    told = {**story(folder), "stop": stop, **results}
    (folder / "run.json").write_text(json.dumps(told))
    (folder / "best.png").write_bytes((folder / "00-0.png").read_bytes())


@pytest.mark.parametrize("stop", ["chosen", "rounds"])
def test_a_persons_choice_stays_the_best(cli, over, stop):
    cli.models["critic"] = FakeCritic({0: 0.2}, otherwise=0.9)
    folder = over("--rounds", "1", "--images", "1", "--patience", "9")
    ended(folder, stop, kept="00-0.png")
    ran = cli("resume", str(folder), "--rounds", "+2")
    assert ran.code == 0
    assert "warning: 00-0.png stays the best image, as you chose it" in ran.err
    assert (story(folder)["kept"], story(folder)["best"]["image"]) == ("00-0.png", "00-0.png")
    assert (folder / "best.png").read_bytes() == (folder / "00-0.png").read_bytes()
    # Nor is it lost where that is stopped, or extended, or both.
    cli.models["generator"] = FakeGenerator(fails=KeyboardInterrupt())
    assert cli("resume", str(folder), "--rounds", "+2").code == 130
    assert story(folder)["kept"] == "00-0.png"
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder)).code == 0
    assert (story(folder)["kept"], len(gcr.load_run(folder).rounds)) == ("00-0.png", 5)


def test_what_the_critic_settled_stands_until_another_round_is_drawn(cli, over):
    cli.models["critic"] = FakeCritic({0: 0.2}, otherwise=0.9)
    folder = over("--rounds", "2", "--images", "1", "--patience", "9", "--no-compare")
    ended(folder, "rounds", settled="00-0.png", comparison="first")
    cli.models["generator"] = FakeGenerator(fails=KeyboardInterrupt(), at=1)
    assert cli("resume", str(folder), "--rounds", "+2").code == 130
    told = story(folder)
    assert (told["settled"], told["comparison"]) == ("00-0.png", "first")
    assert told["best"]["image"] == "00-0.png"
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder), "--rounds", "+1").code == 0
    told = story(folder)
    assert (told["settled"], told["comparison"]) == ("", None)
    assert told["best"]["image"] == "01-0.png"


@pytest.mark.parametrize("text", ["3", "+0", "-1", "+x", "+1.5", ""])
def test_only_more_is_taken(cli, over, text):
    folder = over("--rounds", "1")
    ran = cli("resume", str(folder), f"--rounds={text}")
    assert (ran.code, ran.out) == (2, "")
    assert f"error: --rounds {text!r} is not of the form +3" in ran.err


def test_no_more_is_taken_than_a_run_may_have(cli, over):
    folder = over("--rounds", "1")
    before = story(folder)
    ran = cli("resume", str(folder), "--rounds", f"+{'9' * 2000}")
    assert (ran.code, ran.out) == (2, "")
    assert "error: --rounds should be at most 100\n" in ran.err
    for more in ({"rounds": -1}, {"max_images": 0}, {"max_seconds": float("nan")}):
        with pytest.raises(UsageError, match="should be"):
            gcr.resume(folder, **more)
    assert story(folder) == before


@pytest.mark.parametrize("begun", [("--max-images", "2"), ("--max-seconds", "0.00001")])
@pytest.mark.parametrize("more", ["--rounds", "--max-images"])
def test_one_larger_budget_is_enough_and_is_the_only_one_from_there(cli, over, begun, more):
    folder = over("--patience", "9", *begun)
    before = gcr.load_run(folder)
    assert cli("resume", str(folder), more, "+2").code == 0
    after = gcr.load_run(folder)
    if more == "--rounds":
        assert (len(after.rounds), after.stop) == (len(before.rounds) + 2, "rounds")
    else:
        assert (len(after.attempts), after.stop) == (len(before.attempts) + 2, "images")


def test_seconds_in_which_no_round_fits_are_refused(cli, over):
    folder = over("--rounds", "2")
    before = story(folder)
    ran = cli("resume", str(folder), "--max-seconds", "+0.000001")
    assert (ran.code, ran.out) == (2, "")
    assert "so none fits into 1e-06 s" in ran.err
    assert story(folder) == before


def test_a_run_is_named_by_a_part_of_its_folder(cli, over):
    folder = over("--rounds", "1")
    assert cli("resume", "a-red-circle", "--rounds", "+1").out == f"{folder}/best.png\n"
    for name, says in (("a-blue-star", "no run 'a-blue-star' below"), (" ", "is empty")):
        ran = cli("resume", name)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err


def test_runs_of_a_batch_have_the_batchs_budget(cli, tmp_path):
    batch = make_batch(tmp_path / "shapes", 2)
    for folder in (batch, batch / "runs" / "p0"):
        ran = cli("resume", str(folder), "--rounds", "+2")
        assert (ran.code, ran.out) == (2, "")
        assert "is no single run" in ran.err


def test_a_forecast_does_not_count_a_longer_run_for_a_shorter_one(cli, over):
    folder = over("--rounds", "1")
    settings = gcr.load_run(folder).settings
    assert timings.past_runs(Path("outputs"), settings).images == 2
    cli("resume", str(folder), "--rounds", "+1")
    history = timings.past_runs(Path("outputs"), settings)
    assert (history.images, history.runs) == (None, 1)


@pytest.mark.parametrize(
    "extensions", [3, [{"after": 1}], [{"after": "x", "rounds": 2}], [{"after": 3, "rounds": 2}]]
)
def test_an_extension_that_cannot_be_read_is_damage(cli, over, extensions):
    folder = over("--rounds", "1")
    told = {**story(folder), "extensions": extensions}
    (folder / "run.json").write_text(json.dumps(told))
    ran = cli("resume", str(folder))
    assert ran.code == 1
    assert "run.json, is damaged" in ran.err


def test_a_date_that_is_none_reaches_the_terminal_without_its_escapes(cli, over):
    folder = over("--rounds", "1")
    cli("resume", str(folder), "--rounds", "+1")
    told = story(folder)
    told["extensions"][0]["when"] = "\x1b[31mX\x07"
    (folder / "run.json").write_text(json.dumps(told))
    ran = cli("show", str(folder))
    assert "extended to 2 rounds at most on X" in ran.out
    assert "\x1b" not in ran.out


def test_patience_and_target_count_from_an_extension():
    rule = stopping.rule({"rounds": 2, "patience": 2}, (Extension(2, 5, 9, 1.5),))
    assert (rule.rounds, rule.images, rule.seconds, rule.since) == (5, 9, 1.5, 2)
    assert rule.patience == 2
