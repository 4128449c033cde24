"""Drawing and judging at the same time: the loop's two halves, and two models on one device."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import SCORES, FakeCritic, FakeGenerator, images
from rich.console import Console

import gcr
from gcr.__main__ import main
from gcr.core.background import in_background, is_busy
from gcr.core.events import ignore
from gcr.core.loop import refine
from gcr.core.records import Candidate, Request, Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import Refine
from gcr.critic import rubric
from gcr.device.memory import GIB, SharedDevice
from gcr.engine import batching, models
from gcr.engine.machine import ThisMachine
from gcr.engine.models import load_models
from gcr.settings.resolving import resolve
from gcr.ui.batch_terminal import BatchTerminal

LONG = 20  # seconds that nothing takes here
SOON = 0.2  # seconds in which what nothing holds up would most often have begun
RULE = StopRule(rounds=3, patience=9)


def always():
    return True


def runs(count):
    return [Run(name, Request(f"a cat named {name}")) for name in "abcdefgh"[:count]]


def untimed(run):
    rounds = [
        replace(
            one,
            attempts=tuple(replace(a, draw_seconds=0, judge_seconds=0) for a in one.attempts),
        )
        for one in run.rounds
    ]
    return replace(run, rounds=tuple(rounds))


class Staged(FakeGenerator):
    """Lets the critic begin with what was drawn before, and with nothing else, while it draws."""

    def __init__(self):
        super().__init__()
        self.drawing = threading.Event()
        self.judged = threading.Event()

    def draw(self, candidates, starts=(), sources=()):
        if len(self.calls) == 2:  # those of the first two of four runs
            self.drawing.set()
            assert self.judged.wait(LONG), "nothing is judged while the other half is drawn"
        return super().draw(candidates, starts, sources)


class Watching(FakeCritic):
    def __init__(self, generator):
        super().__init__({})
        self.generator = generator
        self.threads = []

    def judge(self, requests, images, sources=()):
        self.threads.append(threading.current_thread())
        if not self.calls:
            assert self.generator.drawing.wait(LONG), "nothing is drawn while one half is judged"
            self.generator.judged.set()
        return super().judge(requests, images, sources)


def test_one_half_is_drawn_while_the_other_is_judged():
    generator = Staged()
    critic = Watching(generator)
    steps = list(refine(runs(4), generator, critic, Refine(2, 0), RULE, overlap=always))
    assert [step.run.id for step in steps] == list("abcd" * 3)
    assert [len(call) for call in generator.calls] == [2] * 12
    assert [len(call) for call in critic.calls] == [4] * 6
    *aside_, last = critic.threads
    assert threading.current_thread() not in aside_
    assert threading.current_thread() is last  # nothing is left to draw beside it


@pytest.mark.parametrize("count", [1, 2, 5])
def test_runs_are_the_same_in_halves(count):
    critic = FakeCritic({seed: seed * 0.07 for seed in range(12)})
    found = []
    for overlap in (lambda: False, always):
        steps = refine(runs(count), FakeGenerator(), critic, Refine(2, 0), RULE, overlap=overlap)
        found.append(sorted((untimed(s.run) for s in steps), key=lambda r: (len(r.rounds), r.id)))
    assert found[0] == found[1]
    assert len(found[0]) == 3 * count


def test_what_is_left_of_two_halves_is_halved_again():
    """Runs a and b stop after one round; c and d go on, one drawn while the other is judged."""

    class Strategy:
        def propose(self, run):
            return (Candidate(run.request.prompt, len(run.rounds) + 10 * (run.id in "cd")),)

    generator, critic = FakeGenerator(), FakeCritic({0: 1.0})
    list(refine(runs(4), generator, critic, Strategy(), RULE, overlap=always))
    assert [len(call) for call in critic.calls] == [2, 2, 1, 1, 1, 1]


def test_a_round_is_not_lost_where_drawing_for_the_other_half_fails():
    generator = FakeGenerator(fails=RuntimeError("no more paint"))
    steps = refine(runs(2), generator, FakeCritic({}), Refine(2, 0), RULE, overlap=always)
    assert next(steps).run.id == "a"
    with pytest.raises(RuntimeError, match="no more paint"):
        next(steps)


def test_what_the_critic_raises_is_raised():
    class Failing(FakeCritic):
        def judge(self, requests, images, sources=()):
            raise RuntimeError("no words")

    with pytest.raises(RuntimeError, match="no words"):
        list(refine(runs(2), FakeGenerator(), Failing({}), Refine(2, 0), RULE, overlap=always))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_pause_ends_the_loop_where_all_that_is_drawn_is_judged(overlap):
    generator, critic = FakeGenerator(), FakeCritic({})
    steps = list(
        refine(
            runs(4),
            generator,
            critic,
            Refine(2, 0),
            RULE,
            overlap=lambda: overlap,
            pause=lambda: len(generator.calls) >= 6,
        )
    )
    assert sum(map(len, generator.calls)) == sum(map(len, critic.calls))
    assert len(generator.calls) == (6 if overlap else 8)
    assert all(step.run.stop is None for step in steps)


def test_ctrl_c_does_not_wait_for_the_critic():
    class Slow(FakeCritic):
        def judge(self, requests, images, sources=()):
            threads.append(threading.current_thread())
            assert released.wait(LONG)
            return super().judge(requests, images, sources)

    threads, released, critic = [], threading.Event(), Slow({})
    generator = FakeGenerator(fails=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(refine(runs(2), generator, critic, Refine(2, 0), RULE, overlap=always))
    assert critic.calls == []  # it was at it still
    released.set()
    threads[0].join(LONG)
    assert not threads[0].is_alive()


def test_the_command_line_leaves_the_process_alone_though_something_is_at_work_aside(monkeypatch):
    """As it is called by tests and other programs; the next test has what `gcr` itself does."""
    released = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"the process ends with {code}"))
    monkeypatch.setattr(sys, "argv", ["gcr", "--version"])
    waiting = in_background(lambda: released.wait(LONG))
    assert main() == 0
    assert is_busy()
    released.set()
    assert waiting()


def test_the_loop_asks_each_time_whether_both_can_work():
    """At first nothing was measured; later memory ran out."""
    answers = iter([False, True, True, True, False])
    generator, critic = FakeGenerator(), FakeCritic({})
    overlap = lambda: next(answers, False)  # noqa: E731
    steps = list(refine(runs(2), generator, critic, Refine(2, 0), RULE, overlap=overlap))
    assert [len(call) for call in critic.calls] == [4, 2, 2, 2, 2]
    assert [step.run.id for step in steps] == list("ababab")


def test_python_ends_though_torch_is_at_work_aside(tmp_path):
    """Torn down under a thread that is in torch, it would abort."""
    code = """if True:
        import threading
        import torch
        from gcr import __main__
        from gcr.cli import app
        from gcr.core.background import in_background

        at_work = threading.Event()

        def work():
            torch.set_num_threads(1)
            while True:
                torch.ones(256, 256) @ torch.ones(256, 256)
                at_work.set()

        def run(_):
            in_background(work)
            at_work.wait()
            print("saved")
            return 130

        app.run = run
        __main__.entry()
    """
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "saved\n", "")


def test_the_view_stays_quiet_when_it_is_over():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    view = BatchTerminal(console)
    view.begin(2, 0)
    view.progress("draw", 1, 4)
    view.progress("judge", 2, 10)
    assert set(view._lines._rows) == {"draw", "judge", "batch"}
    view.progress("draw", 4, 4)
    assert set(view._lines._rows) == {"judge", "batch"}
    view.end()
    view.progress("judge", 3, 10)  # a critic that nobody waits for
    assert (view._lines._progress, view._lines._rows) == (None, {})


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A generator and a critic that can work at once, for all that is run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    generator, critic = FakeGenerator(), FakeCritic(SCORES)
    critic.overlaps = True
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (generator, critic))
    return generator, critic


def test_a_batch_is_the_same_with_both_at_work(fakes):
    _, critic = fakes
    prompts = ["a red circle", "two blue stars", "a green square"]
    gcr.batch(prompts, into="both", rounds=2, overlap=True)
    assert {len(call) for call in critic.calls} == {2, 4}  # of one prompt, and of two
    critic.calls.clear()
    gcr.batch(prompts, into="turns", rounds=2)
    assert {len(call) for call in critic.calls} == {6}
    assert images("both") == images("turns")
    recorded = [json.loads(Path(f"{name}/batch.json").read_text()) for name in ("both", "turns")]
    assert "overlap" not in recorded[0]["settings"]
    assert recorded[0]["settings"] == recorded[1]["settings"]


def test_seconds_that_are_a_budget_are_measured_one_after_the_other(fakes):
    _, critic = fakes
    gcr.batch(["a red circle", "two blue stars"], into="b", max_seconds=60, overlap=True)
    assert {len(call) for call in critic.calls} == {4}


@pytest.mark.parametrize("overlap", [False, True])
def test_a_batch_that_was_stopped_goes_on_to_the_same_images(fakes, overlap):
    generator, _ = fakes
    prompts = ["a red circle", "two blue stars", "a green square"]
    gcr.batch(prompts, into="whole", rounds=3)
    drawn = sum(map(len, generator.calls))
    generator.calls.clear()
    plan = batching.plans.make(
        prompts, resolve({"rounds": 3, "overlap": overlap}, ThisMachine()).settings
    )
    with pytest.raises(batching.BatchInterrupted):
        batching.run(plan, Path("b"), batching.Pace(), stop=lambda: len(generator.calls) >= 2)
    batching.resume(Path("b"), overlap=overlap)
    assert images("b") == images("whole")
    assert sum(map(len, generator.calls)) == drawn  # none of them twice


def test_prompts_can_be_measured_while_others_are_drawn(one_core):
    """The guards do so in the critic's thread, and a tokenizer can be asked by one at a time."""
    settings = resolve({"steps": 2}, ThisMachine()).settings
    drawer, _ = load_models(settings, rubric.load(settings.rubric), ignore)
    done = threading.Event()

    def measure():
        while not done.is_set():
            assert drawer.excess("a red circle and a blue star " * 3) == ""

    measured = in_background(measure)
    try:
        for seed in range(6):
            drawer.draw([Candidate(f"a red circle {seed}", seed)])
    finally:
        done.set()
    measured()


