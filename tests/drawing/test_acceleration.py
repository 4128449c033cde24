"""What saves time changes no image, or no more than it is said to."""

import logging
from dataclasses import replace

import diffusers
import pytest
import torch
from PIL import Image
from tiny import FAMILIES

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import acceleration, generator
from gcr.drawing.generator import Sampling
from gcr.errors import ModelError, UsageError

CPU = SharedDevice("cpu")
SMALL = Sampling(width=64, height=64, steps=2, guidance=3.0, batch=1)
CALLS = {
    **FAMILIES,
    "sdxl": {},
    "qwen_image": {"max_sequence_length": 64},
    "flux2_klein": {"max_sequence_length": 64, "text_encoder_out_layers": (0, 1, 2)},
}
CIRCLES = [Candidate("a red circle", seed) for seed in (1, 2, 3)]
OTHERS = [Candidate("a blue square", 1), Candidate("a blue square", 2)]


def drawer_of(checkpoint, family, **settings):
    sampling = replace(SMALL, call=CALLS[family], **settings)
    return generator.load(checkpoint(family), sampling, CPU)


def drawn(drawer, candidates, *starts):
    return [drawing.image.tobytes() for drawing in drawer.draw(candidates, *starts)]


def encodings(drawer):
    """Grows with every call of a text encoder."""
    calls = []
    for name, part in drawer._pipeline.components.items():
        if name.startswith("text_encoder"):
            part.register_forward_hook(lambda *_: calls.append(1))
    assert drawer._pipeline.text_encoder is not None
    return calls


@pytest.mark.parametrize("family", CALLS)
def test_a_prompt_is_encoded_once_and_its_images_are_the_same_to_the_bit(
    checkpoint, family, monkeypatch
):
    drawer = drawer_of(checkpoint, family)
    calls = encodings(drawer)
    images = drawn(drawer, [*CIRCLES, *OTHERS])
    after = len(calls)
    assert drawn(drawer, [*OTHERS, *CIRCLES[:1]]) == [*images[3:], images[0]]
    assert len(calls) == after

    monkeypatch.setattr(acceleration, "encode_once", lambda *_, **__: None)
    plain = drawer_of(checkpoint, family)
    again = encodings(plain)
    assert drawn(plain, [*CIRCLES, *OTHERS]) == images
    assert len(again) > after


def test_a_negative_prompt_is_part_of_what_is_encoded(checkpoint):
    drawer = drawer_of(checkpoint, "stable_diffusion")
    refused = replace(CIRCLES[0], negative="red")
    plain, other = drawn(drawer, [CIRCLES[0], refused])
    assert plain != other
    assert drawn(drawer, [refused, CIRCLES[0]]) == [other, plain]


def test_a_prompt_is_encoded_once_where_images_are_started_from(checkpoint):
    drawer = drawer_of(checkpoint, "stable_diffusion")
    calls = encodings(drawer)
    start = Image.new("RGB", (64, 64), "red")
    from_start = [replace(circle, start="00-0.png", strength=1.0) for circle in CIRCLES]
    drawn(drawer, from_start[:1], [start])
    after = len(calls)
    drawn(drawer, from_start[1:], [start] * 2)
    assert len(calls) == after


def test_few_encoded_prompts_are_kept_and_images_are_none_of_them():
    class Encoding:
        def __init__(self):
            self.asked = []

        def encode_prompt(self, prompt, **_):
            self.asked.append(prompt)
            return torch.zeros(1), None

    pipeline = Encoding()
    acceleration.encode_once(pipeline)
    pipeline.encode_prompt(["a"])[0].add_(1)
    assert pipeline.encode_prompt(["a"])[0] == 0
    assert pipeline.asked == [["a"]]
    for number in range(acceleration.MOST_CALLS):
        pipeline.encode_prompt([str(number)])
    pipeline.encode_prompt(["a"])
    assert pipeline.asked[-1] == ["a"]
    for image in (Image.new("RGB", (8, 8)), torch.zeros(1)):
        before = len(pipeline.asked)
        for _ in range(2):
            pipeline.encode_prompt(["a"], image=image)
        assert len(pipeline.asked) == before + 2


