"""gcr list, gcr show and the gallery: what there is, and nothing that is damaged left out."""

import io
import json
import shutil
from pathlib import Path

import pytest
from folders import make_batch, make_comparison, make_run
from rich.console import Console

from gcr.results import listing
from gcr.results.listing import Entry
from gcr.ui import terminal


@pytest.fixture
def place(cli, tmp_path):
    """An output folder with a run, a batch and a comparison, each of another time."""
    output = tmp_path / "outputs"
    run = make_run(output / "2026-11-20" / "101112-a-red-circle-1a2b", "a red circle")
    began(run.path / "run.json", "2026-11-20T10:11:12.5+01:00")
    batch = make_batch(output / "shapes")
    began(batch / "batch.json", "2026-11-22T09:00:00+01:00")
    make_comparison(output / "2026-11-21" / "210000-shapes-3c4d")
    return output


def began(path, moment):
    story = json.loads(path.read_text())
    path.write_text(json.dumps({**story, "started": moment}))


def listed(cli, *arguments):
    ran = cli("list", "--json", *arguments)
    assert ran.code == 0
    return json.loads(ran.out)


def test_newest_first_with_what_is_to_be_known_of_each(cli, place):
    batch, comparison, run = listed(cli)
    assert [batch["kind"], comparison["kind"], run["kind"]] == ["batch", "comparison", "run"]
    assert (run["prompt"], run["score"], run["images"]) == ("a red circle", 0.8, 4)
    assert (run["stop"], run["started"]) == ("plateau", "2026-11-20T10:11:12")
    assert Path(run["image"]) == Path("outputs/2026-11-20/101112-a-red-circle-1a2b/01-0.png")
    assert (batch["files"], batch["done"], batch["total"], batch["failed"]) == (
        ["shapes.txt"],
        5,
        6,
        1,
    )
    scores = [json.loads(x)["best"] for x in (place / "shapes" / "summary.jsonl").open()]
    kept = [score for score in scores if score is not None]
    assert batch["score"] == pytest.approx(sum(kept) / len(kept))
    assert (comparison["score"], comparison["total"], comparison["failed"]) == (0.63, 6, 1)
    assert not any(entry["problem"] for entry in (batch, comparison, run))


def test_runs_inside_of_a_batch_or_comparison_belong_to_it(cli, place):
    assert len(listed(cli)) == 3


def test_filters(cli, place):
    assert [entry["kind"] for entry in listed(cli, "RED", "circle")] == ["run"]
    assert [entry["kind"] for entry in listed(cli, "shapes.txt")] == ["batch", "comparison"]
    assert [entry["kind"] for entry in listed(cli, "--min-score", "0.7")] == ["run"]
    assert [entry["kind"] for entry in listed(cli, "--limit", "1")] == ["batch"]
    assert listed(cli, "nothing-like-it") == []
    ran = cli("list", "--limit", "1")
    assert "2 older ones: --limit 3" in ran.err
    assert "nothing fits; there are 3 in all" in cli("list", "nothing-like-it").err


def damage(place):
    """Four folders with something wrong with each; what is wrong, by name."""
    run = place / "2026-11-20" / "101112-a-red-circle-1a2b"
    copies = {name: run.parent / f"10111{i}-{name}-0000" for i, name in enumerate("abcd")}
    for copy in copies.values():
        shutil.copytree(run, copy)
    (copies["a"] / "run.json").write_text("{")
    lines = (copies["b"] / "rounds.jsonl").read_text().splitlines(keepends=True)
    (copies["b"] / "rounds.jsonl").write_text("{}\n" + "".join(lines[1:]))
    (copies["c"] / "00-1.png").unlink()
    for file in copies["d"].iterdir():
        file.unlink()
    return {
        copies["a"].name: "is damaged",
        copies["b"].name: "line 1, is damaged",
        copies["c"].name: "00-1.png is missing",
        copies["d"].name: "has no run.json",
    }


