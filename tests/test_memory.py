"""Two models on one device, with a device that only counts bytes."""

import pytest
import torch

from gcr.errors import ModelError
from gcr.memory import WORKING_BYTES, SharedDevice

GIB = 1024**3


class Card:
    """A GPU of so many bytes, of which the models that are on it take theirs."""

    def __init__(self, size, *models):
        self.size = size
        self.models = models

    def free(self):
        return self.size - sum(model.bytes for model in self.models if model.place == "cuda")


class Model:
    def __init__(self, gib):
        self.bytes = gib * GIB
        self.place = "cpu"
        self.moves = []

    def weight_bytes(self):
        return self.bytes

    def move(self, device):
        self.place = device
        self.moves.append(device)


def shared(size, *models):
    return SharedDevice("cuda", Card(size, *models).free)


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


def test_a_model_that_was_loaded_onto_the_device_makes_room_too():
    generator, critic = Model(8), Model(4)
    critic.place = "cuda"
    device = shared(12 * GIB, generator, critic)
    device.hold(critic)
    assert device.run(generator, lambda: critic.place) == "cpu"
    assert device.run(critic, lambda: generator.place) == "cpu"


def test_clear_moves_every_model_out():
    generator = Model(8)
    device = shared(40 * GIB, generator)
    device.run(generator, lambda: None)
    device.clear()
    assert generator.place == "cpu"
    assert device.run(generator, lambda: generator.place) == "cuda"


def test_when_working_takes_more_than_thought_the_other_makes_room_and_the_work_is_done_again():
    generator, critic = Model(8), Model(4)
    device = shared(12 * GIB + WORKING_BYTES, generator, critic)
    device.run(critic, lambda: None)
    seen = []

    def draw():
        seen.append(critic.place)
        if critic.place == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB")
        return "drawn"

    assert device.run(generator, draw) == "drawn"
    assert seen == ["cuda", "cpu"]


def test_a_device_too_small_for_one_model_alone_is_a_model_error():
    generator = Model(8)
    device = shared(24 * GIB, generator)

    def draw():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 50 GiB.\nmore")

    with pytest.raises(ModelError, match="too small: CUDA out of memory") as caught:
        device.run(generator, draw)
    assert "smaller" in caught.value.hint
    assert "\n" not in caught.value.message


def test_nothing_moves_on_a_cpu():
    generator, critic = Model(8), Model(4)
    device = SharedDevice("cpu", lambda: 0)
    device.hold(critic)
    assert device.run(generator, lambda: "drawn") == "drawn"
    device.clear()
    assert generator.moves == critic.moves == []


def test_another_kind_of_error_is_not_taken_for_a_full_device():
    device = shared(24 * GIB)
    with pytest.raises(RuntimeError, match="shapes"):
        device.run(Model(1), lambda: (_ for _ in ()).throw(RuntimeError("shapes")).__next__())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_quantized_model_says_the_same_after_a_turn_outside():
    from bitsandbytes.nn import LinearNF4

    torch.manual_seed(0)
    layer = LinearNF4(256, 256, compute_dtype=torch.float32).to("cuda")
    question = torch.randn(2, 256, device="cuda")
    before = layer(question)
    after = layer.to("cpu").to("cuda")(question)
    assert torch.equal(before, after)
