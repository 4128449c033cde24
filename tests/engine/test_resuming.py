"""What a run goes on with, wherever and whatever was measured since; and which error is shown."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from fakes import FakeGenerator

import gcr
from gcr.device import memory
from gcr.errors import GcrError, UsageError
from gcr.settings.measurements import SPEEDS, SPREADS, Speed, device_key, spread_key
from gcr.storage import runfolder

SHORT = ("--rounds", "2", "--patience", "9")


def only_folder():
    (path,) = Path("outputs").glob("*/*")
    return path


class Stopping(FakeGenerator):
    """Is interrupted in its second round."""

    def draw(self, candidates, starts=(), sources=()):
        if self.calls:
            raise KeyboardInterrupt
        return super().draw(candidates, starts, sources)


@pytest.fixture
def stopped(cli):
    """Begin a run with options that stops after a round; its folder."""

    def begin(*options):
        cli.models["generator"] = Stopping()
        assert cli("refine", "a red circle", *SHORT, *options).code == 130
        cli.models["generator"] = FakeGenerator()
        return only_folder()

    return begin


def measure(settings):
    """What gcr calibrate and gcr bench would find and keep."""
    key = spread_key(settings["critic"], settings["rubric"], settings["score"])
    SPREADS.keep(os.environ, {key: 0.05})
    size = (settings["width"], settings["height"])
    for phase, model in (("draw", settings["generator"]), ("judge", settings["critic"])):
        of = device_key(phase, model, memory.device_name(), size)
        SPEEDS.keep(os.environ, {of: Speed(7, 0.5, 1, 1)})


def test_what_was_measured_since_keeps_no_run_from_being_gone_on_with(stopped):
    folder = stopped()
    settings = gcr.load_run(folder).settings
    measure(settings)
    outcome = gcr.refine("a red circle", resume=folder, rounds=2, patience=9)
    assert len(outcome.run.rounds) == 2
    assert outcome.run.settings == settings
    assert settings["spread"] is None
    with pytest.raises(UsageError, match=r"other settings \(steps"):
        gcr.refine("a red circle", resume=folder, rounds=2, patience=9, steps=3)


def test_nor_a_comparison(cli):
    Path("p.txt").write_text("a red circle\ntwo blue stars\n")
    command = ("compare", "p.txt", "--into", "c", "--max-images", "2")
    assert (
        cli(
            *command, "--arm", "raw", "--arm", "best-of-n", "--evaluator", "command:sed s,.*,1,"
        ).code
        == 0
    )
    settings = json.loads(Path("c/arms.json").read_text())["settings"]
    measure(settings)
    ran = cli(*command, "--arm", "refine", "--evaluator", "command:sed s,.*,1,")
    assert ran.code == 0, ran.err
    for name in ("arms.json", "refine/batch.json"):
        assert json.loads(Path("c", name).read_text())["settings"]["spread"] is None


def test_a_command_line_in_a_folder_is_not_run_unless_it_is_given(cli):
    Path("p.txt").write_text("a red circle\n")
    line = "command:touch ran; sed s,.*,1,"
    command = ("compare", "p.txt", "--into", "c", "--max-images", "2", "--arm", "raw")
    assert cli(*command, "--arm", "refine", "--evaluator", line).code == 0
    Path("ran").unlink()
    Path("c/scores.jsonl").unlink()
    ran = cli("resume", "c")
    assert ran.code == 2
    assert "error: c measures with a command line: touch ran; sed s,.*,1," in ran.err
    assert "gcr resume c --evaluator 'command:touch ran; sed s,.*,1,'" in ran.err
    assert not Path("ran").exists()
    assert cli("resume", "c", "--evaluator", line).code == 0
    assert cli("resume", "c/raw", "--evaluator", line).code == 2
    assert Path("ran").exists()


@pytest.fixture
def rubric(cli):
    """A rubric of the user's own, in the working folder."""
    ours = Path(gcr.__file__).parent.parent / "prompts" / "text-to-image.yaml"
    shutil.copy(ours, "mine.yaml")
    return "mine.yaml"


