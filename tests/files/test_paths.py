"""Whether there is a file or folder, whatever the path is; and where the user's own folders are."""

from pathlib import Path

import platformdirs
import pytest
from platformdirs import macos, unix, windows

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


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty home, and nothing in the environment that names another folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GCR_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def on(monkeypatch, system, platform):
    monkeypatch.setattr("platform.system", lambda: system)
    for name in ("user_config_path", "user_cache_path"):
        monkeypatch.setattr(
            platformdirs,
            name,
            lambda *args, name=name, **how: getattr(platform(*args, **how), name),
        )


def test_on_linux_they_are_where_xdg_says(home, monkeypatch):
    on(monkeypatch, "Linux", unix.Unix)
    assert paths.config_folder({"XDG_CONFIG_HOME": "/x"}) == Path("/x/gcr")
    assert paths.config_folder({"XDG_CONFIG_HOME": ""}) == home / ".config/gcr"
    assert paths.config_folder({}) == home / ".config/gcr"
    assert paths.cache_folder() == home / ".cache/gcr"
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert paths.cache_folder() == Path("/y/gcr")
    monkeypatch.setenv("GCR_CACHE", "~/elsewhere")
    assert paths.cache_folder() == home / "elsewhere"


def test_on_a_mac_they_are_in_its_library_and_files_in_the_old_place_are_found(home, monkeypatch):
    on(monkeypatch, "Darwin", macos.MacOS)
    assert paths.config_folder({}) == home / "Library/Application Support/gcr"
    assert paths.cache_folder() == home / "Library/Caches/gcr"
    (home / ".config/gcr").mkdir(parents=True)
    assert paths.config_folder({}) == home / ".config/gcr"


def test_on_windows_the_cache_stays_apart_from_the_configuration(home, monkeypatch):
    def folder(name):
        return f"/{name}"

    monkeypatch.setattr(windows, "get_win_folder", folder)
    on(monkeypatch, "Windows", windows.Windows)
    assert str(paths.config_folder({})).replace("\\", "/").endswith("/CSIDL_APPDATA/gcr")
    assert str(paths.cache_folder()).replace("\\", "/").endswith("/CSIDL_LOCAL_APPDATA/gcr")
