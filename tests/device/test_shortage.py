"""What a GPU lacks, staged without one: memory, as all libraries say it, and number types."""

import logging
from contextlib import nullcontext

import pytest
import torch

from gcr.device import card
from gcr.device.card import TorchCard
from gcr.device.memory import SharedDevice
from gcr.device.out_of_memory import Ladder, is_out_of_memory
from gcr.device.residency import GIB
from gcr.engine import cluster
from gcr.errors import ModelError
from gcr.hub.checkpoints import named_errors

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


class Model:
    """One that does not fit on the device when it is alone there for the first time."""

    weight_bytes = part_bytes = GIB
    several = True
    kept_bytes = 0

    def __init__(self, error):
        self.error = error
        self.place = "cpu"

    def bring(self, device):
        raise self.error

    def release(self):
        self.place = "cpu"

    def by_parts(self, device):
        self.place = "parts"


class Card:
    """A GPU of 40 GiB. It has no bfloat16."""

    def room(self):
        return 40 * GIB

    def begin(self): ...

    def peak(self):
        return GIB

    def queue(self, number):
        return nullcontext()

    def has_bfloat16(self):
        return False


@pytest.mark.parametrize("error", SHORTAGES[:1] + SHORTAGES[7:8], ids=str)
def test_weights_that_find_no_memory_come_by_parts(error):
    model = Model(error)
    assert SharedDevice("cuda", card=Card()).run(model, lambda: model.place) == "parts"


def test_a_gpu_without_bfloat16_computes_in_float16_and_says_so_once(caplog):
    device = SharedDevice("cuda", card=Card())
    with caplog.at_level(logging.WARNING):
        assert device.dtype() is device.dtype("bfloat16") is torch.float16
        assert device.dtype("float32") is torch.float32
    assert [record.getMessage() for record in caplog.records] == [
        "this GPU has no bfloat16: models compute in float16, not all well"
    ]
    assert SharedDevice("cpu", card=Card()).dtype() is torch.float32


class Stream:
    def __init__(self):
        self.done = []

    def wait_stream(self, other): ...

    def synchronize(self):
        self.done.append("waited")


def test_a_queue_is_waited_for_also_where_work_raised(monkeypatch):
    stream, queues = Stream(), TorchCard("cuda")
    queues._streams[1] = stream
    monkeypatch.setattr(torch.cuda, "default_stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    with pytest.raises(RuntimeError, match="shapes"), queues.queue(1):
        raise RuntimeError("shapes")
    assert stream.done == ["waited"]


def test_workers_that_share_a_gpu_plan_with_their_part_of_it(monkeypatch):
    shares = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (60 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, number: shares.update({0: part})
    )
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: shares.get(0, 1.0))
    whole = TorchCard("cuda")
    assert whole.room() == 60 * GIB
    size, needs = cluster.portions([{"GPU": 1, "CPU": 8}], 4, 4)
    assert size == 4
    card.take_share(needs["num_gpus"])
    assert whole.room() == pytest.approx(80 / 4 * GIB - card.CONTEXT_BYTES)
