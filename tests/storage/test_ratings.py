"""Ratings of images: added to, taken back, shown, and no part of the run itself."""

import json

import pytest
from folders import SETTINGS, fill

import gcr
from gcr.core.records import Request, StopReason
from gcr.errors import GcrError, UsageError
from gcr.results import listing
from gcr.results.report import report
from gcr.storage import ratings
from gcr.storage.runfolder import RunFolder


@pytest.fixture
def folder(tmp_path):
    """A run that is over, with its page."""
    made = RunFolder.create(tmp_path / "outputs", Request("a red circle"), SETTINGS)
    fill(made, [[0.4, 0.5], [0.9, 0.3]])
    made.finish(StopReason.ROUNDS, made.run.attempts[2])
    report(made.path)
    return made.path


def test_lines_are_added_and_the_last_one_of_an_image_counts(folder):
    for image, value in (("00-0.png", 3), ("00-1", "discard"), ("00-0.png", "5")):
        gcr.rate(folder, image, value)
    lines = (folder / ratings.NAME).read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines] == [3, "discard", 5]
    read = ratings.read(folder)
    assert {image: (str(r), r.stars) for image, r in read.items()} == {
        "00-0.png": ("5 of 5", 5),
        "00-1.png": ("discard", 1),
    }
    assert read["00-0.png"].sha256 == gcr.load_run(folder).attempts[0].sha256
    gcr.rate(folder, "00-0.png", None)
    assert list(ratings.read(folder)) == ["00-1.png"]


def test_the_best_image_is_rated_by_the_name_of_its_copy(folder):
    assert gcr.rate(folder, "best.png", 4).image == "01-0.png"


@pytest.mark.parametrize("value", ["6", "0", "4.5", "good", "", "true"])
def test_what_is_no_rating_is_refused(folder, value):
    with pytest.raises(UsageError, match="is no rating"):
        gcr.rate(folder, "00-0.png", value)
    assert not (folder / ratings.NAME).exists()


def test_an_image_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(UsageError, match=r"has no image '09-0\.png'") as refused:
        gcr.rate(folder, "09-0.png", 4)
    assert "4 images: 00-0.png" in refused.value.hint


@pytest.mark.parametrize(
    "line",
    [
        '{"image": "00-0.png", "value": 9}',
        '{"image": "00-0.png", "value": true}',
        '{"image": null, "value": 3}',
        "[]",
        '{"value": 3}',
    ],
)
def test_a_damaged_line_is_named(folder, line):
    (folder / ratings.NAME).write_text(f"{line}\n")
    with pytest.raises(GcrError, match="line 1"):
        ratings.read(folder)
    (entry,) = listing.entries(folder.parents[1])
    assert "line 1" in entry.problem


def test_where_there_is_no_run_that_is_said(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    cli("rate", "empty", "00-0", "4").assert_refused(2, "there is no run in empty")


def test_pages_and_lists_show_them(folder, cli):
    before = (folder / "run.json").read_bytes()
    ran = cli("rate", str(folder), "00-1.png", "2")
    assert (ran.code, ran.out) == (0, "")
    assert "00-1.png: 2 of 5" in ran.err
    assert "you: 2 of 5" in (folder / "index.html").read_text()
    assert f"gcr rate {folder.name} 00-1.png" in (folder / "index.html").read_text()
    assert "you: 2 of 5" in cli("show", str(folder)).out
    (entry,) = listing.entries(folder.parents[1])
    assert (entry.stars, entry.as_json()["stars"]) == (2, 2)
    assert (folder / "run.json").read_bytes() == before
