"""Handing prompts out to workers, on fakes and in this process: who gets what, and who dies."""

import json
import logging
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import SCORES, FakeCritic, FakeGenerator, images

import gcr
from gcr.core.events import Notice, PromptFinished
from gcr.engine import batching, cluster, crew, models, plan
from gcr.engine.batching import BatchInterrupted
from gcr.engine.crew import Hand, Worker, WorkerDiedError, environment
from gcr.engine.machine import ThisMachine
from gcr.engine.plan import Pace
from gcr.errors import GcrError, UsageError
from gcr.files import locks
from gcr.settings.resolving import resolve

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "pink")
PROMPTS = [f"a {colour} circle" for colour in COLOURS]


class Killed(BaseException):
    """What a fake raises to have its worker die."""


class Deadly(FakeGenerator):
    """Kills its worker when it draws some prompts, so many times."""

    def __init__(self, prompt="", times=0):
        super().__init__()
        self.prompt = prompt
        self.times = times

    def draw(self, candidates, starts=(), sources=()):
        for candidate in candidates:
            if self.times and candidate.prompt.startswith(self.prompt):
                self.times -= 1
                raise Killed
        return super().draw(candidates, starts, sources)

    @property
    def drawn(self):
        return sorted((c.prompt, c.seed) for call in self.calls for c in call)


class Crew:
    """Workers in this process; each does its work when it is asked what came of it."""

    def __init__(self, order, near, size):
        self.order = order
        self.near = near
        self.size = size
        self.workers = {}
        self.calls = {}
        self.hands = []
        self.hired = 0

    def hire(self, number):
        self.hired += 1
        worker = self.workers[number] = Worker()
        self.calls[number] = lambda: worker.load(self.order, self.near, {})

    def hand(self, number, path, hand):
        self.hands.append([job.id for job in hand.jobs])
        self.calls[number] = lambda: self.workers[number].work(path, hand)

    def stop(self):
        for worker in self.workers.values():
            worker.stop()

    def ended(self, seconds):
        return list(self.calls)[:1]

    def outcome(self, number):
        call = self.calls.pop(number)
        try:
            return call()
        except Killed:
            raise WorkerDiedError("out of memory") from None


