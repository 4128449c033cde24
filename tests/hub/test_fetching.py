"""`gcr pull` against a hub of this machine, and `--offline` with sockets that refuse to connect."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
import tiny
import torch
from hub import COMMIT, served

from gcr import pocket
from gcr.__main__ import main
from gcr.core import background
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import checkpoints, consent, fetching, weightfiles

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


# Files that are read before they are loaded


def test_the_weights_at_hand_are_those_that_are_fetched_and_loaded(hub, monkeypatch, capsys):
    assert checkpoints.weights_at_hand("us/pipeline") == []
    pull(monkeypatch, capsys, "us/pipeline")
    fetched = {path.removeprefix("us/pipeline/") for path in hub.sent if "pipeline/" in path}
    found = checkpoints.weights_at_hand("us/pipeline", held=["vae"])
    names = {"/".join(path.parts[-2:]) for path in found}
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert {*names, vae} == {name for name in fetched if name.endswith(".safetensors")}
    assert vae not in names


def test_shards_are_at_hand_where_there_is_no_whole_file(pipeline, tmp_path):
    from diffusers import DiffusionPipeline

    whole = DiffusionPipeline.from_pretrained(pipeline, use_safetensors=True)
    folder = tmp_path / "sharded"
    whole.unet.save_pretrained(folder / "unet", max_shard_size="100KB")
    shutil.copytree(pipeline, folder, dirs_exist_ok=True)
    assert len(checkpoints.weights_at_hand(str(folder))) == 3
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "vae/model.safetensors").mkdir()
    found = checkpoints.weights_at_hand(str(folder))
    for path in folder.rglob("*.safetensors"):
        if path not in found and path.is_file():
            path.unlink()
    loaded = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    assert all(map(torch.equal, loaded.unet.parameters(), whole.unet.parameters()))


def test_what_can_be_no_path_has_no_weights_at_hand(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"a" * 5000: ["diffusers", "X"]}))
    assert checkpoints.weights_at_hand(str(tmp_path)) == []
    assert checkpoints.weights_at_hand("us/pipe\0line") == []


linux = pytest.mark.skipif(sys.platform != "linux", reason="files are read ahead on Linux only")


@pytest.fixture
def sent(monkeypatch):
    """What os.sendfile was asked to read, by the files' names."""
    real, read = os.sendfile, []

    def sendfile(out, file, offset, count):
        done = real(out, file, offset, count)
        read.append((Path(f"/proc/self/fd/{file}").readlink().name, done))
        return done

    monkeypatch.setattr(os, "sendfile", sendfile)
    return read


@linux
def test_files_are_read_as_far_as_memory_goes(sent, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(weightfiles, "READ_AT_ONCE", 600)
    files = [tmp_path / name for name in ("first", "missing", "second", "third")]
    for path in (files[0], files[2], files[3]):
        path.write_bytes(bytes(1000))
    caplog.set_level("INFO")
    weightfiles._read_ahead(files, 1500, threading.Event())
    assert sent == [("first", 600), ("first", 400), ("first", 0), ("second", 500)]
    assert "missing is not read ahead" in caplog.text


@linux
def test_reading_ends_with_what_is_done_meanwhile(sent, tmp_path, monkeypatch):
    monkeypatch.setattr(weightfiles, "READ_AT_ONCE", 1)
    path = tmp_path / "weights"
    path.touch()
    os.truncate(path, 10**8)
    with weightfiles.reading_ahead([path]):
        wait_for(lambda: sent)
    wait_for(lambda: not background.is_busy())
    assert 0 < len(sent) < 10**8


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
