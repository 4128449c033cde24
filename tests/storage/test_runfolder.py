import errno
import hashlib
import json
import os
import re
from dataclasses import replace
from importlib import metadata as packages
from pathlib import Path

import pytest
from PIL import Image

from gcr.core import plaintext
from gcr.core.records import (
    AspectScore,
    Attempt,
    Candidate,
    Critique,
    Rejected,
    Request,
    Round,
    StopReason,
    image_name,
)
from gcr.errors import GcrError, UsageError
from gcr.inputs import source
from gcr.storage import runfolder

REQUEST = Request("a red cat", "dogs")
SETTINGS: dict[str, object] = {"seed": 7, "steps": 4, "generator": "pocket"}


@pytest.fixture
def folder(tmp_path):
    return runfolder.RunFolder.create(tmp_path / "outputs", REQUEST, SETTINGS)


def next_round(run, count=2):
    """The run with one more round of `count` attempts, and their images."""
    index = len(run.rounds)
    attempts = tuple(
        Attempt(
            Candidate(f"a red cat, {index}", 7 + index * count + position, "dogs"),
            Critique((AspectScore("Quality", 3.5, "fine"),), 0.83, "good", "more red", "redder"),
            image_name(index, position),
            draw_seconds=0.5,
        )
        for position in range(count)
    )
    images = [Image.new("RGB", (8, 8), (index * 20, position * 20, 9)) for position in range(count)]
    return replace(run, rounds=(*run.rounds, Round(index, attempts))), images


def test_a_saved_run_is_read_back_as_it_was(folder):
    for _ in range(2):
        folder.save(*next_round(folder.run))
    assert runfolder.RunFolder.open(folder.path).run == folder.run
    first = folder.run.rounds[0].attempts[0]
    content = (folder.path / first.image).read_bytes()
    assert hashlib.sha256(content).hexdigest() == first.sha256
    assert Image.open(folder.path / "01-1.png").getpixel((0, 0)) == (20, 20, 9)


def test_a_full_disk_leaves_no_half_round(folder, monkeypatch):
    run, images = next_round(folder.run)
    monkeypatch.setattr(os, "fsync", failing_at(2))
    with pytest.raises(GcrError, match="No space left") as caught:
        folder.save(run, images)
    assert caught.value.hint
    names = {path.name for path in folder.path.iterdir()}  # the other image may have had room
    assert {"run.json"} <= names <= {"00-0.png", "00-1.png", "run.json"}
    assert runfolder.RunFolder.open(folder.path).run.rounds == ()


def failing_at(number):
    calls = []

    def fsync(_handle):
        calls.append(1)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


def test_images_are_on_disk_before_their_line(folder, monkeypatch):
    names = []
    real = os.fsync

    def fsync(handle):
        names.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    folder.save(*next_round(folder.run))
    names = [re.sub(r"\.[0-9a-f]{16}\.tmp$", ".tmp", name) for name in names]
    images = [".00-0.png.tmp", folder.path.name, ".00-1.png.tmp", folder.path.name]
    assert sorted(names[:4]) == sorted(images)
    assert names[0] != names[3] == folder.path.name
    assert names[4:] == ["rounds.jsonl", folder.path.name]


def test_a_torn_last_line_makes_no_round(folder):
    folder.save(*next_round(folder.run))
    first_round = folder.run
    folder.save(*next_round(folder.run))
    both_rounds = folder.run
    lines = folder.path / "rounds.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])

    again = runfolder.RunFolder.open(folder.path)
    assert again.run == first_round
    again.save(*next_round(again.run))
    assert runfolder.RunFolder.open(folder.path).run == both_rounds


def test_a_damaged_line_is_an_error(folder):
    folder.save(*next_round(folder.run))
    lines = folder.path / "rounds.jsonl"
    lines.write_bytes(b"{}\n" + lines.read_bytes())
    with pytest.raises(GcrError, match="line 1"):
        runfolder.RunFolder.open(folder.path)


@pytest.fixture
def edit(tmp_path):
    """The folder of a run that edits an image, and that image."""
    image = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    request = Request("redder", source=source.NAME, source_sha256=source.digest(image))
    return runfolder.RunFolder.create(tmp_path / "outputs", request, SETTINGS, edited=image), image


