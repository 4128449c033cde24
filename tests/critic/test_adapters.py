"""Critics that are LoRA adapters, made on the spot on the embedded critic."""

import json
import shutil
import warnings

import pytest
import torch
from fakes import POCKET
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from gcr import pocket
from gcr.core.records import Request
from gcr.critic.critic import load as load_critic
from gcr.device.memory import SharedDevice
from gcr.engine import models
from gcr.errors import ModelError
from gcr.hub import checkpoints
from gcr.pocket import world

pytestmark = pytest.mark.usefixtures("cache")

CPU = SharedDevice("cpu")
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter as peft saves it, and the merged model that it must be equal to."""
    folder = tmp_path_factory.mktemp("lora")
    torch.manual_seed(1)
    base = AutoModelForImageTextToText.from_pretrained(pocket.CRITIC, dtype=torch.float32)
    targets = r".*language_model.*\.(q_proj|v_proj|down_proj)"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        model = get_peft_model(base, config)
    model.save_pretrained(folder / "adapter")
    shutil.copytree(pocket.CRITIC, folder / "merged")
    model.merge_and_unload().save_pretrained(folder / "merged")
    return folder


@pytest.fixture
def adapter(trained, tmp_path):
    """A copy of the adapter, to be changed."""
    return shutil.copytree(trained / "adapter", tmp_path / "adapter")


def change(adapter, **values):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replies(model, quantize):
    critic = load_critic(str(model), POCKET, CPU, quantize=quantize)
    scene = world.Scene("white", (world.Thing("circle", "red", 64, 64, 15),))
    images = [world.draw(scene), Image.new("RGB", (128, 128), "white")]
    return [critique.raw for critique in critic.judge([Request("a red circle")] * 2, images)]


def test_an_adapter_replies_as_the_model_it_is_merged_into(trained):
    ours = replies(trained / "adapter", "none")
    assert ours == replies(trained / "merged", "none")
    assert ours != replies("pocket:critic", "none")


def test_an_adapter_goes_on_a_base_in_4_bits_whose_copy_stays_as_it_is(adapter, cache):
    plain = replies("pocket:critic", "nf4")
    assert replies(adapter, "nf4") != plain
    assert replies("pocket:critic", "nf4") == plain
    tensors = load_file(adapter / WEIGHTS)
    save_file(
        {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, adapter / WEIGHTS
    )
    assert replies(adapter, "nf4") == plain


def test_what_an_adapter_is_of_goes_on_record(adapter):
    change(adapter, base_model_name_or_path="pocket:critic")
    assert checkpoints.base_of(str(adapter)) == "pocket:critic"
    before = models.revision(str(adapter))
    assert before.endswith(" on pocket:critic")
    tensors = load_file(adapter / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, adapter / WEIGHTS)
    assert models.revision(str(adapter)) != before


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"base_model_name_or_path": "nowhere/at/all"}, "which is not here"),
        ({"base_model_name_or_path": ""}, "names no base model"),
        ({"peft_type": "IA3"}, "of the kind IA3"),
        ({"megatron_config": {"a": 1}}, "code of its own"),
        ({"r": 10**9}, "a rank that no adapter has"),
        ({"rank_pattern": {"q_proj": 10**9}}, "a rank"),
        ({"r": 8}, "cannot be loaded|does not fit"),
        ({"target_modules": ["q_proj"]}, "does not fit"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_says_why(adapter, values, problem):
    change(adapter, **values)
    with pytest.raises(ModelError, match=problem):
        load_critic(str(adapter), POCKET, CPU, quantize="none")


def test_an_adapter_of_another_model_is_refused(adapter, checkpoint):
    change(adapter, base_model_name_or_path=checkpoint("qwen3_vl"))
    with pytest.raises(ModelError, match=r"does not fit|cannot be loaded"):
        load_critic(str(adapter), POCKET, CPU, quantize="none")


def test_only_weights_in_safetensors_are_read(adapter):
    torch.save(load_file(adapter / WEIGHTS), adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=f"without {WEIGHTS}"):
        load_critic(str(adapter), POCKET, CPU)