def test_damaged_folders_are_named_whatever_is_asked_for(cli, place):
    wrong = damage(place)
    with (place / "shapes" / "summary.jsonl").open("a") as file:
        file.write("{}\n")
    wrong["shapes"] = "line 6, is damaged"
    comparison = place / "2026-11-21" / "210000-shapes-3c4d"
    (comparison / "compare.json").write_text("[]")
    wrong[comparison.name] = "is damaged"
    for arguments in ((), ("--limit", "1"), ("--min-score", "1"), ("no such word",)):
        problems = {
            Path(entry["folder"]).name: entry["problem"]
            for entry in listed(cli, *arguments)
            if entry["problem"]
        }
        assert problems.keys() == wrong.keys()
        assert [name for name in wrong if wrong[name] not in problems[name]] == []
    told = {Path(entry["folder"]).name: entry for entry in listed(cli)}
    assert told["101110-a-0000"]["prompt"] == "a red circle"  # as its images say
    assert told["101113-d-0000"]["started"] == "2026-11-20T10:11:13"
    assert (told["shapes"]["done"], told["shapes"]["total"]) == (5, 6)


def test_folders_of_others_and_links_are_left_alone(cli, place):
    (place / "mine").mkdir()
    (place / "mine" / "notes.txt").write_text("x")
    (place / "again").symlink_to(place)
    assert len(listed(cli)) == 3


def test_a_folder_that_is_not_there_is_wrong_usage(cli, tmp_path):
    ran = cli("list")
    assert (ran.code, ran.out) == (2, "")
    assert "error: there is no folder outputs" in ran.err
    (tmp_path / "outputs").mkdir()
    ran = cli("list")
    assert (ran.code, ran.out) == (0, "")


def test_a_pipe_gets_a_line_for_each(cli, place):
    lines = cli("list").out.splitlines()
    cells = lines[2].split("\t")
    assert cells == [
        "2026-11-20T10:11:12",
        "run",
        "0.80",
        "4",
        "the score stopped rising",
        "outputs/2026-11-20/101112-a-red-circle-1a2b",
        "a red circle",
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_prompt_is_cut_short(tmp_path, is_terminal):
    entry = Entry("run", tmp_path / "run", prompt="a red circle " * 4000)
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=100)
    terminal.entries([entry], console)
    assert "a red circle a red" in console.file.getvalue()
    assert "…" in console.file.getvalue()
    assert len(console.file.getvalue()) < 1500
    assert entry.as_json()["prompt"] == entry.prompt


def test_a_terminal_gets_blocks_with_links_and_nothing_that_acts(tmp_path):
    hostile = "a \x1b]0;x\x07 red\ncircle\u202e"
    entry = Entry("run", tmp_path / "run", "2026-11-20T10:11:12", hostile, score=0.5)
    console = Console(force_terminal=True, width=40, legacy_windows=False)
    with console.capture() as capture:
        terminal.entries([entry], console)
    text = capture.get()
    assert f"file://{tmp_path}/run" in text  # OSC 8
    assert "a  red circle" in text
    assert not {"\x07", "\u202e"} & set(text)


def test_the_gallery_shows_all_and_links_to_their_pages(cli, place):
    damage(place)
    (place / "shapes" / "index.html").write_text("")
    page = Path(cli("list", "--page").out.strip())
    assert page == Path("outputs/index.html")
    html = page.read_text()
    assert html.count('<li class="card"') == 7
    for words in (
        'href="shapes/index.html"',
        'href="2026-11-20/101112-a-red-circle-1a2b/01-0.png"',
        "has no run.json",
        'src="2026-11-20/101112-a-red-circle-1a2b/01-0.png"',
    ):
        assert words in html
    assert cli("list", "--page", "--json").code == 2
    page.write_text("<h1>my own</h1>")
    ran = cli("list", "--page")
    assert (ran.code, ran.out) == (2, "")
    assert "index.html was not written by gcr" in ran.err
    assert page.read_text() == "<h1>my own</h1>"
    page.unlink()
    assert Path(cli("list", "--page", "shapes.txt").out.strip()).read_text().count("<li class") == 6


@pytest.mark.parametrize("name", ["outputs/2026-11-20/101112-a-red-circle-1a2b", "red-circle", ""])
def test_a_run_is_shown_as_the_terminal_showed_it(cli, place, name):
    ran = cli("show", *filter(None, [name]))
    assert (ran.code, ran.err) == (0, "")
    for words in (
        "a red circle\n",
        "round 0",
        "round 1",
        "a circle in the middle",
        "◂ best so far",
        "unscored: unreadable reply",
        "stopped: the score stopped rising · 2 rounds, 4 images",
        "best: 0.80 in round 1, 01-0.png  (the request as it is: 0.30)",
    ):
        assert words in ran.out


def test_showing_again_is_what_refine_showed(cli):
    before = cli("refine", "a red circle", "--rounds", "2")
    again = cli("show")
    assert again.out == before.err
    told = json.loads(cli("refine", "a red circle", "--rounds", "2", "--json").out)
    for key in ("seconds", "loading_seconds"):
        del told[key]
    assert json.loads(cli("show", told["run_id"].partition("-")[2], "--json").out) == told


