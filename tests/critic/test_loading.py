"""Loading and quantizing vision-language models of real families with random weights."""

import logging
import os
import resource
import shutil

import pytest
import tiny
from PIL import Image
from replies import SHORT

from gcr.core.records import Request
from gcr.critic import loading, local, quantized
from gcr.critic.critic import VisionLanguageCritic
from gcr.critic.critic import load as load_critic
from gcr.device.memory import SharedDevice
from gcr.errors import ModelError
from gcr.hub import processors

pytestmark = pytest.mark.usefixtures("cache")

CPU = SharedDevice("cpu")
RED = Image.new("RGB", (64, 64), "red")
CIRCLE = Request("a red circle")


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_only_the_language_model_is_quantized(checkpoint, family):
    model, _ = loading.load(checkpoint(family), CPU)
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    four_bit = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    plain = {name for name, kind in kinds.items() if kind == "Linear"}
    assert four_bit
    assert all(".language_model.layers." in name for name in four_bit)
    assert "lm_head" in plain
    assert any("vis" in name for name in plain)
    assert not any("language_model" in name for name in plain)


def test_layers_that_the_kernels_cannot_tile_stay_as_they_are(checkpoint):
    folder = checkpoint("llava", inner=100)
    model, processor = loading.load(folder, CPU)
    kinds = {n.split(".")[-1]: type(m).__name__ for n, m in model.named_modules()}
    assert kinds["gate_proj"] == kinds["down_proj"] == "Linear"
    assert kinds["q_proj"] == "Linear4bit"
    critic = VisionLanguageCritic(local.LocalSpeaker(model, processor, CPU), SHORT)
    assert len(critic.judge([CIRCLE], [RED])) == 1


def answers(loaded):
    return VisionLanguageCritic(local.LocalSpeaker(*loaded, CPU), SHORT).answer(
        [RED], ["is there a red circle ?"]
    )


def forbid(monkeypatch):
    """From here on, nothing may be quantized."""

    def fail(*_):
        raise AssertionError("quantized again")

    monkeypatch.setattr(quantized, "nf4", fail)


@pytest.fixture(params=[False, True], ids=["head", "tied"])
def kept(checkpoint, cache, monkeypatch, request):
    """A checkpoint whose copy was just written, that copy, and what the fresh model answers."""
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    model = checkpoint("qwen3_vl", tied=request.param)
    fresh = answers(loading.load(model, CPU))
    (copy,) = cache.iterdir()
    return model, copy, fresh


def test_the_second_load_reads_the_quantized_copy_and_says_the_same(repacks, kept, monkeypatch):
    """The first has run by then, which may have repacked its weights: that is not what is kept."""
    model, copy, fresh = kept
    assert quantized.is_whole(copy)
    forbid(monkeypatch)
    assert answers(loading.load(model, CPU)) == fresh


def test_a_copy_that_is_cut_short_is_made_again(kept):
    model, copy, fresh = kept
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert not quantized.is_whole(copy)
    assert answers(loading.load(model, CPU)) == fresh
    assert quantized.is_whole(copy)


def test_a_copy_that_is_damaged_is_made_again_and_said(kept, caplog, monkeypatch):
    model, copy, fresh = kept
    weights = copy / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with caplog.at_level(logging.WARNING):
        assert answers(loading.load(model, CPU)) == fresh
    assert "quantizing" in caplog.text
    forbid(monkeypatch)
    assert answers(loading.load(model, CPU)) == fresh


def test_a_changed_checkpoint_has_another_copy(kept, cache, tmp_path):
    model, copy, _ = kept
    changed = tmp_path / "changed"
    shutil.copytree(model, changed)
    os.utime(changed / "model.safetensors", (1, 1))
    loading.load(str(changed), CPU)
    assert {copy} < set(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    checkpoint, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert loading.load(checkpoint("llava"), CPU)
    assert "not kept" in caplog.text


def test_a_disk_that_fills_up_under_the_copy_is_only_a_warning(
    checkpoint, cache, monkeypatch, caplog
):
    """The writer of safetensors has an error of its own for it."""
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    model = checkpoint("llava")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with caplog.at_level(logging.WARNING):
            assert loading.load(model, CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "not kept" in caplog.text
    assert list(cache.iterdir()) == []


def test_nothing_unfinished_is_left_in_the_cache(kept, cache, monkeypatch):
    model, copy, _ = kept
    shutil.rmtree(copy)

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    loading.load(model, CPU)
    assert list(cache.iterdir()) == []


def test_without_quantizing_nothing_is_kept(checkpoint, cache, monkeypatch):
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    model, _ = loading.load(checkpoint("llava"), CPU, "none")
    assert not any(type(module).__name__ == "Linear4bit" for module in model.modules())
    assert not cache.exists()


def test_a_model_without_eyes(tmp_path):
    model = str(tiny.text_only(tmp_path / "text"))
    with pytest.raises(ModelError, match="cannot see images: it is a llama model") as caught:
        load_critic(model, SHORT, CPU)
    assert "vision-language" in caught.value.hint


def test_a_model_without_a_chat_template(checkpoint, tmp_path):
    folder = tmp_path / "mute"
    shutil.copytree(checkpoint("qwen3_vl"), folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_critic(str(folder), SHORT, CPU)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        load_critic(str(tmp_path), SHORT, CPU)


def test_weights_of_another_shape_than_the_config(checkpoint, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(checkpoint("llava", inner=100), folder)
    shutil.copy(checkpoint("llava") + "/config.json", folder)
    with pytest.raises(ModelError, match=r"weights of .* cannot be loaded"):
        load_critic(str(folder), SHORT, CPU, quantize="none")


def test_weights_that_are_missing_are_not_made_up(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(checkpoint("llava"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "q_proj" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, such as .*q_proj"):
        load_critic(str(folder), SHORT, CPU)


@pytest.mark.parametrize("error", [ImportError("none"), RuntimeError("torchvision::nms")])
def test_torchvision_that_does_not_import_is_done_without(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(processors, "import_module", fail)
    assert not processors.torchvision_imports()
