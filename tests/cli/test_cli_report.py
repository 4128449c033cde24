"""`gcr report`, and the pages that refine and batch leave, as a user meets them."""

import json
from pathlib import Path

import pytest
from fakes import SCORES, FakeCritic, Interrupting
from folders import make_batch, make_comparison, make_run

import gcr
from gcr.engine.outcome import Unreported
from gcr.errors import GcrError
from gcr.files import atomic


class Failing(FakeCritic):
    """Fails when it judges for the second time."""

    def judge(self, requests, images, sources=()):
        if self.calls:
            raise GcrError("the critic is gone")
        return super().judge(requests, images, sources)


@pytest.fixture
def full(monkeypatch):
    """A disk on which there is no room for pages."""
    written = atomic.write

    def write(path, content):
        if path.name == "index.html":
            raise GcrError(f"cannot write {path}: no room", "free space")
        written(path, content)

    monkeypatch.setattr("gcr.results.report.write", write)


def page_of(folder):
    return (Path(folder) / "index.html").read_text()


def test_it_prints_the_path_of_the_page_and_nothing_else(cli, tmp_path):
    make_run(tmp_path / "run")
    ran = cli("report", "run")
    assert (ran.code, ran.out, ran.err) == (0, "run/index.html\n", "")
    assert "a red circle" in page_of("run")
    ran = cli("report", "run", "-o", "page.html", "--standalone")
    assert (ran.code, ran.out) == (0, "page.html\n")
    assert 'src="data:image/png' in Path("page.html").read_text()


def test_a_folder_without_anything_to_show_is_refused(cli, tmp_path):
    for arguments in ((str(tmp_path),), ("nowhere",)):
        ran = cli("report", *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert "error: no run, batch or comparison in" in ran.err
    make_run(tmp_path / "run")
    ran = cli("report", "run", "-o", str(tmp_path))
    assert ran.code == 2
    assert "is a folder" in ran.err


def test_a_damaged_run_is_said(cli, tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run/rounds.jsonl").write_text("{}\n")
    ran = cli("report", "run")
    assert ran.code == 1
    assert "rounds.jsonl, line 1, is damaged" in ran.err


def put(path, where, value):
    """Change a value in a JSON file, at a place such as `settings.rounds`."""
    told = json.loads(path.read_text())
    *parents, name = (int(key) if key.isdigit() else key for key in where.split("."))
    inside = told
    for key in parents:
        inside = inside[key]
    inside[name] = value
    path.write_text(json.dumps(told) + "\n")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("settings.rounds", "x"),
        ("settings.target", [1]),
        ("settings.patience", 1.5),
        ("settings.min_gain", 10**400),
        ("settings.max_images", {}),
        ("settings.max_seconds", 10**400),
        ("settings.max_seconds", float("nan")),
        ("versions", "x"),
        ("revisions", 3),
        ("settings", []),
    ],
)
def test_what_cannot_be_in_a_run_file_is_damage(cli, tmp_path, where, value):
    """As of any damage in it, what was drawn is shown from the images."""
    put(make_run(tmp_path / "run").path / "run.json", where, value)
    for command in ("show", "report"):
        ran = cli(command, "run")
        assert (ran.code, "warning: run/run.json, is damaged: " in ran.err) == (0, True)
    ran = cli("resume", "run")
    assert (ran.code, "error: run/run.json, is damaged: " in ran.err) == (1, True)


@pytest.mark.parametrize("value", [[], {}, "", 0, False])
@pytest.mark.parametrize("where", ["stop", "comparison"])
def test_an_end_that_there_is_not_is_damage(cli, tmp_path, where, value):
    put(make_run(tmp_path / "run").path / "run.json", where, value)
    for command in ("show", "report"):
        ran = cli(command, "run")
        assert (ran.code, "error: run/run.json, is damaged: " in ran.err) == (1, True)
        assert "hint:" in ran.err


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, [], "x", -1])
@pytest.mark.parametrize("where", ["seconds", "noise"])
def test_seconds_of_a_batch_that_cannot_be_are_damage(cli, tmp_path, where, value):
    path = make_batch(tmp_path / "b", 2) / "summary.jsonl"
    put(path, where, value)
    for command in ("show", "report"):
        ran = cli(command, "b")
        warning = "warning: b/summary.jsonl, line 1, is damaged: "
        assert (ran.code, warning in ran.err) == (0, True)


@pytest.mark.parametrize("where", ["versions", "revisions", "settings"])
def test_what_cannot_be_in_a_batch_file_is_damage(cli, tmp_path, where):
    put(make_batch(tmp_path / "b", 2) / "batch.json", where, ["x"])
    ran = cli("report", "b")
    assert (ran.code, f"batch.json, is damaged: its {where} are no object" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("pairs.0.p", "x"),
        ("pairs.0.adjusted", {}),
        ("pairs.0.difference", float("nan")),
        ("prompts.0.arms.raw.critic", "x"),
        ("prompts.0.arms.raw.seconds", float("inf")),
        ("arms.0.critic_mean", []),
        ("arms.0.seconds", "x"),
        ("arms.0", {"name": "raw", "strategy": "raw", "folder": "raw"}),
        ("budget", float("nan")),
        ("budget", "x"),
        ("versions", "x"),
    ],
)
def test_what_cannot_be_in_a_comparison_file_is_said(cli, tmp_path, where, value):
    put(make_comparison(tmp_path / "c", 2) / "compare.json", where, value)
    ran = cli("report", "c")
    assert (ran.code, ran.out) == (1, "")
    assert "error: c/compare.json is not the record of a comparison: " in ran.err
    assert "hint:  compare again" in ran.err


