"""Editing pipelines of real families with random weights: what they get, and what they refuse."""

import logging
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import editing, generator, pipelines
from gcr.drawing.generator import DiffusersGenerator, Sampling
from gcr.errors import ModelError, UsageError

CPU = SharedDevice("cpu")
KONTEXT = {"_auto_resize": False, "max_sequence_length": 64}
KLEIN = {"max_sequence_length": 64, "text_encoder_out_layers": [0, 1, 2]}
FAMILIES = {
    "instruct_pix2pix": {},
    "kontext": {**KONTEXT, "max_area": 64 * 64},
    "flux2_klein": KLEIN,
}
CIRCLE, SQUARE = Candidate("make the circle red", 1), Candidate("a blue square", 2)
EDITING = [
    "FluxKontextPipeline",
    "Flux2KleinPipeline",
    "Flux2Pipeline",
    "LongCatImageEditPipeline",
    "QwenImageEditPipeline",
    "QwenImageEditPlusPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
]


def noise(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype="uint8")
    return Image.fromarray(values)


RED, GREY = noise(112, 80), noise(112, 80, seed=1)


def pixels(drawing):
    return np.asarray(drawing.image).astype(int)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_edits_its_source_from_each_seed(checkpoint, family):
    sampling = Sampling(steps=2, guidance=3.0, batch=2, call=FAMILIES[family])
    drawer = generator.load(checkpoint(family), sampling, CPU, edit=True)
    wave = [CIRCLE, SQUARE, CIRCLE, CIRCLE]
    first, second, again, other = drawer.draw(wave, [None] * 4, [RED, RED, RED, GREY])
    assert [drawing.fault for drawing in (first, second, again, other)] == [""] * 4
    assert abs(pixels(first) - pixels(second)).mean() > 1
    assert abs(pixels(first) - pixels(again)).max() <= 1  # drawn in a batch of another size
    assert (pixels(first) != pixels(other)).any()


@pytest.mark.parametrize(
    ("family", "call", "size", "drawn"),
    [
        ("instruct_pix2pix", {}, (None, None), (112, 80)),
        ("instruct_pix2pix", {}, (64, 32), (64, 32)),
        ("instruct_pix2pix", {}, (56, None), (56, 40)),
        ("kontext", {**KONTEXT, "max_area": 56 * 40}, (None, None), (56, 40)),
        ("kontext", KONTEXT, (64, 32), (64, 32)),
        ("flux2_klein", KLEIN, (None, None), (112, 80)),
        ("flux2_klein", KLEIN, (64, 32), (64, 32)),
    ],
)
def test_the_size_is_that_of_the_source_or_the_one_asked_for(
    checkpoint, family, call, size, drawn, caplog
):
    sampling = Sampling(*size, steps=1, call=call)
    drawer = generator.load(checkpoint(family), sampling, CPU, edit=True)
    with caplog.at_level(logging.WARNING):
        assert drawer.draw([CIRCLE], sources=[RED])[0].image.size == drawn
    assert "another shape" not in caplog.text


@pytest.mark.parametrize("plus", [False, True])
def test_pipelines_whose_text_encoder_sees_the_source(monkeypatch, plus):
    torch.manual_seed(0)
    pipeline = tiny.qwen_image_edit(plus=plus)
    module = __import__(type(pipeline).__module__, fromlist=["calculate_dimensions"])
    whole = module.calculate_dimensions  # by itself it makes a megapixel of any source
    monkeypatch.setattr(module, "calculate_dimensions", lambda _, ratio: whole(64 * 64, ratio))
    sampling = Sampling(steps=2, guidance=3.0, batch=2)
    drawer = DiffusersGenerator(pipeline, sampling, CPU, edit=True)
    wave = [CIRCLE, SQUARE, CIRCLE, CIRCLE]
    first, second, again, other = drawer.draw(wave, sources=[RED, RED, RED, GREY])
    assert first.image.size == (64, 64)
    assert (pixels(first) == pixels(again)).all()  # one at a time: batches cannot matter
    assert abs(pixels(first) - pixels(second)).mean() > 0.1
    assert (pixels(first) != pixels(other)).any()


