"""What sets the pipelines of today apart, each with a tiny checkpoint of its own class."""

import json
import threading

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.device.threads import at_most
from gcr.drawing import generator, noise, pipelines
from gcr.drawing.generator import Sampling
from gcr.drawing.pixels import drawing
from gcr.errors import ModelError, UsageError
from gcr.hub import vetting

CPU = SharedDevice("cpu")
CIRCLE, SQUARE = Candidate("a red circle", 1), Candidate("a blue square", 2)


def drawer_of(model, **settings):
    settings = {"width": 64, "height": 64, "steps": 2, "batch": 2, **settings}
    return generator.load(str(model), Sampling(**settings), CPU)


def pixels(drawing):
    return np.asarray(drawing.image).astype(int)


@pytest.fixture(autouse=True)
def _one_thread():
    """For models this small a second thread only waits."""
    with at_most(1):
        yield


@pytest.mark.parametrize("family", ["qwen_image_21", "krea2", "longcat_image", "ernie_image"])
def test_each_candidate_is_drawn_from_its_own_seed(checkpoint, family):
    first, second, again = drawer_of(checkpoint(family)).draw([CIRCLE, SQUARE, CIRCLE])
    assert pixels(first).shape == (64, 64, 3)
    assert [drawing.fault for drawing in (first, second, again)] == ["", "", ""]
    assert abs(pixels(first) - pixels(second)).mean() > 1
    assert abs(pixels(first) - pixels(again)).max() <= 1


GUIDED = [
    ("z_image", {0.0: False, 0.5: True, 1.0: True, 3.0: True}),
    ("krea2", {0.0: False, 0.5: True, 1.0: True, 3.0: True}),
    ("qwen_image_21", {None: False, 1.0: False, 3.0: True}),
    ("qwen_image", {None: True, 1.0: False, 3.0: True}),
    ("longcat_image", {1.0: False, 3.0: True}),
    ("ernie_image", {1.0: False, 3.0: True}),
    ("pixart", {1.0: False, 3.0: True}),
    ("stable_diffusion", {None: True, 1.0: False, 3.0: True}),
]


@pytest.mark.parametrize(("family", "expected"), GUIDED, ids=[family for family, _ in GUIDED])
def test_a_negative_prompt_is_heeded_where_the_pipeline_guides(checkpoint, family, expected):
    call = tiny.PIXART if family == "pixart" else {}
    plain, refused = Candidate("a circle", 1), Candidate("a circle", 1, negative="red and blue")
    for guidance, heeded in expected.items():
        drawer = drawer_of(checkpoint(family), guidance=guidance, call=call)
        assert drawer.heeds_negative == heeded, guidance
        with_, without = drawer.draw([plain]), drawer.draw([refused])
        differs = bool((pixels(with_[0]) != pixels(without[0])).any())
        assert differs == heeded, guidance


def test_a_distilled_pipeline_never_guides(checkpoint):
    pipeline = drawer_of(checkpoint("flux2_klein"))._pipeline
    assert pipelines.is_unguided(pipeline, {"guidance_scale": 4.0})
    pipeline.register_to_config(is_distilled=False)
    assert not pipelines.is_unguided(pipeline, {"guidance_scale": 4.0})


def test_guidance_of_qwen_image_21_is_its_true_cfg_scale(checkpoint):
    drawer = drawer_of(checkpoint("qwen_image_21"), guidance=2.5)
    assert drawer._arguments["true_cfg_scale"] == 2.5
    assert "guidance_scale" not in drawer._arguments
    other = drawer_of(checkpoint("qwen_image_21"), guidance=5.0)
    assert (pixels(drawer.draw([CIRCLE])[0]) != pixels(other.draw([CIRCLE])[0])).any()


