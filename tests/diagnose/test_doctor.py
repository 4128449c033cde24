"""`gcr doctor`: what it finds, on the machine as it is and where something is wrong."""

import json
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import serving

from gcr.__main__ import main
from gcr.diagnose import doctor


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """An empty working folder, caches and configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("GCR_OFFLINE", "HF_HUB_OFFLINE", "GCR_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def found(**flags):
    return {finding.name: finding for finding in doctor.examine(flags)}


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gcr", "doctor", *arguments])
    code = main()
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_a_machine_that_is_well(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "--json")
    told = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert {"Python", *doctor.SHOWN, "GPU", "4-bit", "torchvision", "settings"} <= told.keys()
    assert told["torch"]["said"] == version("torch")
    assert told["profile pocket"]["state"] == "ok"
    assert not any(one["state"] == "broken" for one in told.values())


def test_what_is_broken_is_shown_with_what_to_do_and_the_exit_code_says_so(
    monkeypatch, capsys, tmp_path
):
    (tmp_path / "gcr.yaml").write_text("stesp: 30\n")
    code, out = run(monkeypatch, capsys)
    assert code == 1
    line = next(line for line in out.splitlines() if "gcr.yaml" in line)
    assert line.startswith("broken")
    assert "did you mean steps?" in out


def test_a_config_file_that_is_well_says_what_it_sets(tmp_path):
    (tmp_path / "gcr.yaml").write_text("rounds: 2\nimages: 3\n")
    (told, _) = doctor._configuration({})
    assert told.said == "gcr.yaml sets rounds, images"


@pytest.mark.parametrize(
    ("name", "here", "said"),
    [
        ("torch", "2.9.1", "2.9.1 has a known hole (CVE-2026-24747)"),
        ("transformers", "5.2.9", "5.2.9 has a known hole (CVE-2026-4372)"),
        ("diffusers", "0.39.0", "0.39.0, and gcr needs >="),
        ("typer", None, "is not installed"),
    ],
)
def test_a_library_that_is_too_old_or_not_there(monkeypatch, name, here, said):
    def told(asked):
        if asked == name and here is None:
            raise PackageNotFoundError(asked)
        return here if asked == name else version(asked)

    monkeypatch.setattr(doctor, "version", told)
    (finding,) = [one for one in doctor.libraries() if one.state == "broken"]
    assert (finding.name, finding.said.startswith(said)) == (name, True)
    assert finding.hint.startswith(f"pip install -U '{name}")


def test_four_bit_weights_are_really_multiplied(monkeypatch):
    assert 0.05 < doctor.product_error("cpu") < 0.15
    monkeypatch.setattr(doctor, "product_error", lambda device: 0.9)
    assert doctor._four_bit("cpu").state == "broken"

    def fail(device):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(doctor, "product_error", fail)
    assert doctor._four_bit("cpu").said.endswith("no kernel")


@pytest.mark.parametrize(
    ("cuda", "hint"), [(None, "built for CUDA"), ("13.0", "update the driver")]
)
def test_a_gpu_that_torch_does_not_see(monkeypatch, tmp_path, cuda, hint):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    assert doctor._no_gpu("torch 2.13.0", cuda).state == "note"
    doctor.DRIVER.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.10  Jan\n")
    finding = doctor._no_gpu("torch 2.13.0", cuda)
    assert finding.state == "broken"
    assert finding.said.startswith("driver 570.86.10 is here")
    assert hint in finding.hint
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert doctor._no_gpu("torch 2.13.0", cuda).state == "note"


def test_an_endpoint_is_asked_what_it_can_do():
    stage = serving.Staged()
    try:
        flags = {"critic": stage.url, "rubric": "pocket"}
        silent = {one.name: one for one in doctor._configuration(flags)}
        assert silent["endpoint"].state == "note"
        assert "#staged" in silent["settings"].said
        stage.answer = lambda body: serving.completion("a", [("a", {})], prompt_tokens=None)
        assert {one.name: one.state for one in doctor._configuration(flags)} == {
            "settings": "ok",
            "endpoint": "ok",
        }
        stage.answer = lambda body: (404, {}, {"detail": "Not Found"})
        unknown = {"critic": f"{stage.url}#nope", "rubric": "pocket"}
        *_, last = doctor._configuration(unknown)
        assert (last.name, last.state) == ("endpoint", "broken")
    finally:
        stage.close()
    (broken,) = doctor._configuration(flags)
    assert (broken.name, broken.state) == ("settings", "broken")
    assert "nothing answers" in broken.said


def test_what_is_offline_is_said(monkeypatch):
    assert next(doctor._connections()).state == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in next(doctor._connections()).said
    monkeypatch.setenv("GCR_OFFLINE", "1")
    assert "GCR_OFFLINE" in next(doctor._connections()).said


def test_what_does_not_need_a_broken_library_is_looked_at_all_the_same(monkeypatch):
    def fail():
        raise ImportError("libcudart.so.13: cannot open shared object file")
        yield

    monkeypatch.setattr(doctor, "_device", fail)
    told = found()
    assert told["GPU"].state == "broken"
    assert "libcudart" in told["GPU"].said
    assert told["settings"].state == "ok"
