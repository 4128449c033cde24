"""Pipelines of real families with random weights, and staged ones for what should not happen."""

import logging
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from tiny import FAMILIES, PIXART

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import generator, pipelines
from gcr.drawing.generator import DiffusersGenerator, Sampling
from gcr.errors import ModelError, UsageError

CPU = SharedDevice("cpu")
SMALL = Sampling(width=64, height=64, steps=2, guidance=3.0, batch=2)


def with_(sampling, **changes):
    from dataclasses import replace

    return replace(sampling, **changes)


def pixels(drawing):
    return np.asarray(drawing.image).astype(int)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_each_candidate_from_its_own_seed(checkpoint, family):
    steps = []
    model = checkpoint(family)
    sampling = with_(SMALL, call=FAMILIES[family])
    drawer = generator.load(model, sampling, CPU, lambda *step: steps.append(step))
    circle, square = Candidate("a red circle", 1), Candidate("a blue square", 2)

    first, second, again = drawer.draw([circle, square, circle])

    assert first.image.size == (64, 64)
    assert first.image.mode == "RGB"
    assert [drawing.fault for drawing in (first, second, again)] == ["", "", ""]
    assert abs(pixels(first) - pixels(second)).mean() > 1
    assert abs(pixels(first) - pixels(again)).max() <= 1  # drawn in a batch of another size
    assert steps == [("draw", done, 6) for done in (0, 2, 4, 4, 5, 6)]


@pytest.mark.parametrize(
    ("family", "call", "name", "limit"),
    [
        ("stable_diffusion", {}, "tokenizer", 77),
        ("flux", {"max_sequence_length": 32}, "tokenizer_2", 32),
        ("flux", {}, "tokenizer", 77),
    ],
)
def test_a_prompt_is_measured_by_every_tokenizer_that_reads_it(
    checkpoint, family, call, name, limit
):
    sampling = with_(SMALL, call=call, prompt_syntax="plain")  # else CLIP alone has no limit
    drawer = generator.load(checkpoint(family), sampling, CPU)
    assert drawer.limit == limit
    assert drawer.excess("a" * (limit - 8)) == ""
    assert re.search(rf"has \d+ tokens, .* {name} reads {limit}$", drawer.excess("a" * (limit + 1)))


def test_equal_candidates_give_equal_bytes(checkpoint):
    draws = []
    for _ in range(2):
        drawer = generator.load(checkpoint("pixart"), with_(SMALL, call=PIXART), CPU)
        draws.append(drawer.draw([Candidate("a red circle", 7)])[0].image.tobytes())
    assert draws[0] == draws[1]


def test_a_negative_prompt_changes_its_own_image_only(checkpoint):
    drawer = generator.load(checkpoint("stable_diffusion"), SMALL, CPU)
    plain, refused = Candidate("a circle", 1), Candidate("a circle", 1, negative="red")
    alone = drawer.draw([plain, plain])
    mixed = drawer.draw([plain, refused, plain])
    assert abs(pixels(mixed[0]) - pixels(mixed[1])).max() > 1
    assert abs(pixels(mixed[2]) - pixels(alone[0])).max() <= 1


def test_libraries_say_nothing(checkpoint, tmp_path):
    # In a process of its own: what is said once, on import, was said here long ago.
    code = f"""if True:
        from gcr.drawing import generator
        from gcr.critic import loading
        from gcr.drawing.generator import Sampling
        from gcr.device.memory import SharedDevice
        from gcr.core.records import Candidate

        cpu = SharedDevice("cpu")
        loading.load({str(tiny.llava(tmp_path / "llava"))!r}, cpu)
        sampling = Sampling(width=64, height=64, steps=2)
        drawer = generator.load({checkpoint("stable_diffusion")!r}, sampling, cpu)
        drawer.draw([Candidate("longer than the seventy-seven tokens that fit " * 5, 1)])
    """
    environment = {**os.environ, "GCR_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"width": 61}, "width 61 is not a multiple of 2", "60 and 62"),
        ({"height": 1}, "height 1 is not a multiple of 2", "2 and 4"),
        ({"call": {"max_sequence_lenght": 9}}, "no argument 'max_sequence_lenght'", "did you mean"),
        ({"call": {"height": 64}}, "no argument 'height'", ""),
    ],
)
def test_settings_the_pipeline_does_not_take(checkpoint, changes, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        generator.load(checkpoint("pixart"), with_(SMALL, **changes), CPU)
    assert hint in caught.value.hint


def test_the_size_factor_counts_the_packing_of_latents(checkpoint):
    with pytest.raises(UsageError, match="multiple of 4"):
        generator.load(checkpoint("flux"), with_(SMALL, width=62), CPU)


def test_a_checkpoint_that_is_not_there(tmp_path):
    for model in (str(tmp_path / "none"), "nothing", "../up", "~/none/at/all"):
        with pytest.raises(UsageError, match=r"there is no model at .*: no such folder"):
            generator.load(model, SMALL, CPU)


def test_a_hub_id_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="nobody/nothing") as caught:
        generator.load("nobody/nothing", SMALL, CPU)
    assert "connection" in caught.value.hint


def test_a_folder_that_is_no_pipeline(tmp_path):
    with pytest.raises(ModelError, match=r"it has no model_index\.json"):
        generator.load(str(tmp_path), SMALL, CPU)


def test_weights_that_are_pickled_are_not_read(checkpoint, tmp_path):
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(checkpoint("pixart"), folder)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelError, match="pickled"):
        generator.load(str(folder), SMALL, CPU)