def test_the_image_to_edit_is_copied_before_anything_is_drawn(edit):
    folder, image = edit
    assert sorted(path.name for path in folder.path.iterdir()) == ["run.json", "source.png"]
    again = runfolder.RunFolder.open(folder.path)
    assert again.run.request == folder.run.request
    assert again.gallery(again.run, "source.png").tobytes() == image.tobytes()
    record = json.loads((folder.path / "run.json").read_text())
    assert record["request"]["source_sha256"] == source.digest(image)


def test_another_image_to_edit_is_refused(edit):
    folder, _ = edit
    other = replace(folder.run.request, source_sha256="0" * 64)
    with pytest.raises(UsageError, match="source_sha256: "):
        folder.check(other, SETTINGS)
    with pytest.raises(UsageError, match=r"source: 'source\.png' → ''"):
        folder.check(Request("redder"), SETTINGS)


def test_the_copy_is_checked_before_a_run_goes_on(edit):
    folder, image = edit
    image.transpose(Image.Transpose.ROTATE_180).save(folder.path / "source.png")
    with pytest.raises(GcrError, match=r"source\.png was changed"):
        runfolder.RunFolder.open(folder.path)
    (folder.path / "source.png").unlink()
    with pytest.raises(GcrError, match=r"source\.png is missing"):
        runfolder.RunFolder.open(folder.path)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "was changed"),
    ],
)
def test_images_are_checked_before_a_run_goes_on(folder, spoil, problem):
    folder.save(*next_round(folder.run))
    spoil(folder.path / "00-1.png")
    with pytest.raises(GcrError, match=f"00-1.png {problem}"):
        runfolder.RunFolder.open(folder.path)


def test_a_folder_without_a_run_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="no run in"):
        runfolder.RunFolder.open(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "x"}', '{"id": 1, "request": {"a": 1}}'])
def test_a_damaged_run_file_is_an_error(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(GcrError, match=r"run\.json"):
        runfolder.RunFolder.open(tmp_path)


def test_other_settings_are_refused_and_named(folder):
    folder.check(REQUEST, {**SETTINGS})
    with pytest.raises(UsageError, match=r"steps: 4 → 5\)"):
        folder.check(REQUEST, {**SETTINGS, "steps": 5})
    with pytest.raises(UsageError, match="prompt: 'a red cat' → 'a dog'"):
        folder.check(Request("a dog", "dogs"), SETTINGS)
    with pytest.raises(UsageError, match=r"keep: \[\] → \['red'\]"):
        folder.check(Request("a red cat", "dogs", ("red",)), SETTINGS)


def test_what_was_kept_and_what_was_turned_down_is_read_back(tmp_path):
    request = Request("a red cat", keep=("red", "cat"))
    folder = runfolder.RunFolder.create(tmp_path, request, {"keep": ("red", "cat")})
    run, images = next_round(folder.run)
    rejected = (Rejected("a dog", "it must hold, word for word: red, cat"),)
    first, *others = run.rounds[0].attempts
    judged = replace(first, critique=replace(first.critique, rejected=rejected))
    folder.save(replace(run, rounds=(Round(0, (judged, *others)),)), images)
    again = runfolder.RunFolder.open(folder.path)
    assert again.run.request == request
    assert again.run.rounds == folder.run.rounds
    assert again.run.attempts[0].critique.rejected == rejected
    again.check(request, {"keep": ("red", "cat")})


def test_the_end_is_recorded_and_the_best_image_copied(folder):
    folder.save(*next_round(folder.run))
    best = folder.run.attempts[1]
    folder.finish(StopReason.PLATEAU, best)
    record = json.loads((folder.path / "run.json").read_text())
    assert record["stop"] == "plateau"
    assert record["best"] == {"image": "00-1.png", "sha256": best.sha256, "score": 0.83}
    assert (folder.path / "best.png").read_bytes() == (folder.path / "00-1.png").read_bytes()


def test_a_run_file_says_what_made_it(folder):
    record = json.loads((folder.path / "run.json").read_text())
    assert record["request"] == {
        "prompt": "a red cat",
        "negative": "dogs",
        "keep": [],
        "source": "",
        "source_sha256": "",
        "checklist": [],
    }
    assert record["settings"] == SETTINGS
    assert record["versions"]["torch"] == packages.version("torch")
    assert record["stop"] is None


def test_the_same_prompt_in_the_same_second_gets_two_folders(tmp_path):
    folders = [runfolder.RunFolder.create(tmp_path, REQUEST, {}) for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    assert len({folder.run.id for folder in folders}) == 3


def test_a_folder_is_named_by_day_time_slug_and_hash(folder):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", folder.path.parent.name)
    assert re.fullmatch(r"\d{6}-a-red-cat-[0-9a-f]{4}", folder.path.name)


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("A red cat!", "a-red-cat"),
        ("../../etc/passwd", "etc-passwd"),
        ("Café & Naïve", "cafe-naive"),
        ("赤い円", ""),
        ("x" * 99, "x" * 40),
        (
            "two red circles and a blue star above a green square",
            "two-red-circles-and-a-blue-star-above-a",
        ),
        ("a\x00b\nc", "a-b-c"),
    ],
)
def test_slugs_hold_forty_harmless_characters(prompt, slug):
    assert plaintext.slug(prompt) == slug