def test_steps_are_heeded_where_a_checkpoint_has_a_schedule(checkpoint):
    drawer = drawer_of(checkpoint("qwen_image_21"))
    pipeline = drawer._pipeline
    assert "sigmas" not in drawer._arguments
    pipeline.register_to_config(sample_sigmas=[1.0, 0.75, 0.5, 0.25])
    chosen, own = Sampling(width=64, height=64, steps=2), Sampling(width=64, height=64)
    assert pipelines.arguments(pipeline, chosen)["sigmas"] == [1.0, 0.5]
    assert "sigmas" not in pipelines.arguments(pipeline, own)


def test_a_size_that_a_pipeline_would_round_is_refused(checkpoint):
    for family in ("qwen_image_21", "glm_image"):
        with pytest.raises(UsageError, match="width 80 is not a multiple of 32"):
            drawer_of(checkpoint(family), width=80)


def test_qwen_image_21_edits_as_well(checkpoint):
    sampling = Sampling(steps=2, call={"output_resolution": 64})
    drawer = generator.load(checkpoint("qwen_image_21"), sampling, CPU, edit=True)
    source = Image.new("RGB", (64, 64), "red")
    first, second = drawer.draw([CIRCLE, SQUARE], sources=[source, source])
    assert first.image.size == (64, 64)
    assert (pixels(first) != pixels(second)).any()


def test_a_prompt_is_measured_by_the_tokenizer_inside_a_processor(checkpoint):
    drawer = drawer_of(checkpoint("qwen_image_21"))
    assert drawer.limit is None  # the tiny tokenizer has none
    drawer._pipeline.processor.tokenizer.model_max_length = 20
    limits = pipelines.reading_limits(drawer._pipeline, {})
    assert [(name, limit) for name, _, limit in limits] == [("processor", 20)]
    drawer._tokenizers = limits
    assert drawer.excess("a" * 20) == ""
    assert drawer.excess("a" * 21) == "it has 21 tokens, and the pipeline's processor reads 20"


@pytest.mark.parametrize(
    ("family", "readers"),
    [
        ("longcat_image", [("tokenizer", 512)]),
        ("ernie_image", [("tokenizer", 512)]),  # and not the 16 of its rewriter
        ("glm_image", [("processor", 4096)]),
        ("krea2", [("tokenizer", 512)]),
    ],
)
def test_tokenizers_of_rewriters_and_glyphs_are_no_limit(checkpoint, family, readers):
    pipeline = drawer_of(checkpoint(family))._pipeline
    limits = pipelines.reading_limits(pipeline, {})
    assert [(name, limit) for name, _, limit in limits] == readers


REWRITERS = {
    "longcat_image": ("enable_prompt_rewrite", "rewire_prompt"),
    "ernie_image": ("use_pe", "_enhance_prompt_with_pe"),
}


@pytest.mark.parametrize("family", REWRITERS)
def test_a_pipeline_does_not_rewrite_what_the_critic_wrote(checkpoint, family, monkeypatch):
    argument, method = REWRITERS[family]
    calls = []

    def rewrite(prompt, *_, **__):
        calls.append(prompt)
        return prompt

    drawer = drawer_of(checkpoint(family))
    monkeypatch.setattr(type(drawer._pipeline), method, staticmethod(rewrite))
    drawer.draw([CIRCLE])
    assert calls == []
    for settings in ({"rewriter": True}, {"call": {argument: True}}):
        drawer_of(checkpoint(family), **settings).draw([CIRCLE])
        assert len(calls) == 1
        calls.clear()


def test_sana_is_given_the_prompt_without_instructions(checkpoint):
    lengths = []
    for settings in ({}, {"rewriter": True}):
        drawer = drawer_of(checkpoint("sana"), **settings)
        encode = drawer._pipeline.text_encoder.forward

        def counted(ids, *args, encode=encode, **kwargs):
            lengths.append(ids.shape[1])
            return encode(ids, *args, **kwargs)

        drawer._pipeline.text_encoder.forward = counted
        drawer._pipeline(**drawer._arguments, prompt=["a"], guidance_scale=1.0)
    assert lengths[0] == 300 < lengths[1]