@pytest.mark.parametrize("junk", ["\x1b[31mX", [], {}, -1, float("nan"), 10**400])
def test_a_batch_is_shown_whatever_a_line_of_its_summary_holds(cli, place, junk):
    path = place / "shapes" / "summary.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    for value in bent(json.loads(first), junk):
        path.write_text("".join((json.dumps(value), "\n", *others)))
        ran = cli("show", "outputs/shapes")
        assert ran.code == 0
        assert "of 6 prompts done" in ran.out
        assert "\x1b" not in ran.out + ran.err


def test_a_stop_that_is_no_reason_is_damage(cli, place):
    path = place / "shapes" / "summary.jsonl"
    path.write_text(path.read_text().replace('"plateau"', '"\\u001b[31mX"'))
    ran = cli("show", "outputs/shapes")
    assert "X" not in ran.out
    assert "line 1, is damaged" in ran.err


def test_a_batch_is_shown_by_its_prompts(cli, place):
    ran = cli("show", "outputs/shapes")
    assert "1/6 p0: 0.20 → 0.30" in ran.out
    assert "failed: no stars" in ran.out
    assert "5 of 6 prompts done" in ran.out
    # Its name is also a part of the comparison's.
    assert cli("show", "shapes").out == ran.out
    told = json.loads(cli("show", "outputs/shapes", "--json").out)
    assert [result["id"] for result in told] == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-such-run", "no run 'no-such-run' below outputs"),
        ("shape", "'shape' could be 2 folders"),
        ("210000", "210000-shapes-3c4d is a comparison"),
    ],
)
def test_what_cannot_be_shown_is_wrong_usage(cli, place, name, says):
    ran = cli("show", name)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_deep_folders_are_found_and_deeper_ones_are_not(tmp_path):
    make_run(tmp_path / "1" / "2" / "3" / "run")
    make_run(tmp_path / "1" / "2" / "3" / "4" / "run")
    assert [entry.folder.name for entry in listing.entries(tmp_path)] == ["run"]


def test_nothing_of_the_machine_is_asked_for_a_list(cli, place, monkeypatch):
    """Such as the memory of a GPU, for `auto`, or what model a server has."""
    Path("gcr.yaml").write_text("profile: auto\ncritic: http://127.0.0.1:9\noutput: outputs\n")
    monkeypatch.setattr("gcr.engine.machine.ThisMachine.free_gib", lambda _: 1 / 0)
    assert len(listed(cli)) == 3
    assert cli("show", "red-circle").code == 0
    ran = cli("list", "-o", "elsewhere")
    assert (ran.code, "no folder elsewhere" in ran.err) == (2, True)


def bent(value, junk):
    """A JSON value with one of its parts replaced by junk, for each of its parts."""
    yield junk
    if isinstance(value, dict):
        for name, part in value.items():
            yield from ({**value, name: other} for other in bent(part, junk))
    elif isinstance(value, list) and value:
        yield from ([other, *value[1:]] for other in bent(value[0], junk))


@pytest.mark.parametrize("junk", ["\x1b[31mX", [[]], {}, None, -1, True, float("nan"), 10**400])
@pytest.mark.parametrize(
    "name",
    [
        "2026-11-21/210000-shapes-3c4d/compare.json",
        "shapes/batch.json",
        "shapes/summary.jsonl",
        "2026-11-20/101112-a-red-circle-1a2b/run.json",
        "2026-11-20/101112-a-red-circle-1a2b/rounds.jsonl",
    ],
)
def test_no_record_of_one_folder_keeps_the_others_from_being_listed(place, name, junk):
    first, *others = (place / name).read_text().splitlines(keepends=name.endswith("l"))
    text = first if name.endswith("l") else "\n".join((first, *others))
    for value in bent(json.loads(text), junk):
        rest = others if name.endswith("l") else ()
        (place / name).write_text("".join((json.dumps(value), "\n", *rest)))
        entries = listing.entries(place)
        assert len(entries) == 3
        fit = listing.chosen(entries, ["shapes"], 0.1)
        for is_terminal in (True, False):
            console = Console(force_terminal=is_terminal, file=io.StringIO())
            terminal.entries(fit, console)
            assert "\x1b[31mX" not in console.file.getvalue()
        json.dumps([entry.as_json() for entry in fit])
