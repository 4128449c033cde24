"""Where a user's configuration and caches are, on each platform."""

from pathlib import Path

import platformdirs
import pytest
from platformdirs import macos, unix, windows

from gcr.files import folders


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
    assert folders.config({"XDG_CONFIG_HOME": "/x"}) == Path("/x/gcr")
    assert folders.config({"XDG_CONFIG_HOME": ""}) == home / ".config/gcr"
    assert folders.config({}) == home / ".config/gcr"
    assert folders.cache() == home / ".cache/gcr"
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert folders.cache() == Path("/y/gcr")
    monkeypatch.setenv("GCR_CACHE", "~/elsewhere")
    assert folders.cache() == home / "elsewhere"


def test_on_a_mac_they_are_in_its_library_and_files_in_the_old_place_are_found(home, monkeypatch):
    on(monkeypatch, "Darwin", macos.MacOS)
    assert folders.config({}) == home / "Library/Application Support/gcr"
    assert folders.cache() == home / "Library/Caches/gcr"
    (home / ".config/gcr").mkdir(parents=True)
    assert folders.config({}) == home / ".config/gcr"


def test_on_windows_the_cache_stays_apart_from_the_configuration(home, monkeypatch):
    def folder(name):
        return f"/{name}"

    monkeypatch.setattr(windows, "get_win_folder", folder)
    on(monkeypatch, "Windows", windows.Windows)
    assert str(folders.config({})).replace("\\", "/").endswith("/CSIDL_APPDATA/gcr")
    assert str(folders.cache()).replace("\\", "/").endswith("/CSIDL_LOCAL_APPDATA/gcr")