class Card:
    """A GPU of 40 GiB, of which any work takes so many beside the weights."""

    def __init__(self, *models):
        self.models = models
        self.working = 3 * GIB
        self.queues = []

    def room(self):
        return 40 * GIB

    def begin(self): ...

    def peak(self):
        return self.working + sum(model.weight_bytes for model in self.models)

    def queue(self, number):
        self.queues.append(number)
        return nullcontext()


class Model:
    several = False
    kept_bytes = 0

    def __init__(self, gib):
        self.weight_bytes = self.part_bytes = gib * GIB
        self.moves = []

    def bring(self, device):
        self.moves.append(device)

    def release(self):
        self.moves.append("cpu")


def pair(generator=8, critic=4):
    models = Model(generator), Model(critic)
    card = Card(*models)
    device = SharedDevice("cuda", card=card)
    for model in models:
        device.join(model)
    return device, card, *models


def both_at_work(device, first, second, patience=LONG):
    """Whether the second model gets to work, in so many seconds, while the first is at it."""
    began, done = threading.Event(), threading.Event()

    def work():
        began.set()
        done.wait(LONG)

    waiting = in_background(lambda: device.run(first, work))
    assert began.wait(LONG)
    beside = threading.Event()
    other = in_background(lambda: device.run(second, beside.set))
    met = beside.wait(patience)
    done.set()
    waiting()
    other()
    return met


