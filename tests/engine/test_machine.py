"""The machine that gcr runs on, as settings ask about it."""

import json

import pytest
import serving
import torch

from gcr.device.memory import GIB
from gcr.engine.machine import ThisMachine
from gcr.errors import UsageError
from gcr.settings import address


@pytest.mark.parametrize(("has_gpu", "free", "name"), [(True, 23.0, "Card"), (False, 0.0, "cpu")])
def test_the_gpu_says_its_name_and_what_it_has_free(monkeypatch, has_gpu, free, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (23 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    assert ThisMachine().free_gib() == free
    assert ThisMachine().device_name() == name


@pytest.mark.parametrize(
    ("name", "index", "why"),
    [
        ("Z-Image-Turbo", {}, "its name says Turbo"),
        ("FLUX.1-schnell", {}, "its name says schnell"),
        ("FLUX.2-klein-4B", {}, "its name says klein"),
        ("FLUX.2-klein-base-4B", {}, ""),
        ("FLUX.2-klein-base-4B", {"is_distilled": True}, "model_index.json says so"),
        ("mine-turbo", {"is_distilled": False}, ""),
        ("mine", {"scheduler": ["diffusers", "LCMScheduler"]}, "its scheduler is LCMScheduler"),
        ("Qwen-Image-2512", {"scheduler": [None, None]}, ""),
        ("turbocharged-cats", {}, ""),
    ],
)
def test_a_distilled_generator_is_known_by_its_index_or_its_name(tmp_path, name, index, why):
    folder = tmp_path / name
    if not index:
        assert ThisMachine().distilled(f"owner/{name}") == why  # of which nothing is here
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    assert ThisMachine().distilled(str(folder)) == why
    (folder / "model_index.json").write_text("{")
    ThisMachine().distilled(str(folder))  # what is wrong with it, the loader says
    assert ThisMachine().distilled("pocket:generator") == ""


def test_a_server_is_asked_for_its_only_model_with_the_key_where_it_is_trusted(monkeypatch):
    monkeypatch.setenv("GCR_API_KEY", "a-very-secret-key")
    stage = serving.Staged()
    try:
        server = address.parse(stage.url)
        for trusted in (True, False):
            assert ThisMachine().model_at(server, trusted=trusted) == "staged"
        sent = [headers.get("Authorization") for headers in stage.looked]
        assert sent == ["Bearer a-very-secret-key", None]
        stage.models = ["one", "two"]
        with pytest.raises(UsageError, match="has 2 models"):
            ThisMachine().model_at(server, trusted=True)
    finally:
        stage.close()