def test_an_unwritable_output_is_found_before_any_model_is_loaded(tmp_path):
    runfolder.check_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to") as caught:
        runfolder.check_writable(tmp_path / "file" / "outputs")
    assert "--output" in caught.value.hint
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]


# What was damaged, or comes from elsewhere


def three(folder):
    """The lines of a run of three rounds."""
    for _ in range(3):
        folder.save(*next_round(folder.run))
    return (folder.path / "rounds.jsonl").read_text().splitlines(keepends=True)


def state(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def changed(line, **values):
    """A line whose first attempt has other values, or in `critique` other values of it."""
    record = json.loads(line)
    first = record["attempts"][0]
    first["critique"] |= values.pop("critique", {})
    first["candidate"] |= values.pop("candidate", {})
    first |= values
    return json.dumps(record) + "\n"


DAMAGE = {
    "missing": (lambda line: "", 2, "it holds round 2, where round 1 belongs"),
    "twice": (lambda line: line + line, 3, "it holds round 1, where round 2 belongs"),
    "garbage": (lambda line: "{]\n", 2, "Invalid JSON"),
    "zeros": (lambda line: "\0" * 30 + "\n", 2, "Invalid JSON"),
    "deep": (lambda line: "[" * 50_000 + "\n", 2, "Invalid JSON: recursion limit"),
    "path": (
        lambda line: changed(line, image="../../x.png"),
        *(2, r"names the image '\.\./\.\./x\.png', which has to be 01-0\.png"),
    ),
    "other": (lambda line: changed(line, image="00-0.png"), 2, "names the image '00-0.png'"),
    "digest": (lambda line: changed(line, sha256=""), 2, "it has no sha256 of 01-0.png"),
    "score": (
        lambda line: changed(line, critique={"overall": 7}),
        2,
        r"overall should be .* 1, not 7",
    ),
    "nan": (
        lambda line: changed(line, critique={"overall": float("nan")}),
        2,
        "overall should be a finite",
    ),
    "aspect": (
        lambda line: changed(line, critique={"aspects": [{"aspect": "Quality", "score": 40}]}),
        *(2, r"aspects\.0\.score should be .* 4, not 40"),
    ),
    "needs": (
        lambda line: changed(line, critique={"requirements": [{"question": "?", "needs": [4]}]}),
        *(2, "a requirement that needs one that is not there"),
    ),
    "start": (
        lambda line: changed(line, candidate={"start": "/etc/x.png"}),
        2,
        "is no earlier image",
    ),
    "forever": (
        lambda line: changed(line, draw_seconds=1e400),
        2,
        "draw_seconds should be a finite",
    ),
    "wording": (
        lambda line: (
            json.dumps({**json.loads(line), "wording": {"prompt": "x", "seconds": 1e400}}) + "\n"
        ),
        *(2, r"wording\.seconds should be a finite"),
    ),
    "empty": (lambda line: '{"index": 1, "attempts": []}\n', 2, "its round has no images"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_whose_rounds_are_damaged_is_not_gone_on_with(folder, kind, caplog):
    """The message names file and line, nothing is written, and the rest can be looked at."""
    lines = three(folder)
    spoil, number, problem = DAMAGE[kind]
    path = folder.path / "rounds.jsonl"
    path.write_text(lines[0] + spoil(lines[1]) + lines[2])
    before = state(folder.path)
    message = f"rounds.jsonl, line {number}, is damaged: .*{problem}"
    with pytest.raises(GcrError, match=message) as caught:
        runfolder.RunFolder.open(folder.path)
    assert "put the file back as it was" in caught.value.hint
    assert "alone this run goes on from there" in caught.value.hint
    assert state(folder.path) == before
    read = [round_.index for round_ in runfolder.load_run(folder.path).rounds]
    assert read == ([0, 1, 2] if kind == "twice" else [0, 2])
    assert re.search(message, caplog.text)


def test_what_the_message_says_can_be_done_helps(folder):
    lines = three(folder)
    path = folder.path / "rounds.jsonl"
    path.write_text(lines[0] + lines[2])
    with pytest.raises(GcrError) as caught:
        runfolder.RunFolder.open(folder.path)
    assert "with its first line alone" in caught.value.hint
    path.write_text(lines[0])
    again = runfolder.RunFolder.open(folder.path)
    again.save(*next_round(again.run))
    assert [round_.index for round_ in runfolder.RunFolder.open(folder.path).run.rounds] == [0, 1]


def test_a_line_without_its_end_is_told_of(folder, caplog):
    lines = three(folder)
    path = folder.path / "rounds.jsonl"
    path.write_text("".join(lines)[:-9])
    assert len(runfolder.load_run(folder.path).rounds) == 2
    assert caplog.text == ""  # it may be being written
    assert len(runfolder.RunFolder.open(folder.path).run.rounds) == 2
    assert f"{path}, line 3, has no end: its round is drawn again" in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{\n  "id": "x",\n  oops', r", line 3, is damaged: Expecting property name"),
        ("", ", line 1, is damaged: Expecting value"),
        ("[" * 50_000, ", line 1, is damaged: more than 128 lists and objects inside each other"),
        ('{"id": "x"}', " is damaged: it has no 'request'"),
        ('{"id": "x", "request": {"prompt": 7}, "settings": {}}', "prompt should be text, not 7"),
        (
            '{"id": "x", "request": {"prompt": "a"}, "settings": {}, "branches": [{"after": 1}]}',
            r"branches\.0\.image is missing",
        ),
        ('{"id": "x", "request": {"prompt": "a", "new": 7}, "settings": {}}', "knows no 'new'"),
        ('{"id": "x", "request": {"prompt": "a", "source": "/x"}, "settings": {}}', "called '/x'"),
        ('{"id": "x", "request": {"prompt": "a"}, "settings": []}', "settings are no object"),
    ],
)
def test_a_damaged_run_file_is_named_and_what_was_drawn_is_shown(folder, content, problem, caplog):
    three(folder)
    (folder.path / "run.json").write_text(content)
    with pytest.raises(GcrError, match=r"run\.json.*" + problem) as caught:
        runfolder.RunFolder.open(folder.path)
    assert f"gcr report {folder.path} shows what was drawn" in caught.value.hint
    run = runfolder.load_run(folder.path)
    assert (run.request, run.settings) == (folder.run.request, folder.run.settings)
    assert len(run.rounds) == 3
    assert "request and settings are those in 00-0.png" in caplog.text


def test_a_folder_from_elsewhere_has_nothing_written_through_its_links(folder, tmp_path):
    """Each file that a run writes, as a link to one of the user's own."""
    folder.save(*next_round(folder.run))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    names = [
        "best.png",
        "01-0.png",
        "01-1.png",
        ".run.json.tmp",
        ".best.png.tmp",
        ".claim",
        ".turn",
    ]
    for name in names:
        (folder.path / name).symlink_to(victim)
    again = runfolder.RunFolder.open(folder.path)
    again.save(*next_round(again.run))
    again.finish(StopReason.ROUNDS, again.run.attempts[0])
    assert victim.read_text() == "mine"
    lines = folder.path / "rounds.jsonl"
    content = lines.read_bytes()
    lines.rename(tmp_path / "theirs")
    lines.symlink_to(tmp_path / "theirs")
    with pytest.raises(GcrError, match="it is a link"):
        again.save(*next_round(again.run))
    assert (tmp_path / "theirs").read_bytes() == content


@pytest.mark.parametrize("name", ["run.json", "rounds.jsonl", "00-0.png"])
def test_a_pipe_in_a_folder_is_not_waited_for(folder, name):
    folder.save(*next_round(folder.run))
    (folder.path / name).unlink()
    os.mkfifo(folder.path / name)
    with pytest.raises((GcrError, OSError), match="not a regular file"):
        runfolder.RunFolder.open(folder.path)