def test_glm_image_samples_from_the_seed_alone(checkpoint):
    """Equal candidates give equal images in any batch, and torch's global state stays."""
    drawer = drawer_of(checkpoint("glm_image"))
    written = []
    write = drawer._pipeline.generate_prior_tokens

    def remembered(*args, **kwargs):
        tokens = write(*args, **kwargs)
        written.append(tokens[0].tolist())
        return tokens

    drawer._pipeline.generate_prior_tokens = remembered
    before = torch.get_rng_state()
    first, _, again = drawer.draw([CIRCLE, Candidate(CIRCLE.prompt, 2), CIRCLE])
    assert torch.equal(torch.get_rng_state(), before)
    assert first.image.tobytes() == again.image.tobytes()
    assert written[0] == written[2] != written[1]
    assert [drawing.batch for drawing in (first, again)] == [1, 1]


def test_other_threads_sample_undisturbed():
    """And a thread that samples from a seed is not disturbed by them."""
    chances = torch.ones(1000)

    def sample():
        return torch.multinomial(chances, 5).tolist()

    torch.manual_seed(0)
    alone = [sample(), sample()]
    with noise._sampling(torch.Generator().manual_seed(7)):
        seeded = [sample(), sample()]
    torch.manual_seed(0)
    elsewhere = []
    with noise._sampling(torch.Generator().manual_seed(7)):
        here = [sample()]
        thread = threading.Thread(target=lambda: elsewhere.extend([sample(), sample()]))
        thread.start()
        thread.join()
        here.append(sample())
    assert (here, elsewhere) == (seeded, alone)


def test_what_is_transparent_is_drawn_on_white():
    shown = np.linspace(0, 1, 8 * 8 * 4, dtype="float32").reshape(8, 8, 4)
    shown[..., 3] = 1
    shown[0, 0, 3] = 0
    image = drawing(shown).image
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((7, 7)) == tuple((shown[7, 7, :3] * 255).round().astype(int))


def test_a_modular_pipeline_is_refused_by_its_name(tmp_path):
    index = {"_class_name": "Flux3ModularPipeline", "_blocks_class_name": "Flux3AutoBlocks"}
    (tmp_path / vetting.MODULAR).write_text(json.dumps(index))
    with pytest.raises(ModelError, match="is a Flux3ModularPipeline, a modular pipeline") as caught:
        generator.check(str(tmp_path))
    assert "one folder" in caught.value.hint
    with pytest.raises(ModelError, match="a modular pipeline"):
        pipelines.check_kind("some/model", index)


@pytest.mark.usefixtures("quantizer_on_a_cpu")
@pytest.mark.parametrize(
    ("family", "quantized"),
    [
        ("z_image", {"transformer", "text_encoder"}),
        ("flux", {"transformer", "text_encoder_2"}),  # but not its CLIP
        ("flux2_klein", {"transformer", "text_encoder"}),
        ("sdxl", {"unet"}),
    ],
)
def test_the_large_parts_are_loaded_in_4_bits(checkpoint, family, quantized):
    from bitsandbytes.nn import Linear4bit

    parts = {
        name
        for name, part in drawer_of(checkpoint(family), quantize="nf4")._pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        and any(isinstance(layer, Linear4bit) for layer in part.modules())
    }
    assert parts == quantized


@pytest.mark.usefixtures("quantizer_on_a_cpu")
def test_a_pipeline_in_4_bits_draws_nearly_the_same(checkpoint):
    whole = drawer_of(checkpoint("z_image_wide"))
    small = drawer_of(checkpoint("z_image_wide"), quantize="nf4")
    assert small.weights.weight_bytes < 0.35 * whole.weights.weight_bytes
    first, second, again = small.draw([CIRCLE, SQUARE, CIRCLE])
    assert [drawing.fault for drawing in (first, second, again)] == ["", "", ""]
    assert abs(pixels(first) - pixels(second)).mean() > 1
    assert abs(pixels(first) - pixels(again)).max() <= 1
    likeness = abs(pixels(first) - pixels(whole.draw([CIRCLE])[0])).mean()
    assert 0 < likeness < 0.5 * abs(pixels(first) - pixels(second)).mean()
