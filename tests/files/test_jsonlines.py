import json

import pytest

from gcr.errors import GcrError
from gcr.files.jsonlines import DamagedLineError, JsonLines

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