def test_a_damaged_run_does_not_keep_a_batch_from_being_shown(cli, tmp_path):
    (make_batch(tmp_path / "b", 4) / "runs/p1/rounds.jsonl").write_text("{}\n")
    ran = cli("report", "b")
    assert (ran.code, ran.out) == (0, "b/index.html\n")
    assert "warning: b/runs/p1 has no page: " in ran.err
    assert "runs/p0/index.html" in page_of("b")
    assert "runs/p1/index.html" not in page_of("b")


def test_a_page_of_a_batch_goes_where_it_is_wanted_and_nothing_else_is_written(cli, tmp_path):
    folder = make_batch(tmp_path / "b", 3)
    before = sorted(folder.rglob("*"))
    assert cli("report", "b", "-o", "page.html").code == 0
    assert sorted(folder.rglob("*")) == before
    assert "runs/p0/index.html" not in Path("page.html").read_text()
    assert cli("report", "b").code == 0
    assert cli("report", "b", "-o", "page.html").code == 0
    assert 'href="b/runs/p0/index.html"' in Path("page.html").read_text()


def test_refine_leaves_a_page(cli):
    ran = cli("refine", "a red circle", "--rounds", "2")
    folder = Path(ran.out.strip()).parent
    assert "that was the last round" in page_of(folder)
    assert "index.html shows it" in ran.err


def test_a_run_that_was_interrupted_has_a_page_and_a_new_one_when_it_goes_on(cli):
    cli.models["critic"] = Interrupting(at=2)
    assert cli("refine", "a red circle", "--rounds", "3").code == 130
    (folder,) = Path("outputs").glob("*/*")
    assert "<dd>interrupted</dd>" in page_of(folder)
    cli.models["critic"] = FakeCritic(SCORES)
    assert cli("resume", str(folder)).code == 0
    assert "<dd>that was the last round</dd>" in page_of(folder)


def test_a_run_that_failed_has_a_page_of_what_there_is(cli):
    cli.models["critic"] = Failing(SCORES)
    ran = cli("refine", "a red circle")
    assert (ran.code, ran.out) == (1, "")
    assert "the critic is gone" in ran.err
    (folder,) = Path("outputs").glob("*/*")
    assert "<dd>the run failed</dd>" in page_of(folder)


def test_a_page_that_cannot_be_written_is_said_and_costs_nothing(cli, full):
    ran = cli("refine", "a red circle", "--rounds", "2")
    assert ran.code == 1
    best = Path(ran.out.strip())
    assert best.name == "best.png"
    assert best.is_file()
    assert gcr.load_run(best.parent).stop == "rounds"
    error, hint = ran.err.splitlines()[-2:]
    assert error == f"error: cannot write {best.parent}/index.html: no room"
    assert hint == f"hint:  the run is saved; gcr report {best.parent} tries again"


def test_from_python_the_outcome_is_not_lost_with_the_page(cli, full):
    with pytest.raises(Unreported) as failed:
        gcr.refine("a red circle", rounds=1)
    assert failed.value.outcome.best is not None
    assert failed.value.outcome.best_image.is_file()


def test_a_batch_whose_page_cannot_be_written_has_its_summary(cli, full):
    Path("p.txt").write_text("a red circle\na blue star\n")
    ran = cli("batch", "p.txt", "--rounds", "1", "--into", "b")
    assert (ran.code, ran.out) == (1, "b/summary.jsonl\n")
    assert "no room" in ran.err


def test_pages_of_a_batch_link_to_each_other(cli):
    Path("p.txt").write_text("a red circle\na blue star\n")
    assert cli("batch", "p.txt", "--rounds", "1", "--into", "b").code == 0
    assert 'href="runs/2/index.html"' in page_of("b")
    assert 'href="../../index.html"' in page_of("b/runs/2")
    assert "a blue star" in page_of("b/runs/2")


def test_what_can_be_read_of_a_damaged_run_is_shown(cli):
    folder = Path(cli("refine", "a red circle", "--rounds", "3").out.strip()).parent
    lines = (folder / "rounds.jsonl").read_text().splitlines(keepends=True)
    (folder / "rounds.jsonl").write_text(lines[0] + lines[2])
    (folder / "run.json").write_text("{")
    ran = cli("report", str(folder))
    assert (ran.code, ran.out) == (0, f"{folder}/index.html\n")
    assert f"warning: {folder}/rounds.jsonl, line 2, is damaged: it holds round 2" in ran.err
    assert f"warning: {folder}/run.json, line 1, is damaged" in ran.err
    assert "02-1.png" in page_of(folder)
    assert "a red circle" in page_of(folder)
    ran = cli("resume", str(folder))
    assert ran.code == 1
    assert f"error: {folder}/run.json, line 1, is damaged" in ran.err


def test_a_runs_page_is_there_from_its_start_and_loads_itself_anew_until_its_end(cli):
    pages = []

    class Looking(FakeCritic):
        def judge(self, requests, images, sources=()):
            pages.append(next(Path("outputs").glob("*/*/index.html")).read_text())
            return super().judge(requests, images, sources)

    cli.models["critic"] = Looking(SCORES)
    folder = Path(cli("refine", "a red circle", "--rounds", "2").out.strip()).parent
    refresh = '<meta name="gcr-live"'
    assert ["00-0.png" in page for page in pages] == [False, True]
    assert [refresh in page for page in pages] == [True, True]
    assert "a red circle" in pages[0]
    assert refresh not in (folder / "index.html").read_text()
    cli("report", str(folder))
    assert refresh not in (folder / "index.html").read_text()
