"""What a wheel holds, and that the tool runs from it: a checkout has everything anyway."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # Without isolation: hatchling is installed, and the test needs no network.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("gcr-*.whl")
    return built


def inside(folder):
    return {path.name for path in (ROOT / folder).iterdir() if path.suffix == ".yaml"}


def test_rubrics_profiles_pages_and_weights_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for suffix in ("css", "js", "html"):
        pages = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "gcr/results/report").rglob(f"*.{suffix}")
        }
        assert pages
        assert pages <= names
    for rubric in inside("prompts"):
        assert f"gcr/prompts/{rubric}" in names
    for profile in inside("gcr/settings/profiles"):
        assert f"gcr/settings/profiles/{profile}" in names
    weights = [name for name in names if name.startswith("gcr/pocket/weights/")]
    assert any(name.endswith("critic/model.safetensors") for name in weights)
    assert any("generator/" in name and name.endswith(".safetensors") for name in weights)
    assert "gcr/py.typed" in names
    assert not any(name.startswith(("tests/", "prompts/")) for name in names)


def test_the_tool_runs_from_the_wheel(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "GCR_CACHE": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    where = "import gcr; print(gcr.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", where],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(str(installed))
    drawn = subprocess.run(
        [sys.executable, "-m", "gcr", "refine", "a red circle", "--rounds", "1", "--images", "1"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert drawn.returncode == 0, drawn.stderr
    assert (elsewhere / drawn.stdout.strip()).is_file()