def test_two_models_work_at_once_where_it_is_known_that_there_is_room():
    device, card, generator, critic = pair()
    assert not device.side_by_side()  # what they take is not known yet
    assert not both_at_work(device, generator, critic, SOON)
    assert set(card.queues) == {0}
    assert device.side_by_side()
    assert both_at_work(device, generator, critic)
    assert set(card.queues) == {0, 1}
    assert generator.moves == critic.moves == ["cuda"]


def test_two_models_take_turns_where_there_is_no_room_for_both_at_work():
    device, card, generator, critic = pair()
    card.working = 15 * GIB
    device.run(generator, lambda: None)
    device.run(critic, lambda: None)
    assert device.plan().mode == "both"
    assert not device.side_by_side()
    assert not both_at_work(device, generator, critic, SOON)


def test_one_model_is_never_at_two_works():
    device, _, generator, critic = pair()
    device.run(critic, lambda: None)
    device.run(generator, lambda: None)
    assert not both_at_work(device, generator, generator, SOON)


def test_what_is_taken_by_two_is_not_taken_for_one():
    device, card, generator, critic = pair()
    device.run(critic, lambda: None)
    device.run(generator, lambda: None)
    card.working = 6 * GIB
    assert both_at_work(device, generator, critic)
    assert device.footprint(generator).working == 3 * GIB
    assert device.peak_bytes == 18 * GIB


def test_where_two_run_out_of_memory_they_go_on_one_at_a_time(caplog):
    device, _, generator, critic = pair()
    device.run(critic, lambda: None)
    device.run(generator, lambda: None)
    began, done = threading.Event(), threading.Event()
    tries = []

    def draw():
        began.set()
        assert done.wait(LONG)
        return "drawn"

    def judge():
        tries.append(done.is_set())
        if not done.is_set():
            threading.Timer(0.1, done.set).start()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "judged"

    drawn = in_background(lambda: device.run(generator, draw))
    assert began.wait(LONG)
    assert device.run(critic, judge) == "judged"
    assert drawn() == "drawn"
    assert tries == [False, True]
    assert not device.side_by_side()
    assert "the models work one at a time from here on" in caplog.text
    assert generator.moves == critic.moves == ["cuda"]
