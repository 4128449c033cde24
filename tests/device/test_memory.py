"""Two models on one device, with a device that only counts bytes."""

import logging
from contextlib import nullcontext

import pytest
import torch

from gcr.device import memory
from gcr.device.memory import GIB, MODES, WORKING_BYTES, Card, Footprint, SharedDevice, plan
from gcr.engine import cluster
from gcr.errors import ModelError


class CountingCard:
    """A GPU of so many bytes, without bfloat16, of which models take theirs.

    working: what any work takes beside.
    """

    def __init__(self, size, *models):
        self.size = size
        self.models = models
        self.working = WORKING_BYTES

    def room(self):
        return self.size

    def begin(self): ...

    def peak(self):
        return self.working + sum(model.there() + model.kept_bytes for model in self.models)

    def queue(self, number):
        return nullcontext()

    def has_bfloat16(self):
        return False


class Model:
    """Weights of so many GiB, in parts of so many."""

    def __init__(self, *gib):
        self.sizes = [size * GIB for size in gib]
        self.place = "cpu"
        self.moves = []

    weight_bytes = property(lambda self: sum(self.sizes))
    part_bytes = property(lambda self: max(self.sizes))
    several = property(lambda self: len(self.sizes) > 1)
    kept_bytes = 0

    def there(self):
        return {"cpu": 0, "cuda": self.weight_bytes, "parts": self.part_bytes}[self.place]

    def bring(self, device):
        self._to(device)

    def release(self):
        self._to("cpu")

    def by_parts(self, device):
        self._to("parts")

    def _to(self, place):
        self.place = place
        self.moves.append(place)


def shared(size, *models, wanted="auto"):
    device = SharedDevice(
        "cuda", wanted, CountingCard(size, *models), smaller=lambda gib: f"{gib:g} GiB fit"
    )
    for model in models:
        device.join(model)
    return device


def test_both_stay_where_they_fit_with_room_to_work():
    generator, critic = Model(8), Model(4)
    device = shared(12 * GIB + WORKING_BYTES, generator, critic)
    for _ in range(3):
        assert device.run(generator, lambda: generator.place) == "cuda"
        assert device.run(critic, lambda: critic.place) == "cuda"
    assert generator.moves == critic.moves == ["cuda"]


def test_they_take_turns_where_both_leave_no_room_to_work():
    generator, critic = Model(8), Model(4)
    device = shared(12 * GIB + WORKING_BYTES - 1, generator, critic)
    for _ in range(2):
        assert device.run(generator, lambda: (generator.place, critic.place)) == ("cuda", "cpu")
        assert device.run(critic, lambda: (generator.place, critic.place)) == ("cpu", "cuda")
    assert generator.moves == ["cuda", "cpu", "cuda", "cpu"]


def test_parts_take_turns_where_one_model_alone_leaves_no_room():
    generator, critic = Model(8, 2), Model(4)
    device = shared(10 * GIB + WORKING_BYTES - 1, generator, critic)
    assert device.run(generator, lambda: (generator.place, critic.place)) == ("parts", "cpu")
    assert device.run(critic, lambda: (generator.place, critic.place)) == ("cpu", "cuda")
    assert device.plan().mode == "offload"


@pytest.mark.parametrize(
    ("wanted", "places"),
    [("both", ("cuda", "cuda")), ("swap", ("cuda", "cpu")), ("offload", ("parts", "cpu"))],
)
def test_a_residency_that_is_asked_for_is_what_happens(wanted, places):
    generator, critic = Model(8, 2), Model(4)
    device = shared(80 * GIB, generator, critic, wanted=wanted)
    device.run(critic, lambda: None)
    assert device.run(generator, lambda: (generator.place, critic.place)) == places
    assert device.tighten(generator) == ""  # a person decided


def test_a_model_that_was_loaded_onto_the_device_makes_room_too():
    generator, critic = Model(8), Model(4)
    critic.place = "cuda"
    device = SharedDevice("cuda", card=CountingCard(12 * GIB, generator, critic))
    device.join(critic, resident=True)
    device.join(generator)
    assert device.run(generator, lambda: critic.place) == "cpu"
    assert device.run(critic, lambda: generator.place) == "cpu"


def test_clear_moves_every_model_out():
    generator = Model(8)
    device = shared(40 * GIB, generator)
    device.run(generator, lambda: None)
    device.clear()
    assert generator.place == "cpu"
    assert device.run(generator, lambda: generator.place) == "cuda"


def test_what_work_takes_is_measured_and_planned_with():
    generator, critic = Model(8), Model(4)
    device = shared(20 * GIB, generator, critic)
    device._card.working = 9 * GIB
    assert device.plan().mode == "both"
    device.run(generator, lambda: None)
    assert device.footprint(generator).working == 9 * GIB
    assert device.footprint(critic).working == WORKING_BYTES
    assert device.plan().mode == "swap"
    device.run(critic, lambda: None)
    assert generator.place == "cpu"
    device.measure_anew(generator)
    assert device.footprint(generator).working == WORKING_BYTES
    assert device.peak_bytes == 17 * GIB


