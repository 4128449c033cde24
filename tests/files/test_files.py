"""Files are written whole and through no link, lines are appended whole, folders held by one."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gcr.errors import GcrError, UsageError
from gcr.files import atomic, locks
from gcr.files.jsonlines import DamagedLineError, JsonLines


def left(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_a_link_is_replaced_and_what_it_names_is_not_touched(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "run.json"
    path.symlink_to(victim)
    atomic.write(path, b"new")
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_temporary_names_cannot_be_guessed_or_taken(tmp_path, monkeypatch):
    """Not even a name that was guessed is written through."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".run.json.tmp").symlink_to(victim)
    atomic.write(tmp_path / "run.json", b"new")
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: "0" * 16)
    (tmp_path / f".run.json.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.raises(GcrError, match="File exists"):
        atomic.write(tmp_path / "run.json", b"newer")
    assert victim.read_text() == "mine"
    assert (tmp_path / "run.json").read_bytes() == b"new"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic.append(path, b"x"),
        lambda path: atomic.cut(path, 0),
        atomic.opened,
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_in_place_through_a_link(tmp_path, write, there):
    victim = tmp_path / "victim"
    if there:
        victim.write_text("mine")
    path = tmp_path / "rounds.jsonl"
    path.symlink_to(victim)
    with pytest.raises((GcrError, OSError)):
        write(path)
    assert victim.exists() is there
    assert not there or victim.read_text() == "mine"


def test_a_link_is_called_one(tmp_path):
    (tmp_path / "rounds.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(GcrError, match="it is a link") as caught:
        atomic.append(tmp_path / "rounds.jsonl", b"x")
    assert "remove the link" in caught.value.hint
    (tmp_path / ".claim").symlink_to(tmp_path / "victim")
    with pytest.raises(GcrError, match="it is a link"):
        locks.take(tmp_path)
    assert not (tmp_path / "victim").exists()


def irregular(folder):
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "pipe")
    return [*(folder / name for name in ("pipe", "socket", "folder", "link")), Path("/dev/zero")]


def test_what_is_no_regular_file_is_neither_read_nor_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    for path in irregular(Path()):
        with pytest.raises(OSError):  # noqa: PT011 - of several kinds
            atomic.read(path)


def test_what_is_no_regular_file_is_neither_replaced_nor_added_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for write in (atomic.write, atomic.append):
        with pytest.raises(GcrError, match="not a regular file"):
            write(tmp_path / "pipe", b"x")
    with pytest.raises(GcrError, match="not a regular file"):
        atomic.write(Path("/dev/null"), b"x")
    assert left(tmp_path) == []


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    atomic.write(path, b"old")

    def fail():
        with atomic.replacing(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert left(tmp_path) == []


def test_writers_at_the_same_time_each_write_all_of_it(tmp_path):
    path = tmp_path / "a"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=atomic.write, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert left(tmp_path) == []


def test_what_was_left_by_writers_that_died_is_swept_away(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (f".run.json.{'a' * 16}.tmp", f".00-1.png.{'b' * 16}.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".run.json.tmp").symlink_to(victim)  # as older versions called theirs
    others = [f".index.html.{'c' * 16}.tmp", ".run.json.notes.tmp", "run.json"]
    for name in others:
        (tmp_path / name).write_text("theirs")
    atomic.sweep(tmp_path, r"run\.json|\d+-\d+\.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "victim"])
    assert victim.read_text() == "mine"


def test_a_long_name_has_a_temporary_one(tmp_path):
    path = tmp_path / ("ü" * 127)
    atomic.write(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_link_that_leads_out_is_refused_and_one_inside_is_not(tmp_path):
    batch, elsewhere = tmp_path / "batch", tmp_path / "elsewhere"
    (batch / "runs").mkdir(parents=True)
    elsewhere.mkdir()
    (batch / "runs" / "a").symlink_to(elsewhere)
    (batch / "runs" / "b").symlink_to(batch / "runs")
    (tmp_path / "named").symlink_to(batch)  # whoever names a link means what it names
    for folder in (batch, tmp_path / "named"):
        atomic.check_inside(folder, folder / "runs" / "b" / "x")
        atomic.check_inside(folder, folder / "runs" / "new")
        with pytest.raises(GcrError, match="leads out of"):
            atomic.check_inside(folder, folder / "runs" / "a")


def test_a_folder_that_cannot_be_made_to_last_is_a_message_too(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GcrError, match="No space left on device"):
        atomic.sync_folder(tmp_path)


HINT = "remove the line"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "numbers.jsonl"


def read(log, **options):
    """The numbers that are new, and the messages about damaged lines."""
    numbers = []
    errors = log.read(lambda line, _: numbers.append(int(json.loads(line))), **options)
    return numbers, [error.message for error in errors]


def test_lines_are_read_as_they_are_added(path):
    log, other = JsonLines(path, HINT), JsonLines(path, HINT)
    assert read(log) == ([], [])
    other.append(b"1")
    other.append(b"2")
    assert read(log) == ([1, 2], [])
    other.append(b"3")
    assert read(log) == ([3], [])
    assert read(log) == ([], [])
    assert log.count == 3


def test_a_line_without_its_end_is_passed_over_and_replaced_by_the_next(path):
    path.write_bytes(b"1\n2")
    log = JsonLines(path, HINT)
    assert read(log) == ([1], [])
    assert path.read_bytes() == b"1\n2"  # it may be being written
    log.append(b"3")
    assert path.read_bytes() == b"1\n3\n"
    assert read(log) == ([3], [])


def test_mending_says_which_line_had_no_end(path):
    log = JsonLines(path, HINT)
    assert log.mend() == 0
    path.write_bytes(b"1\n2\n3")
    assert log.mend() == 3
    assert path.read_bytes() == b"1\n2\n"
    assert log.mend() == 0


def test_a_damaged_line_is_an_error_each_time_or_left_out(path):
    path.write_bytes(b"1\nx\n3\n")
    log = JsonLines(path, HINT)
    for _ in range(2):
        with pytest.raises(DamagedLineError, match=r"numbers\.jsonl, line 2, is damaged") as caught:
            read(log)
        assert (caught.value.line, caught.value.hint) == (2, HINT)
    numbers, (message,) = read(JsonLines(path, HINT), tolerant=True)
    assert numbers == [1, 3]
    assert "line 2, is damaged" in message


def test_when_lines_were_removed_all_are_read_again(path):
    path.write_bytes(b"1\n2\n3\n4")
    log, other = JsonLines(path, HINT), JsonLines(path, HINT)
    assert read(log) == ([1, 2, 3], [])
    other.keep({1, 3})
    assert path.read_bytes() == b"1\n3\n"
    assert read(log) == ([1, 3], [])
    assert log.count == 2


def test_nothing_is_appended_through_a_link(path, tmp_path):
    (tmp_path / "theirs").write_bytes(b"1\n")
    path.symlink_to(tmp_path / "theirs")
    with pytest.raises(GcrError, match="it is a link"):
        JsonLines(path, HINT).append(b"2")
    assert (tmp_path / "theirs").read_bytes() == b"1\n"


HOLD = """
import sys, time
from pathlib import Path
from gcr.files import locks
claim = locks.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_is_claimed_once(tmp_path):
    claim = locks.take(tmp_path)
    assert claim is not None
    assert locks.take(tmp_path) is None
    with pytest.raises(UsageError, match="in use by another process"), locks.claimed(tmp_path):
        pass
    claim.release()
    with locks.claimed(tmp_path):
        assert locks.take(tmp_path) is None
    again = locks.take(tmp_path)
    assert again is not None
    again.release()


def test_a_claim_dies_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert locks.take(tmp_path) is None
        process.kill()
        process.wait()
    claim = locks.take(tmp_path)
    assert claim is not None
    claim.release()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(GcrError, match="cannot write"):
        locks.take(tmp_path / "nowhere")