class Seen:
    def __init__(self):
        self.warned = []
        self.results = []

    def __call__(self, event):
        if isinstance(event, Notice):
            self.warned.append((event.message, event.hint))
        elif isinstance(event, PromptFinished):
            self.results.append(event.result.id)


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """`gcr.batch(ray=…)` on fakes and a crew of this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    @contextmanager
    def crew(order, near, address, workers, jobs):
        tool.crew = Crew(order, near, workers)
        yield tool.crew

    def tool(into="b", workers=2, ray="local", **options):
        return gcr.batch(
            PROMPTS, into=into, ray=ray, workers=workers, on_event=tool.view, **options
        )

    tool.generator, tool.critic, tool.view = Deadly(), FakeCritic(SCORES), Seen()
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (tool.generator, tool.critic))
    monkeypatch.setattr(cluster, "crew", crew)
    return tool


def test_hands_grow_smaller_so_that_all_workers_end_together(tool):
    outcome = tool(rounds=2)
    assert tool.crew.hands == [["1", "2", "3", "4"], ["5", "6"], ["7"]]
    assert [result.id for result in outcome.results] == ["1", "2", "3", "4", "5", "6", "7"]
    assert tool.view.results == ["1", "2", "3", "4", "5", "6", "7"]
    assert outcome.failures == ()
    assert tool("small", rounds=1, wave=2).failures == ()
    assert [len(hand) for hand in tool.crew.hands] == [2, 2, 2, 1]


def test_images_are_those_of_one_process(tool):
    tool(rounds=2)
    tool("alone", ray=None, workers=None, rounds=2)
    assert images("b") == images("alone")


def test_the_prompts_of_a_dead_worker_go_on_from_their_saved_rounds(tool):
    tool("whole", ray=None, workers=None, rounds=2)
    whole = tool.generator.drawn
    tool.generator = Deadly("the prompt after 1", times=1)  # of a second round
    outcome = tool(rounds=2, images=2)
    assert outcome.failures == ()
    assert images("b") == images("whole")
    assert tool.crew.hands == [["1", "2", "3", "4"], ["5", "6"], ["7"], ["1"], ["2"], ["3"], ["4"]]
    assert tool.crew.hired == 3
    assert tool.generator.drawn == whole  # the one that died drew no second round
    assert tool.view.warned == [
        ("worker 1 died at 1, 2, 3…: out of memory",
         "another takes its place, and goes on from saved rounds")
    ]  # fmt: skip


def test_what_workers_log_as_a_warning_is_told_once(tool):
    class Full(Deadly):
        def draw(self, candidates, starts=(), sources=()):
            logging.getLogger("gcr.device.out_of_memory").warning("out of memory: 1 image at once")
            logging.getLogger("gcr.device.out_of_memory").info("a detail")
            return super().draw(candidates, starts, sources)

    tool.generator = Full()
    tool(rounds=1)
    assert tool.view.warned == [("out of memory: 1 image at once", "")]


def test_a_prompt_that_kills_its_workers_ends_the_batch_when_all_others_are_done(tool):
    tool.generator = Deadly(PROMPTS[1], times=99)
    with pytest.raises(GcrError, match="no worker is left, each died 3 times in a row") as caught:
        tool(rounds=1)
    assert "out of memory" in caught.value.message
    assert sorted(tool.view.results) == ["1", "3", "4", "5", "6", "7"]
    assert 99 - tool.generator.times <= 3 * 2 + 1
    tool.generator.times = 0
    assert [r.failure for r in tool(rounds=1).results] == [""] * 7
    assert tool.crew.hands == [["2"]]


def test_workers_that_cannot_load_end_the_batch(tool, monkeypatch):
    def die(*_, **__):
        raise Killed

    monkeypatch.setattr(models, "load_models", die)
    with pytest.raises(GcrError, match="no worker is left"):
        tool()
    assert tool.crew.hired == 6
    assert not (Path("b") / "batch.json").exists()


def test_one_worker_is_left_to_do_the_work(tool):
    load = models.load_models
    loads = iter([0, 1, 1, 1])

    def die(*arguments, **options):
        if next(loads):
            raise Killed
        return load(*arguments, **options)

    models.load_models = die  # the fixture puts it back
    assert len(tool(rounds=1).results) == 7
    assert tool.view.warned[-1][1] == "no other takes its place (deaths in a row: 3)"


def test_stopping_ends_all_hands_after_their_round(tool, monkeypatch):
    asked = []
    judge = tool.critic.judge

    def judging(*arguments):
        if len(tool.critic.calls) == 2:
            asked.append(True)
            tool.crew.stop()  # as the other thread of a worker hears it
        return judge(*arguments)

    monkeypatch.setattr(tool.critic, "judge", judging)
    order = plan.make(PROMPTS, resolve({"rounds": 3}, ThisMachine()).settings)
    pace = Pace(2, ray="local", workers=2)
    with pytest.raises(BatchInterrupted) as caught:
        batching.run(order, Path("b"), pace, stop=lambda: bool(asked))
    outcome = caught.value.outcome
    assert len(outcome.results) + outcome.unfinished == 7
    assert outcome.unfinished
    monkeypatch.setattr(tool.critic, "judge", judge)
    assert len(batching.resume(Path("b"), pace).results) == 7
    assert len(tool.generator.drawn) == 7 * 3 * 2  # none was drawn twice


def test_enough_failures_stop_the_batch(tool):
    tool.critic = FakeCritic({}, None)
    outcome = tool(rounds=1, wave=1, max_failures=2)
    # Two, and the one that the other worker had in hand.
    assert (len(outcome.failures), outcome.unfinished) == (3, 4)
    again = tool(rounds=1, workers=1)  # the lines of those three do not change
    assert len(again.failures) == 7
    assert len(tool.view.results) == 3 + 7


def test_prompts_of_other_processes_are_left_to_them(tool):
    tool("b", ray=None, workers=None, rounds=1, shard="1/7")
    Path("b/runs/3").mkdir()
    with locks.claimed(Path("b/runs/3")):
        outcome = tool(rounds=1)
    assert (outcome.busy, len(outcome.results)) == (1, 6)


class Patience(threading.Event):
    """Tells a worker to go on; lets go of a claim while the worker waits for the second time."""

    def __init__(self, claim):
        super().__init__()
        self.claim = claim
        self.waits = 0

    def wait(self, timeout=None):
        self.waits += 1
        if self.waits == 2:
            self.claim.release()
        return False


def test_a_claim_that_a_dead_worker_left_behind_is_waited_for(tool, monkeypatch):
    """As on a file server that has not yet noticed that a machine is gone."""
    tool.generator = Deadly(PROMPTS[0], times=1)
    Path("b/runs/1").mkdir(parents=True)
    bury, waited = crew.Handout._bury, []

    def burying(self, number, *arguments):
        waited.append(Patience(locks.take(Path("b/runs/1"))))
        bury(self, number, *arguments)
        tool.crew.workers[number]._stop = waited[0]

    monkeypatch.setattr(crew.Handout, "_bury", burying)
    outcome = tool(rounds=1, workers=1)
    assert (outcome.busy, len(outcome.results)) == (0, 7)
    assert [patience.waits for patience in waited] == [2]


def test_every_worker_warns_of_the_same_only_once(tool):
    tool.generator.excess = lambda prompt: "77 tokens are read"
    tool(rounds=1)
    assert [message for message, _ in tool.view.warned if "tokens" in message] == [
        "prompts, row 1: the prompt is too long: 77 tokens are read (and so with 6 more)"
    ]


def test_a_worker_that_does_not_see_the_folder_says_so(tool, tmp_path):
    order = plan.make(PROMPTS, resolve({}, ThisMachine()).settings)
    worker = Worker()
    with pytest.raises(UsageError, match=r"the worker on .* does not see the folder .*nowhere"):
        worker.load(order, tmp_path / "nowhere", {})
    worker.load(order, tmp_path, {})
    with pytest.raises(UsageError, match="does not see the folder"):
        worker.work(tmp_path / "nowhere", Hand(order.jobs))


def test_a_worker_elsewhere_knows_what_connections_it_may_make(tool, monkeypatch, tmp_path):
    order = plan.make(PROMPTS, resolve({}, ThisMachine()).settings)
    monkeypatch.setattr(
        os, "environ", {"GCR_OFFLINE": "1", "GCR_API_KEY": "k", "OMP_NUM_THREADS": ""}
    )
    known = environment()
    assert known == {"GCR_OFFLINE": "1", "GCR_API_KEY": "k"}
    monkeypatch.setattr(os, "environ", {"HOME": "/elsewhere", "OMP_NUM_THREADS": "3"})
    Worker().load(order, tmp_path, known)
    assert os.environ == {"HOME": "/elsewhere", "OMP_NUM_THREADS": "3", **known}


def test_a_server_on_this_machine_is_not_that_of_the_others(tool, monkeypatch):
    tool(rounds=1, ray="auto", critic="http://localhost:8000/v1#x")
    assert [m for m, _ in tool.view.warned if "localhost" in m] == [
        "each worker asks http://localhost:8000/v1#x on its own machine"
    ]
    tool.view.warned.clear()
    tool("c", rounds=1, ray="local", critic="http://localhost:8000/v1#x")
    tool("d", rounds=1, ray="auto", critic="http://there:8000/v1#x")
    assert not [m for m, _ in tool.view.warned if "own machine" in m]


@pytest.mark.parametrize(
    ("machines", "wanted", "size", "needs"),
    [
        ([{"CPU": 2.0}], None, 1, {"num_cpus": 2}),
        ([{"CPU": 2.0}], 2, 2, {"num_cpus": 1}),
        ([{"CPU": 2.0}], 5, 5, {"num_cpus": 0}),
        ([{"CPU": 1.0}], None, 1, {"num_cpus": 1}),
        ([{"CPU": 16.0}], 1, 1, {"num_cpus": 16}),
        ([{"CPU": 8.0}, {"CPU": 3.0}], None, 5, {"num_cpus": 2}),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}, {"GPU": 1.0}], None, 3, {"num_gpus": 1}),
        ([{"CPU": 8.0, "GPU": 4.0}], 2, 2, {"num_gpus": 1}),
        ([{"CPU": 8.0, "GPU": 2.0}], 3, 3, {"num_gpus": 0.5}),
        ([{"CPU": 8.0, "GPU": 1.0}], 6, 6, {"num_gpus": 0.1666}),
    ],
)
def test_workers_find_room(machines, wanted, size, needs):
    assert cluster.portions(machines, wanted, 100) == (size, needs)


def test_few_prompts_have_few_workers_each_with_a_whole_gpu():
    assert cluster.portions([{"CPU": 8.0, "GPU": 2.0}], 8, 2) == (2, {"num_gpus": 1})
    assert cluster.portions([{"CPU": 8.0, "GPU": 4.0}], None, 1) == (1, {"num_gpus": 1})
    assert cluster.portions([{"CPU": 8.0}], None, 2) == (2, {"num_cpus": 4})


def test_folders_of_models_are_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    settings = resolve({"generator": "models", "critic": "owner/critic"}, ThisMachine()).settings
    there = cluster._elsewhere(plan.make(PROMPTS, settings)).settings
    assert (there.generator, there.critic) == (str(tmp_path / "models"), "owner/critic")


def test_what_ray_says_of_a_death_is_one_line():
    said = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file."
        " Some common causes include: (1) the process was killed by the OOM killer"
    )
    reason = "Worker unexpectedly exits with a connection error code 2. End of file"
    assert cluster._reason(RuntimeError(said)) == reason
    assert cluster._reason(RuntimeError("gone.\n")) == "gone"


def test_what_rays_threads_print_is_logged_and_all_else_is_not(capsys, caplog):
    caplog.set_level(logging.INFO)
    with cluster._aside():
        print("the result")  # noqa: T201
        thread = threading.Thread(target=lambda: print("a worker died"), name="ray_x")  # noqa: T201
        thread.start()
        thread.join()
    assert capsys.readouterr().out == "the result\n"
    assert caplog.messages == ["a worker died"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ray", "local"), "there is no Ray on this machine"),
        (("--workers", "2"), "--workers needs --ray"),
        (("--ray", "local", "--workers", "0"), "--workers should be at least 1"),
    ],
)
@pytest.mark.parametrize("command", ["batch", "resume"])
def test_wrong_usage_is_refused(cli, monkeypatch, command, options, message):
    Path("p.txt").write_text("a red circle\na blue star\n")
    cli("batch", "p.txt", "--into", "b", "--rounds", "1", "--shard", "1/2")
    monkeypatch.setitem(sys.modules, "ray", None)
    given = {"batch": ("batch", "p.txt"), "resume": ("resume", "b")}[command]
    ran = cli(*given, *options)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_single_run_needs_no_ray(cli):
    run = json.loads(cli("refine", "a red circle", "--rounds", "1", "--json").out)
    ran = cli("resume", run["folder"], "--ray", "local")
    assert ran.code == 2
    assert "--ray is for batches" in ran.err
