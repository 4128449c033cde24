"""Models that nobody needs any more are gone at once, and not when Python looks for circles."""

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
import tiny
import torch
from fakes import SCORES, FakeCritic, FakeGenerator
from PIL import Image
from tiny import FAMILIES

import gcr
from gcr.comparison import evaluators
from gcr.core.records import Candidate
from gcr.critic import loading, local
from gcr.device.memory import SharedDevice
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.engine import models

SMALL = Sampling(width=64, height=64, steps=2)
CIRCLE = Candidate("a red circle", 1)


@pytest.fixture(autouse=True)
def no_search_for_circles():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def modules_of(*models):
    return [weakref.ref(part) for model in models for part in model.modules()]


def alive(references):
    return [type(reference()).__name__ for reference in references if reference() is not None]


@pytest.mark.parametrize(
    ("family", "sampling"),
    [
        ("stable_diffusion", SMALL),
        ("pixart", SMALL),
        ("flux", SMALL),
        ("flux", replace(SMALL, step_cache=True)),
        ("flux", replace(SMALL, compile=True)),
    ],
)
def test_a_generator_is_gone_once_it_is_dropped(family, sampling, tmp_path):
    torch.manual_seed(0)
    folder = getattr(tiny, family)(tmp_path / "model")
    sampling = replace(sampling, call=FAMILIES[family])
    drawer = generator.load(str(folder), sampling, SharedDevice("cpu"))
    if not sampling.compile:  # which takes long
        drawer.draw([CIRCLE])
    if family == "pixart":
        start = Image.new("RGB", (64, 64), "red")
        drawer.draw([replace(CIRCLE, start="00-0.png", strength=0.5)], [start])
        drawer.draw([replace(CIRCLE, mutations=(3,), strength=0.5)])
    references = [weakref.ref(drawer), weakref.ref(drawer._pipeline)]
    references += modules_of(*generator.pipelines.modules(drawer._pipeline))
    del drawer
    assert alive(references) == []


def test_a_generator_whose_parts_took_turns_is_gone_once_it_is_dropped(tmp_path):
    torch.manual_seed(0)
    folder = tiny.stable_diffusion(tmp_path / "model")
    drawer = generator.load(str(folder), SMALL, SharedDevice("cpu"))
    drawer.weights.by_parts("cpu")
    drawer.draw([CIRCLE])
    references = modules_of(*generator.pipelines.modules(drawer._pipeline))
    del drawer
    assert alive(references) == []


@pytest.mark.parametrize("family", ["qwen3_vl", "llava"])
def test_a_critic_is_gone_once_it_is_dropped(family, tmp_path, monkeypatch):
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    device = SharedDevice("cpu")
    loaded = loading.load(str(getattr(tiny, family)(tmp_path / "model")), device)
    speaker = local.LocalSpeaker(*loaded, device)
    chats = [[{"role": "user", "content": [{"type": "text", "text": "a"}]}]]
    speaker.replies(chats, local.Decoding(3))
    speaker.yes(chats)
    references = [weakref.ref(speaker), weakref.ref(loaded[1]), *modules_of(loaded[0])]
    del speaker, loaded
    assert alive(references) == []


REWARDS = """if True:
    import gc, weakref
    from PIL import Image
    import gcr
    from gcr.results import rewards

    load, references = rewards.load_critic, []

    def watched(*arguments):
        print([type(one()).__name__ for one in references if one() is not None])
        critic = load(*arguments)
        references.extend(map(weakref.ref, critic.speaker.model.modules()))
        return critic

    rewards.load_critic = watched
    gc.disable()
    for score in ("reply", "soft"):
        gcr.reward([Image.effect_noise((64, 64), 50)], ["a red circle"], unscored=0.0, score=score)
    print(len(references) > 99)
"""


def test_the_critic_of_one_reward_is_gone_before_that_of_the_next_is_loaded(tmp_path):
    """In a process of its own: what libraries keep, they keep when they are imported first."""
    environment = {**os.environ, "GCR_CACHE": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", REWARDS], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["[]", "[]", "True"]


def test_the_pair_is_gone_before_an_evaluator_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    references = []

    def pair(*_, **__):
        models = FakeGenerator(), FakeCritic(SCORES)
        references.extend(map(weakref.ref, models))
        return models

    class Evaluator:
        def score(self, samples):
            return ((sample.id, 0.5) for sample in samples)

    def load(*_):
        assert references
        assert alive(references) == []
        return Evaluator()

    monkeypatch.setattr(models, "load_models", pair)
    monkeypatch.setattr(evaluators, "load", load)
    gcr.compare(["a red circle", "a blue star"], into="c", rounds=1, max_images=2)
