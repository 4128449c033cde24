"""Several runs at once in one process and in several that start together; what they import."""

import multiprocessing
import resource
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import tiny
import torch
from fakes import SCORES, FakeCritic, FakeGenerator

import gcr
from gcr.critic import loading, local, quantized
from gcr.critic.speaker import Decoding
from gcr.device.loading import Gate, _compiled_when_called
from gcr.device.memory import SharedDevice
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.engine import models, single
from gcr.errors import ModelError

CPU = SharedDevice("cpu")
LONG = 60  # seconds that nothing takes here
PROMPT = "two red circles and a blue star"


def at_once(*calls):
    """The results of calls that threads make at the same moment."""
    start = threading.Barrier(len(calls))

    def act(call):
        start.wait(LONG)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(act, calls))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, and nothing that earlier runs kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    return tmp_path


def shown(outcome):
    """All that a run drew and thought of it."""
    return [(a.sha256, a.score, a.critique.raw, a.candidate) for a in outcome.run.attempts]


def refined(folder="outputs"):
    return gcr.refine(PROMPT, profile="pocket", output=folder, rounds=2, images=1, seed=5)


def test_eight_runs_of_one_prompt_have_a_folder_each(place, monkeypatch):
    monkeypatch.setattr(
        models, "load_models", lambda *_, **__: (FakeGenerator(), FakeCritic(SCORES))
    )
    outcomes = at_once(*[lambda: gcr.refine("a red circle", rounds=2, images=2)] * 8)
    assert len({outcome.folder for outcome in outcomes}) == 8
    assert len({str(shown(outcome)) for outcome in outcomes}) == 1
    assert len(list((place / "outputs").iterdir())) <= 2  # a day, or two at midnight


def test_an_output_folder_is_tried_by_many_at_once(place, monkeypatch):
    """Each has removed its own trial file, and no other's."""
    for _ in range(20):
        at_once(*[lambda: single.runfolder.check_writable(place / "new" / "outputs")] * 8)
    assert list((place / "new" / "outputs").iterdir()) == []


def test_two_threads_refine_with_the_embedded_pair_as_one_would(place, one_core, caplog):
    both = at_once(refined, refined)
    alone = refined()
    assert shown(both[0]) == shown(both[1]) == shown(alone)
    assert len(list((place / "cache" / "critics").iterdir())) == 1
    assert caplog.text == ""  # the second took the first one's copy


def test_two_new_processes_refine_with_the_embedded_pair(place, one_core):
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as pool:
        both = list(pool.map(refined, ["outputs", "outputs"], timeout=10 * LONG))
    assert shown(both[0]) == shown(both[1])
    assert both[0].folder != both[1].folder
    assert len(list((place / "cache" / "critics").iterdir())) == 1


def test_a_critic_is_quantized_once_for_all_who_need_it(place, monkeypatch):
    torch.manual_seed(0)
    model = str(tiny.llava(place / "model"))
    monkeypatch.setattr(quantized, "WORTH_KEEPING", 0)
    times = []

    def nf4(*arguments, before=quantized.nf4):
        times.append(arguments)
        return before(*arguments)

    monkeypatch.setattr(quantized, "nf4", nf4)
    critics = at_once(*[lambda: loading.load(model, CPU)[0]] * 4)
    assert len(times) == 1
    with torch.inference_mode():
        logits = [critic(input_ids=torch.arange(8)[None]).logits for critic in critics]
    assert all(torch.equal(logits[0], other) for other in logits)


@pytest.mark.parametrize("first", ["loading", "working"])
def test_loading_has_the_process_to_itself(first):
    gate = Gate()
    second = {"loading": "working", "working": "loading"}[first]
    inside, go_on, passed = threading.Event(), threading.Event(), threading.Event()

    def hold():
        with getattr(gate, first)():
            inside.set()
            assert go_on.wait(LONG)
            assert not passed.is_set()

    def follow():
        assert inside.wait(LONG)
        with getattr(gate, second)():
            passed.set()

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(hold), pool.submit(follow)]
        assert inside.wait(LONG)
        assert not passed.wait(0.1)
        go_on.set()
        assert [result.result(LONG) for result in results] == [None, None]
    assert passed.is_set()


def test_work_goes_on_beside_work_and_inside_itself():
    gate = Gate()
    meet = threading.Barrier(3)

    def work():
        with gate.working(), gate.working():
            return meet.wait(LONG)

    assert sorted(at_once(work, work, work)) == [0, 1, 2]  # all three were inside together
    with gate.loading(), gate.loading(), gate.working():
        pass
    at_once(work, work, work)


