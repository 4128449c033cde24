"""How many of torch's threads a model computes with."""

import threading

import pytest
import torch

from gcr.core.events import ignore
from gcr.core.records import Candidate
from gcr.critic import rubric
from gcr.device import threads
from gcr.engine import models
from gcr.engine.machine import ThisMachine
from gcr.hub import checkpoints
from gcr.settings.resolving import resolve


@pytest.fixture
def four(monkeypatch):
    """Four threads, and nobody who says how many."""
    for name in threads.CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_there_are_as_many_afterwards_as_before(four):
    with threads.at_most(1):
        assert torch.get_num_threads() == 1
        with threads.at_most(2):
            assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
    with threads.at_most(None):
        assert torch.get_num_threads() == 4


def test_limits_in_two_threads_leave_none_behind(four):
    entered, left = threading.Event(), threading.Event()

    def other():
        with threads.at_most(1):
            entered.set()
            assert left.wait(20)
        assert torch.get_num_threads() == 4

    thread = threading.Thread(target=other)
    with threads.at_most(1):
        thread.start()
        assert entered.wait(20)
    assert torch.get_num_threads() == 4
    left.set()
    thread.join()
    assert torch.get_num_threads() == 4


def test_the_embedded_pair_has_one_and_other_models_have_all(four, monkeypatch):
    assert checkpoints.threads("pocket:generator") == checkpoints.threads("pocket:critic") == 1
    assert checkpoints.threads("owner/name") is None
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert checkpoints.threads("pocket:critic") is None


def test_the_embedded_pair_draws_and_judges_with_one(four, tmp_path, monkeypatch):
    monkeypatch.setenv("GCR_CACHE", str(tmp_path))
    settings = resolve(
        {"steps": 2}, ThisMachine(), environ={"XDG_CONFIG_HOME": str(tmp_path)}, folder=tmp_path
    ).settings
    pair = models.load_models(settings, rubric.load(settings.rubric), ignore)
    drawer, critic = pair
    counted = []
    for model in (drawer._pipeline.transformer, critic.speaker.model):
        model.register_forward_pre_hook(lambda *_: counted.append(torch.get_num_threads()))
    drawn = drawer.draw([Candidate("a red circle", 1)])
    assert counted == [1, 1]
    critic.answer([drawn[0].image], ["is there a circle?"])
    assert set(counted) == {1}
    assert len(counted) > 2
    assert torch.get_num_threads() == 4