@pytest.mark.parametrize("name", EDITING)
def test_pipelines_that_edit(name):
    pipelines.check_kind("some/model", {"_class_name": name}, edit=True)


@pytest.mark.parametrize(
    "name",
    [
        "PixArtAlphaPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionUpscalePipeline",
        "StableDiffusionLatentUpscalePipeline",
        "HunyuanImageRefinerPipeline",
        "QwenImageLayeredPipeline",
        "GlmImagePipeline",
        "DiffusionGemmaPipeline",
    ],
)
def test_pipelines_that_do_something_else_with_an_image_or_take_none(name):
    with pytest.raises(ModelError, match=f"{name}, which does not edit images") as caught:
        pipelines.check_kind("some/model", {"_class_name": name}, edit=True)
    assert "editing pipeline" in caught.value.hint


@pytest.mark.parametrize("name", ["StableDiffusionXLInstructPix2PixPipeline", *EDITING[3:6]])
def test_an_editing_pipeline_without_an_image(name):
    with pytest.raises(ModelError, match="from text alone") as caught:
        pipelines.check_kind("some/model", {"_class_name": name})
    assert "--image" in caught.value.hint


def test_whoever_only_starts_from_an_image_is_not_told_to_give_one():
    with pytest.raises(ModelError) as caught:
        pipelines.check_kind("some/model", {"_class_name": "FluxImg2ImgPipeline"})
    assert "--image" not in caught.value.hint


def test_what_edits_and_draws_from_text_is_taken_for_both():
    pipelines.check_kind("some/model", {"_class_name": "Flux2KleinPipeline"})
    pipelines.check_kind("some/model", {"_class_name": "Flux2KleinPipeline"}, edit=True)


def test_names_of_classes_are_those_of_diffusers():
    for name in editing.ONE_EACH:
        assert editing.edits(name, pipelines.parameters_of(getattr(diffusers, name)))


@pytest.mark.parametrize("argument", ["image", "width"])
def test_what_is_ours_to_give_cannot_be_given_by_a_profile(checkpoint, argument):
    with pytest.raises(UsageError, match=f"no argument '{argument}'"):
        generator.load(checkpoint("kontext"), Sampling(call={argument: 1}), CPU, edit=True)


class Staged:
    """A pipeline that draws one size, whatever it is given. Its output is named as Kandinsky's."""

    def __init__(self):
        self.components = {}
        self.calls = []

    def __call__(
        self,
        prompt=None,
        image=None,
        height=None,
        width=None,
        num_images_per_prompt=1,
        generator=None,
        output_type="pil",
    ):
        self.calls.append((prompt, image, width, height))
        drawn = np.random.default_rng(0).random((len(prompt), 64, 64, 3))
        return SimpleNamespace(image=drawn)


def test_pipelines_not_known_to_take_a_list_are_given_one_image_at_a_time():
    pipeline = Staged()
    DiffusersGenerator(pipeline, Sampling(batch=8), CPU, edit=True).draw(
        [CIRCLE, SQUARE], sources=[RED, RED]
    )
    assert pipeline.calls == [([c.prompt], RED, None, None) for c in (CIRCLE, SQUARE)]


@pytest.mark.parametrize(
    ("size", "source", "says"),
    [
        ((None, None), (64, 64), ""),
        ((None, None), (68, 64), ""),
        ((None, None), (96, 64), "Staged drew 64×64 pixels, another shape than 96×64"),
        ((None, None), (64, 96), "Staged drew 64×64 pixels, another shape than 64×96"),
        ((64, 128), (64, 64), "Staged drew 64×64 pixels, another shape than 64×128"),
        ((64, 64), (96, 64), ""),
        ((None, 64), (64, 64), ""),
    ],
)
def test_an_image_of_another_shape_is_said_once(size, source, says, caplog):
    drawer = DiffusersGenerator(Staged(), Sampling(*size), CPU, edit=True)
    with caplog.at_level(logging.WARNING):
        drawer.draw([CIRCLE, SQUARE], sources=[noise(*source)] * 2)
    assert caplog.text.count("another shape") == bool(says)
    assert says in caplog.text