def test_large_encodings_are_not_all_kept(monkeypatch):
    class Encoding:
        asked = 0

        def encode_prompt(self, prompt):
            self.asked += 1
            return torch.zeros(1000), None

    monkeypatch.setattr(acceleration, "MOST_BYTES", 9000)
    pipeline = Encoding()
    acceleration.encode_once(pipeline)
    for prompt in "abcb":
        pipeline.encode_prompt(prompt)
    assert pipeline.asked == 3
    pipeline.encode_prompt("a")  # two of 4000 bytes are kept
    assert pipeline.asked == 4


def test_encodings_wait_in_the_machines_memory_and_come_back_to_their_device():
    class Elsewhere(torch.Tensor):
        device = torch.device("cuda:1")
        moves = ()

        def to(self, device, **how):
            Elsewhere.moves += (str(device),)
            return self

    parked = acceleration._HostCopy([Elsewhere(), {"mask": None}])
    assert Elsewhere.moves == ("cpu",)
    assert parked.back()[1] == {"mask": None}
    assert Elsewhere.moves == ("cpu", "cuda:1")


def attentions(drawer):
    """The numbers of calls of the denoiser's first and of its last block."""
    calls = [0, 0]
    parts = drawer._pipeline.transformer.children()
    blocks = [block for part in parts if isinstance(part, torch.nn.ModuleList) for block in part]
    for number, block in enumerate((blocks[0], blocks[-1])):

        def count(*_, number=number):
            calls[number] += 1

        block.attn.register_forward_hook(count)
    return calls


@pytest.fixture
def lenient(monkeypatch):
    """What random weights do changes more from step to step than the threshold allows."""
    config = diffusers.FirstBlockCacheConfig
    monkeypatch.setattr(diffusers, "FirstBlockCacheConfig", lambda: config(threshold=100.0))


@pytest.mark.parametrize(("family", "passes"), [("flux", 1), ("qwen_image", 2)])
@pytest.mark.usefixtures("lenient")
def test_steps_are_reused(checkpoint, family, passes):
    """passes: of the denoiser in each step; Qwen-Image's guidance takes a second one."""
    drawer = drawer_of(checkpoint, family, steps=4, batch=2, step_cache=True)
    calls = attentions(drawer)
    images = drawn(drawer, CIRCLES[:2])
    # One by one, or what is skipped of an image would depend on the others.
    assert calls == [2 * 4 * passes, 2 * passes]
    assert drawn(drawer, CIRCLES[1::-1]) == images[::-1]
    assert images != drawn(drawer_of(checkpoint, family, steps=4), CIRCLES[:2])


@pytest.mark.usefixtures("lenient")
def test_a_drawing_that_failed_leaves_nothing_to_reuse(checkpoint, monkeypatch):
    drawer = drawer_of(checkpoint, "flux", step_cache=True)
    image = drawn(drawer, CIRCLES[:1])
    with monkeypatch.context() as patch:
        patch.setattr(drawer._pipeline, "vae", None)
        with pytest.raises(ModelError, match="cannot draw this"):
            drawer.draw(CIRCLES[1:2])
    assert drawn(drawer, CIRCLES[:1]) == image


def test_no_image_is_started_from_where_steps_are_reused(checkpoint):
    drawer = drawer_of(checkpoint, "flux", step_cache=True)
    with pytest.raises(UsageError, match="--step-cache serves no drawing that starts"):
        drawer.obstacle(replace(CIRCLES[0], start="00-0.png", strength=0.8))


def test_the_repeated_blocks_are_compiled(checkpoint):
    for compiled in (False, True):
        drawer = drawer_of(checkpoint, "flux", compile=compiled)
        transformer = drawer._pipeline.transformer
        blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        assert all((block._compiled_call_impl is not None) is compiled for block in blocks)
        assert transformer._compiled_call_impl is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("compile", "names no blocks of it to compile, so --compile does nothing"),
        ("step_cache", "not known to draw with steps skipped, so --step-cache does nothing"),
    ],
)
def test_a_family_that_has_neither_is_named_and_draws_as_ever(checkpoint, setting, said, caplog):
    plain = drawn(drawer_of(checkpoint, "sana"), CIRCLES[:1])
    with caplog.at_level(logging.WARNING):
        drawer = drawer_of(checkpoint, "sana", **{setting: True})
    assert "SanaPipeline: " in caplog.text
    assert said in caplog.text
    assert drawn(drawer, CIRCLES[:1]) == plain
