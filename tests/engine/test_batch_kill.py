"""`kill -9` at random moments: what is on disk is gone on with, and comes to the same images."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fakes import images, summary

from gcr.pocket import world

ROOT = Path(__file__).parents[2]
PROMPTS = 9
WAVE = 4

# The tool on fakes that take their time, and write down each image before they draw it.
TOOL = """
import sys, time
from fakes import FakeCritic, FakeGenerator
from gcr.engine import models, single
from gcr.__main__ import main

class Slow(FakeGenerator):
    def draw(self, candidates, starts=(), sources=()):
        with open("drawn.txt", "a") as file:
            file.write("draw\\n" + "".join(f"{c.prompt}, {c.seed}\\n" for c in candidates))
        time.sleep(0.03)
        return super().draw(candidates, starts, sources)

scores = {seed: 0.1 + seed * 37 % 80 / 100 for seed in range(400)}
models.load_models = lambda *_, **__: (Slow(), FakeCritic(scores))
sys.exit(main())
"""


@pytest.fixture
def start(tmp_path):
    """Start `gcr` with these arguments in an empty folder; `fake`: on slow fakes."""
    environ = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "GCR_CACHE": str(tmp_path / "cache"),
    }

    def start(*arguments, fake=True):
        code = ["-c", TOOL] if fake else ["-m", "gcr"]
        return subprocess.Popen(
            [sys.executable, *code, *map(str, arguments)],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process):
    said, _ = process.communicate()
    assert process.returncode == 0, said


def killed(process, log, calls, wait):
    """Kill a process `wait` seconds after it began so many more draws; False: it ended before."""

    def begun():
        return log.read_text().count("draw\n") if log.exists() else 0

    goal = begun() + calls
    with process:
        while process.poll() is None and begun() < goal:
            time.sleep(0.005)
        time.sleep(wait)
        process.kill()
        process.communicate()
    return process.returncode < 0


def drawn(log):
    """How often each image was begun."""
    counted = Counter(log.read_text().splitlines())
    del counted["draw"]
    log.unlink()
    return counted


def rounds_begun(folder):
    return [path for path in folder.rglob("rounds.jsonl") if path.stat().st_size]


@pytest.fixture
def prompts(tmp_path):
    """A prompt file whose images all differ, and where its images are logged."""
    pairs = world.PAIRS[:PROMPTS]
    rows = [f"a {colour} {shape},{i * 40}" for i, (colour, shape) in enumerate(pairs)]
    (tmp_path / "p.csv").write_text("\n".join(["prompt,seed", *rows]))
    return tmp_path / "drawn.txt"


def test_a_batch_killed_at_random_moments_equals_an_uninterrupted_one(start, prompts, tmp_path):
    options = ("--wave", WAVE, "--rounds", 3, "--patience", 9)
    finish(start("batch", "p.csv", "--into", "whole", *options))
    whole = drawn(prompts)
    assert set(whole.values()) == {1}

    rng = random.Random("kill")
    arguments = ("batch", "p.csv", "--into", "torn", *options)
    kills = 0
    while kills < 40:
        calls, wait = rng.randrange(2, 9), rng.uniform(0, 0.05)
        if not killed(start(*arguments), prompts, calls, wait):
            break
        kills += 1
        arguments = ("resume", "torn", "--wave", WAVE)
    finish(start(*arguments))
    assert kills >= 4
    assert images(tmp_path / "torn") == images(tmp_path / "whole")
    assert summary(tmp_path / "torn") == summary(tmp_path / "whole")
    torn = drawn(prompts)
    assert set(torn) == set(whole)
    assert torn.total() - whole.total() <= kills * WAVE * 2  # images of the round in flight


def test_processes_share_a_folder_without_doing_a_prompt_twice(start, prompts, tmp_path):
    arguments = ("batch", "p.csv", "--into", "shared", "--wave", 2, "--rounds", 2)
    for process in [start(*arguments) for _ in range(3)]:
        finish(process)
    assert set(drawn(prompts).values()) == {1}
    assert len(summary(tmp_path / "shared")) == PROMPTS


@pytest.mark.slow
def test_the_embedded_pair_goes_on_where_it_was_killed(start, tmp_path):
    prompts = tmp_path / "shapes.txt"
    lines = (ROOT / "examples" / "prompts" / "shapes.txt").read_text().splitlines()[:3]
    prompts.write_text("\n".join(lines))
    options = ("--rounds", 2, "--images", 1, "--wave", 2, "--no-compare")
    finish(start("batch", prompts, "--into", "whole", *options, fake=False))
    with start("batch", prompts, "--into", "torn", *options, fake=False) as process:
        while process.poll() is None and len(rounds_begun(tmp_path / "torn")) < 2:
            time.sleep(0.01)
        process.kill()
        process.communicate()
    assert process.returncode < 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "torn").rglob("0*.png")}
    assert before
    finish(start("resume", "torn", "--wave", 3, fake=False))
    assert images(tmp_path / "torn") == images(tmp_path / "whole")
    assert summary(tmp_path / "torn") == summary(tmp_path / "whole")
    assert len(summary(tmp_path / "torn")) == 3


MOMENTS = 60
EVALUATOR = ("--evaluator", "command:sed s,.*,0.5,")
COMMANDS = {
    "refine": ("refine", "a red circle", "-s", 7, "--rounds", 12, "--patience", 99),
    "batch": ("batch", "p.csv", "--wave", WAVE, "--rounds", 3, "--patience", 9),
    "compare": ("compare", "p.csv", "--wave", WAVE, "--max-images", 6, *EVALUATOR),
}


def finished(folder):
    """The lines of all rounds, by their files, and the images that they name, which are whole."""
    lines, pictures = {}, {}
    for path in folder.rglob("rounds.jsonl"):
        content = path.read_bytes()
        lines[path] = content[: content.rfind(b"\n") + 1]
        for line in lines[path].splitlines():
            for attempt in json.loads(line)["attempts"]:
                image = path.with_name(attempt["image"])
                pictures[image] = image.read_bytes()
                assert hashlib.sha256(pictures[image]).hexdigest() == attempt["sha256"]
    return lines, pictures


def lost(before, now):
    """Rounds and images that were finished before, and are not what they were."""
    lines, pictures = now
    rounds = [path for path, text in before[0].items() if not lines.get(path, b"").startswith(text)]
    return rounds + [path for path, content in before[1].items() if pictures.get(path) != content]


def begun(command, into):
    """The arguments that begin a command in a folder, and that go on with it."""
    if command == "refine":
        runs = [path.parent for path in into.glob("*/*/run.json")]
        start = (*COMMANDS[command], "--output", into.name)
        return ("resume", runs[0]) if runs else start
    there = (into / ("batch.json" if command == "batch" else "arms.json")).exists()
    again = ("resume", into.name, "--wave", WAVE, *(EVALUATOR if command == "compare" else ()))
    return again if there else (*COMMANDS[command], "--into", into.name)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_many_moments_no_command_loses_a_round(command, start, prompts, tmp_path):
    whole = tmp_path / "whole"
    finish(start(*begun(command, whole)))
    rng = random.Random(f"{command} kill")
    kills = folders = 0
    while kills < MOMENTS // len(COMMANDS):
        torn = tmp_path / f"torn{folders}"
        folders += 1
        alive = True
        while alive and kills < MOMENTS // len(COMMANDS):
            before = finished(torn)
            calls, wait = rng.randrange(1, 5), rng.uniform(0, 0.08)
            alive = killed(start(*begun(command, torn)), prompts, calls, wait)
            kills += alive
            assert lost(before, finished(torn)) == []
        finish(start(*begun(command, torn)))
        assert places(torn) == places(whole)
        assert not [path for path in torn.rglob(".*.tmp") if "index.html" not in path.name]
    print(f"{command}: {kills} kills in {folders} folders")  # noqa: T201 - for the record


def places(folder):
    """All images, wherever the folder of a single run is."""
    runs = list(folder.glob("*/*/run.json"))
    return images(runs[0].parent if runs and not (folder / "runs").exists() else folder)
