"""What is done when memory runs out, with work that says so."""

import logging
from itertools import chain

import numpy as np
import pytest
import tiny
import torch

from gcr.core.records import Candidate
from gcr.critic import loading, local
from gcr.device.memory import SharedDevice
from gcr.device.out_of_memory import Ladder, is_out_of_memory
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.errors import ModelError
from gcr.hub.checkpoints import named_errors

CPU = SharedDevice("cpu")


class Work:
    """Runs out of memory with more than `room` items at once."""

    def __init__(self, room):
        self.room = room
        self.sizes = []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore")
        return [item * 10 for item in batch]


def flat(results):
    return list(chain.from_iterable(results))


def test_the_batch_is_halved_and_what_is_done_stays_done(caplog):
    work, ladder = Work(3), Ladder(8, "images drawn")
    with caplog.at_level(logging.WARNING):
        assert flat(ladder.each(range(10), work)) == [10 * i for i in range(10)]
    assert work.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert "out of memory: 4 images drawn at once from here on" in caplog.text
    assert flat(ladder.each(range(2), work)) == [0, 10]
    assert work.sizes[-1] == 2  # remembered


def test_what_was_done_before_memory_ran_out_is_not_done_again():
    seen = []

    def work(batch):
        if len(seen) == 4 and len(batch) == 4:
            raise torch.OutOfMemoryError("another process took it")
        seen.extend(batch)
        return batch

    assert flat(Ladder(4, "images").each(range(8), work)) == list(range(8))
    assert seen == list(range(8))


def test_a_limit_that_is_lower_than_the_size_holds():
    work = Work(9)
    flat(Ladder(8, "images").each(range(3), work, most=2))
    assert work.sizes == [2, 1]


def test_at_one_at_a_time_one_thing_after_another_is_given_up(caplog):
    work, steps = Work(0), ["images are decoded in tiles", "the models take turns"]

    def relieve():
        if len(steps) == 1:
            work.room = 1
        return steps.pop(0) if steps else ""

    ladder = Ladder(2, "images", relieve)
    with caplog.at_level(logging.WARNING):
        assert flat(ladder.each(range(2), work)) == [0, 10]
    assert work.sizes == [2, 1, 1, 1, 1]
    assert "out of memory: the models take turns from here on" in caplog.text


def test_in_the_end_it_is_an_error_that_says_what_would_fit():
    ladder = Ladder(1, "images", hint=lambda: "take a smaller profile")
    with pytest.raises(ModelError, match="too small: CUDA out of memory") as caught:
        flat(ladder.each([1], Work(0)))
    assert caught.value.hint == "take a smaller profile"
    assert "\n" not in caught.value.message


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def work(_):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        flat(Ladder(4, "images").each(range(4), work))


def scarce(monkeypatch, owner, name, room):
    """Have a method of an object run out of memory with more than so many items."""
    before = getattr(owner, name)

    def limited(batch, *rest):
        if len(batch) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return before(batch, *rest)

    monkeypatch.setattr(owner, name, limited)


def test_a_generator_draws_every_image_though_memory_runs_out(tmp_path, monkeypatch):
    torch.manual_seed(0)
    sampling = Sampling(width=64, height=64, steps=1, batch=4)
    steps = []
    drawer = generator.load(
        str(tiny.stable_diffusion(tmp_path / "sd")), sampling, CPU, lambda *step: steps.append(step)
    )
    candidates = [Candidate("a red circle", seed) for seed in range(5)]
    alone = [drawer.draw([candidate])[0] for candidate in candidates]
    steps.clear()
    scarce(monkeypatch, drawer, "_draw_batch", [2])

    drawings = drawer.draw(candidates)

    assert [drawing.batch for drawing in drawings] == [2, 2, 2, 2, 1]
    for drawing, other in zip(drawings, alone, strict=True):
        assert abs(np.asarray(drawing.image).astype(int) - np.asarray(other.image)).max() <= 1
    assert steps[-1] == ("draw", 5, 5)
    assert drawer.ladder.size == 2


def test_a_generator_decodes_in_tiles_before_it_gives_up(tmp_path, monkeypatch):
    torch.manual_seed(0)
    sampling = Sampling(width=64, height=64, steps=1, batch=1)
    drawer = generator.load(str(tiny.stable_diffusion(tmp_path / "sd")), sampling, CPU)
    scarce(monkeypatch, drawer, "_draw_batch", [0])
    with pytest.raises(ModelError, match="too small"):
        drawer.draw([Candidate("a red circle", 1)])
    assert drawer._pipeline.vae.use_tiling


def test_a_critic_answers_every_chat_though_memory_runs_out(tmp_path, monkeypatch):
    torch.manual_seed(0)
    loaded = loading.load(tiny.qwen3_vl(tmp_path / "critic"), CPU)
    speaker = local.LocalSpeaker(*loaded, CPU, batch=4)
    chats = [[{"role": "user", "content": [{"type": "text", "text": str(i)}]}] for i in range(5)]
    whole = speaker.replies(chats, local.Decoding(3)), speaker.yes(chats)
    scarce(monkeypatch, speaker, "_speak", [2])
    assert speaker.replies(chats, local.Decoding(3)) == whole[0]
    assert speaker.ladder.size == 2
    assert speaker.yes(chats) == pytest.approx(whole[1], abs=1e-4)


# The errors of all libraries

SHORTAGES = [
    torch.OutOfMemoryError("another process took it"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB, other allocations: 1 GB"),
    torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in"),
    RuntimeError("HIP error: out of memory"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("miopenStatusAllocFailed"),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x4 and 2x3)"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    ValueError("CUDA out of memory"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_a_lack_of_memory_has_many_names(error):
    assert is_out_of_memory(error)

    def work(batch):
        if len(batch) > 1:
            raise error
        return batch

    assert list(Ladder(2, "images").each([1, 2], work)) == [[1], [2]]
    with pytest.raises(ModelError, match="x does not fit on the GPU"), named_errors("x"):
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_what_is_no_lack_of_memory_is_not_tried_again(error):
    tries = []

    def work(batch):
        tries.append(batch)
        raise error

    with pytest.raises(type(error)):
        list(Ladder(2, "images").each([1, 2], work))
    assert len(tries) == 1