def test_a_run_is_gone_on_with_from_another_folder(cli, stopped, rubric, monkeypatch):
    Path("pipe").mkdir()
    Path("judge").mkdir()
    folder = stopped("--rubric", rubric, "-m", "pipe", "--critic", "./judge").absolute()
    settings = gcr.load_run(folder).settings
    names = [str(Path(name).absolute()) for name in ("pipe", "judge", "mine.yaml")]
    assert [settings[key] for key in ("generator", "critic", "rubric")] == names
    text = json.loads((folder / "run.json").read_text())
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    ran = cli("resume", str(folder))
    assert ran.code == 0, ran.err
    assert len(gcr.load_run(folder).rounds) == 2
    assert text["settings"]["rubric_sha256"] == settings["rubric_sha256"]


def test_a_folder_that_names_files_from_its_working_folder_is_gone_on_with_there(stopped, rubric):
    """As older versions did."""
    folder = stopped("--rubric", rubric)
    path = folder / "run.json"
    record = json.loads(path.read_text())
    record["settings"]["rubric"] = rubric
    path.write_text(json.dumps(record))
    outcome = gcr.refine("a red circle", resume=folder, rounds=2, patience=9, rubric=rubric)
    assert len(outcome.run.rounds) == 2


def test_images_say_nothing_of_folders_on_this_machine(stopped, rubric):
    folder = stopped("--rubric", rubric)
    texts = runfolder.metadata.read(folder / "00-0.png")
    assert json.loads(texts["gcr"])["settings"]["rubric"] == "mine.yaml"
    assert str(Path.cwd()) not in "".join(texts.values())


def test_a_page_that_cannot_be_written_leaves_an_interruption_one(cli):
    class Blocking(Stopping):
        def draw(self, candidates, starts=(), sources=()):
            page = only_folder() / "index.html"
            if page.is_file():
                page.unlink()
            page.mkdir(exist_ok=True)
            return super().draw(candidates, starts, sources)

    cli.models["generator"] = Blocking()
    ran = cli("refine", "a red circle", *SHORT)
    assert ran.code == 130
    assert ran.out == f"{only_folder()}/best.png\n"
    assert f"warning: {only_folder()}/index.html is a folder" in ran.err


def failing(monkeypatch, fails):
    """Have the disk be full for the files that `fails` names."""
    sync = os.fsync

    def fsync(handle):
        name = Path(f"/proc/self/fd/{handle}").resolve().name
        if fails(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("first", [".00-0.png", "rounds.jsonl"])
def test_the_first_error_is_shown_and_later_ones_are_warnings(cli, monkeypatch, first):
    full = []

    def fails(name):
        if name.startswith(first):
            full.append(name)
        return bool(full)

    failing(monkeypatch, fails)
    ran = cli("refine", "a red circle", *SHORT)
    folder = only_folder()
    assert ran.code == 1
    error, hint = ran.err.splitlines()[-2:]
    name = first.removeprefix(".")
    assert error == f"error: cannot write {folder}/{name}: No space left on device"
    assert "free space" in hint
    assert f"warning: cannot write {folder}/run.json: No space left on device" in ran.err
    assert f"warning: cannot write {folder}/index.html: No space left on device" in ran.err
    assert "saved" not in ran.err


def test_a_failure_that_has_nothing_to_do_with_the_disk_is_not_hidden_by_it(cli, monkeypatch):
    class Failing(FakeGenerator):
        def draw(self, *_):
            failing(monkeypatch, lambda _: True)
            raise GcrError("no stars tonight", "wait for clouds to pass")

    cli.models["generator"] = Failing()
    ran = cli("refine", "a red circle", *SHORT)
    assert ran.code == 1
    assert ran.err.splitlines()[-2] == "error: no stars tonight"
    assert "warning: cannot write" in ran.err
