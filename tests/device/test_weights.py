"""Weights that come and go, with the machine's memory in the place of a GPU's."""

import bitsandbytes.functional
import bitsandbytes.nn
import numpy as np
import pytest
import tiny
import torch

from gcr.core.records import Candidate
from gcr.critic import loading
from gcr.device.memory import SharedDevice
from gcr.device.weights import Packed, Part, Weights, _tensors
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.drawing.pipelines import modules

CPU = SharedDevice("cpu")
SMALL = Sampling(width=64, height=64, steps=2, guidance=3.0, batch=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return tiny.qwen3_vl(tmp_path_factory.mktemp("critic") / "model")


@pytest.fixture(scope="module")
def critic(folder, repacks):
    """A 4-bit model that has run once."""
    model, _ = loading.load(folder, CPU)
    assert not any(packed(model))
    logits(model)
    assert set(packed(model)) == {repacks}
    return model


@torch.inference_mode()
def logits(model):
    return model(input_ids=torch.arange(12)[None]).logits


def addresses(module):
    return [tensor.data_ptr() for tensor, _ in _tensors(module)]


def states(model):
    held = [getattr(weight, "quant_state", None) for weight in model.parameters()]
    return [state for state in held if state is not None]


def packed(model):
    return [getattr(state, "packing_format_for_cpu", False) for state in states(model)]


def statistics(state):
    """The tensors of a quantization state; what is repacked has no nested ones."""
    nested = getattr(state, "state2", None)
    inner = () if nested is None else (nested.absmax, nested.code)
    return (state.absmax, state.code, *inner)


def test_a_4_bit_model_says_the_same_wherever_its_weights_are(critic):
    before, at_home = logits(critic), addresses(critic)
    part = Part(critic)
    part.release()
    assert addresses(critic) == at_home
    part.bring("cpu")
    away = addresses(critic)
    assert not set(at_home) & set(away)
    assert torch.equal(logits(critic), before)
    part.release()
    assert addresses(critic) == at_home  # nothing was copied back
    assert torch.equal(logits(critic), before)


@pytest.mark.parametrize("moved_before", ["release", "bring"])
def test_a_model_that_moved_before_its_first_run_says_the_same(folder, critic, moved_before):
    model, _ = loading.load(folder, CPU)
    part = Part(model)
    part.release()
    if moved_before == "bring":
        part.bring("cpu")
    for move in (lambda: None, part.release, lambda: part.bring("cpu"), part.release):
        move()
        assert torch.equal(logits(model), logits(critic))


def test_the_quantization_state_goes_with_the_weights(critic):
    assert states(critic)
    part = Part(critic)
    part.release()
    part.bring("cpu")
    there = {tensor.data_ptr() for tensor, _ in _tensors(critic)}
    for state in states(critic):
        assert {tensor.data_ptr() for tensor in statistics(state)} <= there
    part.release()


def test_repacked_weights_move_on_any_cpu(folder, monkeypatch):
    """What the first run on a CPU with AVX512-BF16 leaves, made without one."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    model, _ = loading.load(folder, CPU)
    part = Part(model)
    part.release()
    for weight in model.parameters():
        if getattr(weight, "quant_state", None) is not None:
            weight.data, _ = bitsandbytes.functional._convert_weight_packed_for_cpu(
                weight.data, weight.quant_state
            )
    before = [(place, tensor.clone()) for place, tensor in named(model)]
    assert all(packed(model))
    part.release()
    part.bring("cpu")
    assert [place for place, _ in named(model)] == [place for place, _ in before]
    for (_, tensor), (_, other) in zip(named(model), before, strict=True):
        assert torch.equal(tensor, other)


def named(model):
    """All weights, and the tensors of their quantization states."""
    for name, weight in model.named_parameters():
        yield name, weight.data
        if (state := getattr(weight, "quant_state", None)) is not None:
            yield from ((f"{name}.{i}", tensor) for i, tensor in enumerate(statistics(state)))


def test_bytes_count_the_quantization_state_and_what_is_shared_once(critic):
    state = sum(tensor.nbytes for state in states(critic) for tensor in statistics(state)[::2])
    plain = sum(t.nbytes for t in [*critic.parameters(), *critic.buffers()])
    assert Weights([critic]).weight_bytes >= plain + state
    shared = torch.nn.Linear(4, 4)
    tied = torch.nn.Sequential(shared, torch.nn.Linear(4, 4, bias=False))
    tied[1].weight = shared.weight
    assert Part(tied).bytes() == 4 * (16 + 4)
    Part(tied).bring("cpu")
    assert tied[1].weight is shared.weight


@pytest.mark.parametrize("family", ["stable_diffusion", "flux", "z_image"])
def test_parts_that_take_turns_draw_the_same_image(family, tmp_path, monkeypatch):
    torch.manual_seed(0)
    folder = getattr(tiny, family)(tmp_path / family)
    candidates = [Candidate("a red circle", 1), Candidate("a blue square", 2)]
    unmoved = generator.load(str(folder), SMALL, CPU)
    whole = [np.asarray(drawing.image) for drawing in unmoved.draw(candidates)]
    drawer = generator.load(str(folder), SMALL, CPU)
    there, moves = set(), []

    def bring(part, device, before=Part.bring):
        before(part, device)
        there.add(part)
        moves.append(type(part.module).__name__)
        assert len(there) == 1

    def release(part, before=Part.release):
        before(part)
        there.discard(part)

    monkeypatch.setattr(Part, "bring", bring)
    monkeypatch.setattr(Part, "release", release)
    drawer.weights.by_parts("cpu")
    for _ in range(2):
        again = [np.asarray(drawing.image) for drawing in drawer.draw(candidates)]
        assert all(map(np.array_equal, whole, again))
    assert moves[-1] == "AutoencoderKL"
    # Then the prompts are known, and only what denoises and what decodes has to come again.
    assert len(moves) == len(modules(drawer._pipeline)) + 2
    drawer.weights.release()
    assert not there
    assert np.array_equal(np.asarray(drawer.draw(candidates)[0].image), whole[0])
    assert not any(hasattr(part, "_hf_hook") for part in modules(drawer._pipeline))


def test_copies_share_blocks_and_keep_values_types_and_shapes():
    taken = []

    def allocate(size):
        taken.append(size)
        return torch.full((size,), 7, dtype=torch.uint8)

    packed = Packed(allocate, block=1024)
    tensors = [
        torch.randn(3, 5),
        torch.randn(4, 4).to(torch.bfloat16),
        torch.arange(7, dtype=torch.uint8),
        torch.tensor(0.5),
        torch.randn(6, 2).T,
        torch.randn(20, 20),  # larger than a block
        torch.empty(0),
    ]
    copies = [packed.copy(tensor) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        assert torch.equal(copy, tensor)
        assert (copy.dtype, copy.shape) == (tensor.dtype, tensor.shape)
    assert taken == [1024, 1024, 1600]


def test_parts_count_for_themselves(tmp_path):
    torch.manual_seed(0)
    drawer = generator.load(str(tiny.stable_diffusion(tmp_path / "sd")), SMALL, CPU)
    sizes = [Part(module).bytes() for module in modules(drawer._pipeline)]
    assert drawer.weights.weight_bytes == sum(sizes)
    assert drawer.weights.part_bytes == max(sizes) < sum(sizes)
    assert drawer.weights.several


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_quantized_layer_says_the_same_after_a_turn_outside():
    from bitsandbytes.nn import LinearNF4

    torch.manual_seed(0)
    layer = LinearNF4(256, 256, compute_dtype=torch.float32).to("cuda")
    question = torch.randn(2, 256, device="cuda")
    before = layer(question)
    part = Part(layer)
    part.release()
    assert layer.weight.device.type == "cpu"
    assert layer.weight.is_pinned()
    part.bring("cuda")
    assert torch.equal(layer(question), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parts_take_turns_on_a_gpu(tmp_path):
    torch.manual_seed(0)
    folder = str(tiny.stable_diffusion(tmp_path / "sd"))
    images = [
        np.asarray(
            generator.load(folder, SMALL, SharedDevice("cuda", wanted))
            .draw([Candidate("a red circle", 1)])[0]
            .image
        )
        for wanted in ("both", "offload")
    ]
    assert np.array_equal(*images)


def test_a_forward_that_is_no_hooks_stays_when_other_weights_of_the_model_go():
    model = torch.nn.Linear(2, 2)
    weights = Weights([model])
    model.forward = lambda x: x + 1
    del weights
    assert model.forward(1) == 2
