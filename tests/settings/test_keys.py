"""Which servers get an API key: those that the user named, and no others."""

import json
import sys

import pytest
import yaml

from gcr.__main__ import main
from gcr.diagnose import doctor
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.settings.resolving import recalled, resolve
from gcr.settings.schema import Settings

KEY = "a-very-secret-key"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """An empty working folder and configuration, and a key."""
    monkeypatch.chdir(tmp_path)
    for name in ("GCR_CRITIC", "GCR_OFFLINE", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GCR_API_KEY", KEY)
    return tmp_path


def profile(path, critic):
    content = {"description": "theirs", "generator": "pocket:generator", "critic": critic}
    sizes = {"width": 64, "height": 64, "vram_gb": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**content, **sizes, "rubric": "text-to-image"}))


def keys_sent(stage):
    return {headers.get("Authorization") for headers in (*stage.looked, *stage.headers)}


def by_gcr_yaml(home, url):
    (home / "gcr.yaml").write_text(f"critic: {url}\n")
    return {}


def by_a_profiles_file(home, url):
    profile(home / "theirs.yaml", url)
    return {"profile": "theirs.yaml"}


def by_a_profile_that_gcr_yaml_names(home, url):
    profile(home / "theirs.yaml", url)
    (home / "gcr.yaml").write_text("profile: theirs.yaml\n")
    return {}


OF_FILES = [by_gcr_yaml, by_a_profiles_file, by_a_profile_that_gcr_yaml_names]


@pytest.mark.parametrize("named", OF_FILES)
def test_a_server_that_only_a_file_names_gets_no_key(stage, home, monkeypatch, named):
    flags = named(home, stage.url)
    with pytest.raises(UsageError, match=rf"GCR_API_KEY is set, .* {stage.url}") as caught:
        resolve(flags, ThisMachine())
    assert caught.value.exit_code == 2
    assert "--trust-endpoint" in caught.value.hint
    assert stage.looked == []
    assert resolve({**flags, "trust_endpoint": True}, ThisMachine()).settings.trusted
    assert keys_sent(stage) == {f"Bearer {KEY}"}
    stage.looked.clear()
    monkeypatch.delenv("GCR_API_KEY")  # nothing to protect
    assert not resolve(flags, ThisMachine()).settings.trusted
    assert keys_sent(stage) == {None}


def by_flag(home, url, monkeypatch):
    return {"critic": url}


def by_environment(home, url, monkeypatch):
    monkeypatch.setenv("GCR_CRITIC", url)
    return {}


def by_own_config(home, url, monkeypatch):
    (home / "config/gcr").mkdir(parents=True)
    (home / "config/gcr/config.yaml").write_text(f"critic: {url}\n")
    return {}


def by_own_profile(home, url, monkeypatch):
    profile(home / "config/gcr/profiles/mine.yaml", url)
    return {"profile": "mine"}


@pytest.mark.parametrize("named", [by_flag, by_environment, by_own_config, by_own_profile])
def test_a_server_that_the_user_names_gets_the_key(stage, home, monkeypatch, named):
    assert resolve(named(home, stage.url, monkeypatch), ThisMachine()).settings.trusted
    assert keys_sent(stage) == {f"Bearer {KEY}"}


def test_no_file_can_say_that_it_is_to_be_trusted(stage, home):
    for words in ("trust_endpoint: true", "trust-endpoint: true", "trusted: true"):
        (home / "gcr.yaml").write_text(f"critic: {stage.url}\n{words}\n")
        with pytest.raises(UsageError, match="unknown setting"):
            resolve({}, ThisMachine())
    (home / "gcr.yaml").unlink()
    recorded = {**Settings(generator="g", critic=f"{stage.url}#m").decisive(), "trusted": True}
    with pytest.raises(UsageError, match="only the folder names"):
        recalled(recorded, ThisMachine())
    assert "trusted" not in resolve({"critic": stage.url}, ThisMachine()).settings.decisive()


def test_the_key_of_openai_needs_no_trust_as_it_goes_to_openai_alone(home, monkeypatch):
    (home / "gcr.yaml").write_text("critic: https://api.openai.com/v1#some-model\n")
    monkeypatch.setenv("OPENAI_API_KEY", "openais")
    assert not resolve({}, ThisMachine()).settings.trusted
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="GCR_API_KEY is set"):
        resolve({}, ThisMachine())


def test_a_folders_server_gets_the_key_where_the_user_vouches_for_it(stage, home, monkeypatch):
    recorded = Settings(generator="g", critic=f"{stage.url}#m").decisive()
    with pytest.raises(UsageError, match="only the folder names"):
        recalled(recorded, ThisMachine())
    assert recalled(recorded, ThisMachine(), trust_endpoint=True).trusted
    monkeypatch.setenv("GCR_CRITIC", stage.url)  # the same server, by the user's own word
    assert recalled(recorded, ThisMachine()).trusted
    monkeypatch.setenv("GCR_CRITIC", "http://elsewhere:8000/v1")
    with pytest.raises(UsageError, match="only the folder names"):
        recalled(recorded, ThisMachine())
    monkeypatch.delenv("GCR_CRITIC")
    (home / "gcr.yaml").write_text(f"critic: {stage.url}\n")  # a file vouches for no file
    with pytest.raises(UsageError, match="only the folder names"):
        recalled(recorded, ThisMachine())
    monkeypatch.delenv("GCR_API_KEY")
    assert not recalled(recorded, ThisMachine()).trusted


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gcr", *arguments])
    code = main()
    return code, capsys.readouterr()


def test_a_run_from_elsewhere_that_is_gone_on_with_sends_no_key(stage, home, monkeypatch, capsys):
    stage.answer = lambda body: (500, {}, "not today") if stage.asked[2:] else None
    command = ["refine", "a red circle", "--critic", stage.url, "--dry-run"]
    assert run(monkeypatch, capsys, *command)[0] == 0  # the user's own word
    folder = home / "theirs"
    folder.mkdir()
    settings = Settings(generator="pocket:generator", critic=f"{stage.url}#staged").decisive()
    record = {"id": "x", "request": {"prompt": "a red circle"}, "settings": settings}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "rounds.jsonl").write_text("")
    stage.looked.clear()
    code, shown = run(monkeypatch, capsys, "resume", "theirs")
    assert (code, stage.looked, stage.asked) == (2, [], [])
    error, hint = shown.err.strip().splitlines()
    assert error.startswith("error: GCR_API_KEY is set")
    assert "--trust-endpoint" in hint
    assert KEY not in shown.err


def test_doctor_says_it_too(stage, home):
    (home / "gcr.yaml").write_text(f"critic: {stage.url}\n")
    *_, last = doctor._configuration({})
    assert (last.name, last.state) == ("settings", "broken")
    assert "--trust-endpoint" in last.hint
    *_, last = doctor._configuration({"trust_endpoint": True})
    assert last.name == "endpoint"