def test_who_waits_to_load_goes_before_new_work():
    gate = Gate()
    order = []

    def load():
        with gate.loading():
            order.append("load")

    def work():
        with gate.working():
            order.append("work")

    with gate.working():
        loader = threading.Thread(target=load)
        loader.start()
        while not gate._waiting:
            assert loader.is_alive()
        worker = threading.Thread(target=work)
        worker.start()
        with gate.working():  # what is at work already may finish
            assert order == []
    loader.join(LONG)
    worker.join(LONG)
    assert order == ["load", "work"]


def test_a_model_works_under_the_usual_dtype_while_another_is_loaded(place, monkeypatch):
    """On a GPU libraries build models under bfloat16, for all threads of the process."""
    inside, seen = threading.Event(), []

    def build(*_, **__):
        torch.set_default_dtype(torch.bfloat16)
        inside.set()
        seen.append(working.wait(0.2))
        torch.set_default_dtype(torch.float32)
        raise OSError("no such weights")

    working = threading.Event()

    def work():
        assert inside.wait(LONG)
        return CPU.run(None, lambda: (working.set(), torch.zeros(1).dtype)[1])

    def load():
        with pytest.raises(ModelError, match="no such weights"):
            generator.load("pocket:generator", Sampling(), CPU)

    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", build)
    assert at_once(load, work) == [None, torch.float32]
    assert seen == [False]


def test_a_pipeline_that_cannot_be_built_leaves_no_dtype_behind(place):
    folder = tiny.stable_diffusion(place / "model")
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text().replace("DownBlock2D", "NoSuchBlock"))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ModelError):
            generator.load(str(folder), Sampling(), CPU)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)


def test_replies_that_are_sampled_in_two_threads_are_those_of_one(place):
    torch.manual_seed(0)
    speaker = local.LocalSpeaker(*loading.load(str(tiny.llava(place / "model")), CPU), CPU)
    chats = [[{"role": "user", "content": [{"type": "text", "text": "what is there ?"}]}]]
    decodings = [Decoding(24, temperature=2.0, seed=seed) for seed in range(4)]
    state = torch.random.get_rng_state()
    alone = [speaker.replies(chats, decoding) for decoding in decodings]
    together = at_once(*[lambda m=decoding: speaker.replies(chats, m) for decoding in decodings])
    assert together == alone
    assert len({str(replies) for replies in alone}) == 4
    assert torch.equal(torch.random.get_rng_state(), state)


# What is imported: each in a process of its own, as imports are for good


def in_a_process(code, spare=True):
    lines = (
        "import sys\n"
        "from gcr.device.loading import MODELS, spare\n"
        f"{'spare()' if spare else ''}\n"
        "from gcr.device.loading import imported\n"
        "imported(*MODELS)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines + code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_neither_compiler_nor_scipy_is_imported_for_models_that_only_answer():
    imported = in_a_process(
        "from diffusers import DPMSolverMultistepScheduler, LMSDiscreteScheduler\n"
        "from transformers import LlavaForConditionalGeneration\n"
        "large = ('torch._inductor.compile_fx', 'scipy.optimize', 'scipy.stats._stats_py')\n"
        "print('torch', *(name for name in large if name in sys.modules))"
    )
    assert imported == ["torch"]


def test_a_scheduler_that_needs_scipy_has_it():
    steps = in_a_process(
        "from diffusers import DPMSolverMultistepScheduler, LMSDiscreteScheduler\n"
        "solver = DPMSolverMultistepScheduler(use_beta_sigmas=True, algorithm_type='dpmsolver++')\n"
        "solver.set_timesteps(4); print(len(solver.sigmas))\n"
        "lms = LMSDiscreteScheduler(); lms.set_timesteps(4)\n"
        "print(round(lms.get_lms_coefficient(1, 0, 0), 3) < 0)\n"
        "from scipy import stats; import scipy.stats\n"
        "print(stats.norm.cdf(0), scipy.stats.norm.cdf(0))"
    )
    assert steps == ["5", "True", "0.5", "0.5"]


def test_a_function_is_compiled_by_its_first_call():
    import torch

    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    double = _compiled_when_called(lambda x: x * 2, backend=backend)
    assert not compiled
    assert double(torch.ones(1)).item() == double(torch.ones(1)).item() == 2
    assert len(compiled) == 1


def test_in_a_process_of_others_nothing_is_left_out():
    """A training of detectors in the same process needs scipy in transformers' losses."""
    code = (
        "from transformers.loss import loss_for_object_detection as losses\n"
        "import scipy.stats\n"
        "print(hasattr(losses, 'linear_sum_assignment'), 'norm' in dir(scipy.stats))"
    )
    assert in_a_process(code, spare=False) == ["True", "True"]


def test_a_disk_without_room_for_temporary_files_is_called_that():
    """Torch itself asks for a folder of such files while it is imported."""
    ran = subprocess.run(
        [sys.executable, "-m", "gcr", "refine", "a red circle", "-q"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines() == [
        "error: no folder for temporary files can be written to: the disk may be full",
        "hint:  free space, or name a folder with TMPDIR",
    ]
