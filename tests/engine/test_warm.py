"""Models that stay loaded from one run to the next, on the embedded pair."""

import json
from dataclasses import replace

import pytest
import torch
from fakes import SCORES, FakeCritic, FakeGenerator
from safetensors.torch import save_file

import gcr
from gcr.engine import judging, models, single
from gcr.engine.machine import ThisMachine
from gcr.engine.parts import CHANGEABLE, Warm
from gcr.settings.resolving import resolve
from gcr.settings.schema import FIELDS

PROMPT = "two red circles and a blue star"


@pytest.fixture
def warm():
    warm = Warm()
    yield warm
    warm.release()


@pytest.fixture
def loads(monkeypatch):
    """The settings that models were loaded for."""
    made, load, load_critic = [], models.load_models, models.load_critic

    def counted(settings, *others, **how):
        made.append(settings)
        return load(settings, *others, **how)

    def critic_counted(settings, *others):
        made.append(replace(settings, generator=""))
        return load_critic(settings, *others)

    monkeypatch.setattr(models, "load_models", counted)
    monkeypatch.setattr(models, "load_critic", critic_counted)
    return made


def images(folder):
    return {path.name: path.read_bytes() for path in folder.glob("0*.png")}


def test_a_warm_run_draws_and_says_what_a_cold_one_does(warm, loads, tmp_path, monkeypatch):
    """With another prompt, other steps, another seed and another way of scoring before it."""
    monkeypatch.chdir(tmp_path)
    other = {"rounds": 1, "images": 1, "steps": 6, "seed": 9, "score": "soft"}
    single.run("a green square", resolve(other, ThisMachine()).settings, warm=warm)
    flags = {"rounds": 2, "images": 2, "seed": 3, "patience": 9}
    outcome = gcr.refine(PROMPT, warm=warm, **flags)
    assert len(loads) == 1
    cold = gcr.refine(PROMPT, **flags)
    assert images(outcome.folder) == images(cold.folder)
    told = [[(a.critique.raw, a.score) for a in o.run.attempts] for o in (outcome, cold)]
    assert told[0] == told[1]
    assert outcome.run.settings == cold.run.settings


def test_the_critic_of_a_pair_judges_alone_and_one_that_was_loaded_alone_stays(
    warm, loads, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = resolve({"rounds": 1, "images": 1}, ThisMachine()).settings
    image = tmp_path / "image.png"
    judged = gcr.refine(PROMPT, rounds=1, images=1)
    image.write_bytes((judged.folder / "00-0.png").read_bytes())
    loads.clear()
    rankings = [judging.critique(image, PROMPT, settings, warm=warm) for _ in range(2)]
    assert [made.generator for made in loads] == [""]
    single.run(PROMPT, settings, warm=warm)
    rankings.append(judging.critique(image, PROMPT, settings, warm=warm))
    assert [made.generator for made in loads] == ["", "pocket:generator"]
    assert {ranking.judgements[0].score for ranking in rankings} == {judged.raw.score}


@pytest.fixture
def fakes(monkeypatch):
    """The settings that fakes were loaded for, which any other settings can be adapted to."""
    made = []

    def load(settings, *_, **__):
        made.append(settings)
        return FakeGenerator(), FakeCritic(SCORES)

    monkeypatch.setattr(models, "load_models", load)
    monkeypatch.setattr(models, "adapt", lambda drawer, critic, *_: (drawer, critic))
    return made


def test_what_shapes_weights_has_them_loaded_anew(warm, fakes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = resolve({"rounds": 1}, ThisMachine()).settings
    for change in ({}, {"dtype": "auto"}, {"judge_batch": 1}, {}, {}):
        single.run(PROMPT, replace(settings, **change), warm=warm)
    assert [made.dtype for made in fakes] == ["float32", "auto", "float32", "float32"]


def test_files_that_were_replaced_are_loaded_anew(warm, fakes, tmp_path, monkeypatch):
    """Else the record would have the hash of weights that nothing was drawn with."""
    monkeypatch.chdir(tmp_path)
    vae = tmp_path / "vae.safetensors"
    settings = replace(resolve({"rounds": 1}, ThisMachine()).settings, vae=str(vae))
    recorded = []
    for size in (1, 1, 2, 2):
        save_file({"decoder.conv_in.weight": torch.zeros(size)}, vae)
        folder = single.run("a red circle", settings, warm=warm).folder
        recorded.append(json.loads((folder / "run.json").read_bytes())["revisions"]["vae"])
    assert len(fakes) == len(set(recorded)) == 2


def test_released_models_are_gone(warm, tmp_path, monkeypatch):
    import gc
    import weakref

    monkeypatch.chdir(tmp_path)
    single.run(PROMPT, resolve({"rounds": 1, "images": 1}, ThisMachine()).settings, warm=warm)
    models_of = [weakref.ref(warm._pair[0]._pipeline), weakref.ref(warm._pair[1].speaker.model)]
    assert warm.names == ("pocket:generator", "pocket:critic")
    warm.release()
    gc.collect()
    assert [model() for model in models_of] == [None, None]
    assert warm.names == ()


def test_settings_that_need_no_loading_are_settings():
    assert set(FIELDS) > CHANGEABLE