def test_weights_that_are_damaged(checkpoint, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint("pixart"), folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError) as caught:
        generator.load(str(folder), SMALL, CPU)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "StableDiffusionImg2ImgPipeline"}, "from text alone"),
        ({"_class_name": "StableDiffusionControlNetPipeline", "controlnet": []}, "from text alone"),
        ({"_class_name": "QwenImageEditPipeline"}, "from text alone"),
        ({"_class_name": "DDPMPipeline"}, "from text alone"),
        ({"_class_name": "NextYearsPipeline"}, "does not have"),
        ({"_class_name": ["pipeline", "TheirPipeline"]}, "code of its own"),
    ],
)
def test_pipelines_that_do_not_draw_from_text(config, message):
    with pytest.raises(ModelError, match=message):
        pipelines.check_kind("some/model", config)


@pytest.mark.parametrize(
    "name", ["FluxPipeline", "Flux2KleinPipeline", "QwenImagePipeline", "PixArtAlphaPipeline"]
)
def test_pipelines_that_do(name):
    pipelines.check_kind("some/model", {"_class_name": name})


class Staged:
    """A pipeline that returns the images it is given. It takes what Qwen-Image takes."""

    def __init__(self, images, error=None, flags=None):
        self.components = {}
        self.images = images
        self.error = error
        self.flags = flags
        self.calls = []

    def __call__(
        self,
        prompt=None,
        negative_prompt=None,
        true_cfg_scale=4.0,
        guidance_scale=None,
        generator=None,
        output_type="pil",
    ):
        self.calls.append({"negative": negative_prompt, "true_cfg_scale": true_cfg_scale})
        if self.error:
            raise self.error
        images = np.stack([self.images[noise.initial_seed()] for noise in generator])
        return SimpleNamespace(images=images, nsfw_content_detected=self.flags)


def staged(images, sampling=Sampling(guidance=4.0), **settings):  # noqa: B008 - it is frozen
    pipeline = Staged(images, **settings)
    return pipeline, DiffusersGenerator(pipeline, sampling, CPU)


def test_images_that_show_nothing_are_marked():
    ramp = np.linspace(0, 1, 8 * 8 * 3, dtype="float32").reshape(8, 8, 3)
    black, noisy, broken = np.zeros_like(ramp), np.full_like(ramp, 0.5), ramp.copy()
    noisy[0, 0] += 2 / 255
    broken[3, 3, 1] = np.nan
    canvas = np.ones_like(ramp)
    canvas[2, 2] -= 4 / 255  # nearly one colour, but not quite: somebody may have asked for it
    _, drawer = staged([ramp, black, noisy, broken, canvas])
    drawings = drawer.draw([Candidate("anything", seed) for seed in range(5)])
    assert [drawing.fault for drawing in drawings] == ["", "blank", "blank", "non-finite", ""]
    assert (pixels(drawings[0]) == (ramp * 255).round()).all()


def test_guidance_goes_under_the_name_that_works():
    ramp = np.linspace(0, 1, 48, dtype="float32").reshape(4, 4, 3)
    pipeline, drawer = staged([ramp, ramp], Sampling(guidance=2.5))
    drawer.draw([Candidate("a", 0), Candidate("b", 1, negative="c")])
    assert pipeline.calls == [
        {"negative": [" "], "true_cfg_scale": 2.5},
        {"negative": ["c"], "true_cfg_scale": 2.5},
    ]


def test_which_argument_sets_the_guidance():
    import diffusers

    names = {
        name: pipelines.guidance_name(pipelines.parameters_of(getattr(diffusers, name)))
        for name in ("QwenImagePipeline", "FluxPipeline", "StableDiffusionPipeline")
    }
    assert names == {
        "QwenImagePipeline": "true_cfg_scale",
        "FluxPipeline": "guidance_scale",
        "StableDiffusionPipeline": "guidance_scale",
    }


def test_a_negative_prompt_that_the_pipeline_cannot_take(checkpoint):
    drawer = generator.load(checkpoint("flux"), SMALL, CPU)
    drawer._parameters = {"prompt": drawer._parameters["prompt"]}
    assert not drawer.takes_negative
    for refused in (drawer.check_negative, lambda: drawer.draw([Candidate("a", 0, negative="b")])):
        with pytest.raises(UsageError, match="takes no negative prompt"):
            refused()


def test_a_negative_prompt_without_guidance_is_a_warning(checkpoint, caplog):
    drawer = generator.load(checkpoint("flux"), SMALL, CPU)
    with caplog.at_level(logging.WARNING):
        drawer.draw([Candidate("a", 0, negative="b")])
    assert "without guidance: the negative prompt does nothing" in caplog.text


@pytest.mark.parametrize("kind", [ValueError, IndexError])
def test_what_a_pipeline_refuses_is_a_model_error(kind):
    _, drawer = staged([], error=kind("steps must be even\nmore"))
    with pytest.raises(ModelError, match="Staged cannot draw this: steps must be even"):
        drawer.draw([Candidate("a", 0)])


def test_what_a_safety_checker_hid_is_said(caplog):
    _, drawer = staged([np.zeros((8, 8, 3), "float32")], flags=[True])
    with caplog.at_level(logging.WARNING):
        assert drawer.draw([Candidate("a", 0)])[0].fault == "blank"
    assert "safety checker" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pipeline_moves_to_the_gpu_when_it_draws(checkpoint):
    device = SharedDevice("cuda")
    drawer = generator.load(checkpoint("stable_diffusion"), SMALL, device)
    assert drawer.draw([Candidate("a", 1)])[0].fault == ""
    device.clear()
    assert drawer.draw([Candidate("a", 1)])[0].fault == ""