def test_what_a_model_keeps_for_later_is_no_need_of_the_others():
    generator, critic = Model(8), Model(4)
    device = shared(20 * GIB, generator, critic)
    critic.kept_bytes = 3 * GIB
    device.run(generator, lambda: None)
    assert device.footprint(generator).working == WORKING_BYTES
    assert device.spare() == 12 * GIB - WORKING_BYTES  # the critic is not there yet
    device.run(critic, lambda: None)
    assert device.footprint(critic).working == WORKING_BYTES + 3 * GIB
    assert device.spare() == 5 * GIB - WORKING_BYTES
    generator, critic = Model(8), Model(4)
    turns = shared(12 * GIB, generator, critic)
    for _ in range(2):
        turns.run(generator, lambda: None)
        turns.run(critic, lambda: None)
    assert turns.spare() == 8 * GIB - WORKING_BYTES  # the generator has left


def test_less_and_less_is_left_on_a_device_that_is_full():
    generator, critic = Model(8, 2), Model(4)
    device = shared(80 * GIB, generator, critic)
    device.run(critic, lambda: None)
    assert "two models take turns" in device.tighten(critic)
    assert device.tighten(critic) == ""  # it has no parts
    assert "parts of the generator" in device.tighten(generator)
    assert device.tighten(generator) == ""
    assert device.run(generator, lambda: (generator.place, critic.place)) == ("parts", "cpu")


def test_weights_that_do_not_fit_after_all_are_brought_by_parts():
    class Greedy(Model):
        def bring(self, device):
            super().bring(device)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 50 GiB.\nmore")

    generator, critic = Greedy(8, 2), Model(4)
    device = shared(80 * GIB, generator, critic)
    assert device.run(generator, lambda: generator.place) == "parts"
    alone = Greedy(8)
    with pytest.raises(ModelError, match="too small: CUDA out of memory") as caught:
        shared(12 * GIB, alone).run(alone, lambda: None)
    assert caught.value.hint.endswith("or take smaller models; 12 GiB fit")
    assert "\n" not in caught.value.message
    assert alone.place == "cpu"


def test_nothing_moves_on_a_cpu():
    generator, critic = Model(8), Model(4)
    device = SharedDevice("cpu")
    device.join(critic, resident=True)
    assert device.run(generator, lambda: "drawn") == "drawn"
    device.clear()
    assert device.tighten(generator) == ""
    assert generator.moves == critic.moves == []


def test_another_kind_of_error_is_not_taken_for_a_full_device():
    device = shared(24 * GIB)
    with pytest.raises(RuntimeError, match="shapes"):
        device.run(Model(1), lambda: (_ for _ in ()).throw(RuntimeError("shapes")).__next__())


@pytest.mark.parametrize(
    ("free", "mode"), [(27, "both"), (26, "swap"), (20, "swap"), (19, "offload"), (2, "offload")]
)
def test_a_plan_is_the_first_mode_that_fits(free, mode):
    models = [Footprint(16 * GIB, 8 * GIB, 4 * GIB), Footprint(7 * GIB, 7 * GIB, 2 * GIB)]
    planned = plan(MODES, models, free * GIB)
    assert (planned.mode, planned.fits) == (mode, free >= 12)
    assert ("too much" in str(planned)) == (free < 12)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("another process took it"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_weights_that_find_no_memory_come_by_parts(monkeypatch, error):
    """Though they would fit, were they alone."""

    def bring(device):
        raise error

    model = Model(1, 1)
    monkeypatch.setattr(model, "bring", bring)
    assert shared(40 * GIB, model).run(model, lambda: model.place) == "parts"


def test_a_gpu_without_bfloat16_computes_in_float16_and_says_so_once(caplog):
    device = SharedDevice("cuda", card=CountingCard(40 * GIB))
    with caplog.at_level(logging.WARNING):
        assert device.dtype() is device.dtype("bfloat16") is torch.float16
        assert device.dtype("float32") is torch.float32
    assert [record.getMessage() for record in caplog.records] == [
        "this GPU has no bfloat16: models compute in float16, not all well"
    ]
    assert SharedDevice("cpu", card=CountingCard(40 * GIB)).dtype() is torch.float32


class Stream:
    def __init__(self):
        self.done = []

    def wait_stream(self, other): ...

    def synchronize(self):
        self.done.append("waited")


def test_a_queue_is_waited_for_also_where_work_raised(monkeypatch):
    stream, queues = Stream(), Card("cuda")
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
    whole = Card("cuda")
    assert whole.room() == 60 * GIB
    size, needs = cluster.portions([{"GPU": 1, "CPU": 8}], 4, 4)
    assert size == 4
    memory.take_share(needs["num_gpus"])
    assert whole.room() == pytest.approx(80 / 4 * GIB - memory.CONTEXT_BYTES)
