"""`gcr pull` against a hub of this machine, and `--offline` with sockets that refuse to connect."""

import json
import os
import subprocess
import sys

import huggingface_hub
import pytest
import tiny
import torch
from hub import COMMIT, served

from gcr import pocket
from gcr.__main__ import main
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import checkpoints, consent, fetching

UNUSED = ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/old.bin", "whole.safetensors")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline as hubs have them: beside what is loaded lies much that is not."""
    torch.manual_seed(0)
    folder = tiny.stable_diffusion(tmp_path_factory.mktemp("pipeline") / "p")
    for name in UNUSED:
        (folder / name).write_bytes(bytes(10**6))
    return folder


@pytest.fixture
def hub(pipeline, tmp_path, monkeypatch):
    with served(
        {"us/pipeline": pipeline, "us/critic": pocket.CRITIC}, tmp_path / "hub", monkeypatch
    ) as hub:
        yield hub


def pull(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gcr", "pull", *arguments])
    code = main()
    return code, capsys.readouterr()


def test_only_what_is_loaded_is_fetched_and_its_size_is_told_before(
    hub, pipeline, tmp_path, monkeypatch, capsys
):
    code, printed = pull(
        monkeypatch, capsys, "-m", "us/pipeline", "--critic", "us/critic", "pocket"
    )
    assert code == 0
    cache = tmp_path / "hub"
    places = [cache / f"models--us--{name}/snapshots/{COMMIT}" for name in ("pipeline", "critic")]
    assert printed.out.split() == [str(place) for place in places]
    assert "pocket:critic: nothing to fetch" in printed.err
    fetched = {path.removeprefix("us/pipeline/") for path in hub.sent if "pipeline/" in path}
    assert not fetched & set(UNUSED)
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= fetched
    size = sum((pipeline / name).stat().st_size for name in fetched)
    assert f"us/pipeline: {len(fetched)} files, {fetching.gigabytes(size)}" in printed.err

    hub.sent.clear()
    code, printed = pull(monkeypatch, capsys, "us/pipeline", "--json", "-q")
    assert (code, json.loads(printed.out)) == (0, {"us/pipeline": str(places[0])})
    assert hub.sent == []
    assert "all of it here" in fetching.described(fetching.shipment_of("us/pipeline"))


def test_a_disk_without_room_is_found_out_before(hub, monkeypatch):
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1000)
    with pytest.raises(GcrError, match=r"6\.\d MB are to be fetched, and .* has 1\.0 kB free"):
        fetching.check_room([fetching.shipment_of("us/critic")])
    assert "us/critic/model.safetensors" not in hub.sent


def test_a_model_that_cannot_be_had_is_named(hub, tmp_path):
    hub.gated.add("us/pipeline")
    with pytest.raises(ModelError, match="us/pipeline is given out under a licence") as caught:
        fetching.shipment_of("us/pipeline")
    assert "hf auth login" in caught.value.hint
    with pytest.raises(ModelError, match="the hub has no model us/other"):
        fetching.shipment_of("us/other")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").touch()
    hub.repos["us/pickled"] = tmp_path / "pickled"
    with pytest.raises(ModelError, match="no weights in safetensors"):
        fetching.shipment_of("us/pickled")


def test_a_hub_that_is_not_there(hub):
    hub.close()
    with pytest.raises(ModelError, match="the hub cannot be reached for us/critic"):
        fetching.shipment_of("us/critic")
    hub.close = lambda: None
    hub._server.shutdown = hub._server.server_close = hub._thread.join = lambda: None


def test_what_to_pull_is_named_by_profile_id_or_not_at_all(hub, monkeypatch, capsys):
    assert fetching.models_of(["24gb", "us/critic", "24gb"])[1:] == [
        "TIGER-Lab/RationalRewards-8B-T2I",
        "us/critic",
    ]
    assert fetching.models_of(["auto"])
    with pytest.raises(UsageError, match="no profile named '24bg'"):
        fetching.models_of(["24bg"])
    code, printed = pull(monkeypatch, capsys)
    assert (code, printed.out) == (2, "")
    monkeypatch.setenv("GCR_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    code, printed = pull(monkeypatch, capsys, "us/critic", "-q")
    assert code == 2
    assert "nothing can be fetched offline" in printed.err


def test_offline_is_passed_on_to_the_library_that_fetches(monkeypatch):
    monkeypatch.setenv("GCR_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    consent.obey()
    assert not consent.is_hub_offline()
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    consent.go_offline(forbid=True)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert huggingface_hub.constants.HF_HUB_OFFLINE


CUT_OFF = """
import json, socket, sys
def refuse(*_, **__):
    raise AssertionError("something opened a connection")
socket.socket.connect = socket.socket.connect_ex = refuse
from gcr.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["gcr", "refine", "a red circle", "--offline", "-q", "--rounds", "1", *arguments]
    print("code", main(), flush=True)
"""


def test_offline_runs_what_is_here_and_names_what_to_pull(hub, tmp_path):
    for model in ("us/pipeline", "us/critic"):
        fetching.fetch(fetching.shipment_of(model))
    hub.sent.clear()
    part = tmp_path / "hub" / "models--us--part"  # begun, and never finished
    (part / "refs").mkdir(parents=True)
    (part / "refs" / "main").write_text(COMMIT)
    (part / "snapshots" / COMMIT).mkdir(parents=True)
    config = (pocket.CRITIC / "config.json").read_bytes()
    (part / "snapshots" / COMMIT / "config.json").write_bytes(config)
    small = ["-W", "32", "-H", "32", "--steps", "1", "--images", "1", "--no-compare"]
    fetched = ["-m", "us/pipeline", "--critic", "us/critic", "--rubric", "pocket", *small]
    runs = [
        ["--images", "1"],
        fetched,
        ["-m", "us/other"],
        ["--critic", "us/other"],
        ["--critic", "us/part"],
        ["--critic", "http://far.example/v1#m"],
    ]
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_ENDPOINT": hub.url,
        "GCR_CACHE": str(tmp_path / "cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    printed = subprocess.run(
        [sys.executable, "-c", CUT_OFF, json.dumps(runs)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [line for line in printed.stdout.splitlines() if line.startswith("code")]
    assert codes == ["code 0", "code 0", "code 1", "code 1", "code 1", "code 2"], printed.stderr
    assert printed.stderr.count("us/other is not in the cache, or not all of it") == 2
    assert printed.stderr.count("gcr pull us/other") == 2
    assert "gcr pull us/part" in printed.stderr
    assert "--offline makes no connection" in printed.stderr
    assert hub.sent == []


def test_what_is_absent_is_told_from_what_is_damaged(monkeypatch):
    monkeypatch.setenv("GCR_OFFLINE", "1")
    with (
        pytest.raises(ModelError, match="cannot load us/damaged: cut short"),
        checkpoints.named_errors("us/damaged"),
    ):
        raise OSError("cut short")


def test_an_interruption_that_a_library_takes_for_a_failed_import_stays_one():
    """Libraries that import on demand call everything a failed import."""

    def load():
        try:
            raise KeyboardInterrupt  # noqa: TRY301 - as a signal does
        except KeyboardInterrupt as error:
            raise RuntimeError("Failed to import diffusers.pipelines.onnx_utils") from error

    for loading in (checkpoints.named_errors("x"), checkpoints.reworded("it failed", "")):
        with pytest.raises(KeyboardInterrupt), loading:
            load()
