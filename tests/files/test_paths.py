"""Whether there is a file or folder, whatever the path is."""

from pathlib import Path

import pytest

from gcr.files import paths


@pytest.mark.parametrize("name", ["no", "x" * 300, "ü" * 200, "~nosuch/x", "a\0b", "file/x"])
def test_there_is_nothing_under_a_name_that_cannot_be(tmp_path, name):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    assert not any(check(path) for check in (paths.exists, paths.is_file, paths.is_folder))
    assert paths.expanded("~nosuch/x") == Path("~nosuch/x")


def test_a_file_and_a_folder_are_there(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert paths.is_file(file)
    assert paths.exists(str(file))
    assert not paths.is_folder(file)
    assert paths.is_folder(tmp_path)
    assert paths.expanded("~") == Path.home()
