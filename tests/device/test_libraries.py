"""What is imported of the large libraries. Each in a process of its own: imports are for good."""

import resource
import subprocess
import sys

from gcr.device import libraries


def in_a_process(code, spare=True):
    lines = (
        "import sys\n"
        "from gcr.device.libraries import MODELS, spare\n"
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

    double = libraries._compiled_when_called(lambda x: x * 2, backend=backend)
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
