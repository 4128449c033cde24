"""What batches promise, in figures: `make batch-figures`.

Kills, memory and time per prompt on fakes that draw at once, so that all that is seen is the work
of the batch itself; prompts per minute on the embedded pair, against a shell loop.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import test_batch_kill as kill

KILLS = 50
PROMPTS = 160
SHELL = 8

QUICK = """
import resource, sys, time
from fakes import FakeCritic, FakeGenerator
from gcr.engine import models
from gcr.__main__ import main

models.load_models = lambda *_, **__: (FakeGenerator(), FakeCritic({}))
start = time.perf_counter()
code = main()
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def tell(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def environ(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{kill.ROOT}{os.pathsep}{kill.ROOT / 'tests' / 'support'}",
        "XDG_CONFIG_HOME": str(folder / "config"),
        "GCR_CACHE": str(folder / "cache"),
    }


def start(folder: Path, *arguments: object, code: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code else ["-m", "gcr"]), *map(str, arguments)],
        cwd=folder,
        env=environ(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return output


def written(folder: Path, count: int) -> Path:
    path = folder / f"{count}.csv"
    path.write_text(
        "\n".join(["prompt,seed", *(f"a red circle {i},{i * 40}" for i in range(count))])
    )
    return path


def kills(folder: Path) -> None:
    """`kill -9` at random moments, each time resumed, against a batch nobody disturbed."""
    prompts, log = written(folder, PROMPTS), folder / "drawn.txt"
    options = ("--wave", kill.WAVE, "--rounds", 3, "--patience", 9)
    said(start(folder, "batch", prompts, "--into", "whole", *options, code=kill.TOOL))
    whole = kill.drawn(log)
    rng, count = random.Random("figures"), 0
    arguments: tuple[object, ...] = ("batch", prompts, "--into", "torn", *options)
    while count < KILLS:
        process = start(folder, *arguments, code=kill.TOOL)
        if not kill.killed(process, log, rng.randrange(2, 12), rng.uniform(0, 0.05)):
            break
        count += 1
        arguments = ("resume", "torn", "--wave", kill.WAVE)
    said(start(folder, *arguments, code=kill.TOOL))
    torn = kill.drawn(log)
    same = kill.images(folder / "torn") == kill.images(folder / "whole")
    tell(
        f"kills: {count}; images {len(whole)}, equal to the undisturbed batch's: {same}; "
        f"begun again, of rounds in flight: {torn.total() - whole.total()}"
    )


def growth(folder: Path) -> None:
    """Memory and time per prompt as batches grow."""
    for count in (10, 100, 1000):
        prompts = written(folder, count)
        process = start(folder, "batch", prompts, "--into", f"all-{count}", "-q", code=QUICK)
        seconds, kilobytes = said(process).split()[-2:]
        tell(
            f"{count} prompts: {float(seconds) / count * 1000:.1f} ms and {int(kilobytes) // 1024} "
            "MiB at most"
        )


def throughput(folder: Path) -> None:
    """Prompts per minute on the embedded pair: a shell loop, one by one in a process, in waves."""
    lines = (kill.ROOT / "examples" / "prompts" / "shapes.txt").read_text().splitlines()
    prompts = [lines[i % len(lines)] for i in range(SHELL)]
    file = folder / "shapes.txt"
    file.write_text("\n".join(prompts))
    began = time.perf_counter()
    for prompt in prompts:
        said(start(folder, "refine", prompt, "-q"))
    loop = time.perf_counter() - began
    tell(f"a shell loop over gcr refine: {SHELL * 60 / loop:.1f} prompts a minute")
    for wave in (1, SHELL):
        began = time.perf_counter()
        said(start(folder, "batch", file, "--wave", wave, "--into", f"wave-{wave}", "-q"))
        seconds = time.perf_counter() - began
        tell(
            f"gcr batch --wave {wave}: {SHELL * 60 / seconds:.1f}, {loop / seconds:.1f} times the "
            "loop"
        )


if __name__ == "__main__":
    for figure in (kills, growth, throughput):
        with TemporaryDirectory() as place:
            figure(Path(place))
