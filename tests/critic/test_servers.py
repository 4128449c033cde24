"""The embedded critic behind the servers that users have, and on this machine: `make test-servers`.

What they are asked goes the way of `gcr`'s own commands; the scores are held against those of the
same weights here, unquantized and in 4 bits. At the end a table says how far they are apart.
"""

import json
import random
import subprocess
import sys
import time
from collections import defaultdict

import pytest
import real_servers
import serving
from PIL import Image

from benchmarks.refinement import requests
from gcr.__main__ import main
from gcr.core.events import ignore
from gcr.core.records import Candidate, Request
from gcr.critic import probe, rubric
from gcr.critic.critic import load
from gcr.device.memory import SharedDevice
from gcr.engine.machine import ThisMachine
from gcr.engine.models import load_models
from gcr.errors import UsageError
from gcr.pocket import world
from gcr.settings.resolving import resolve
from gcr.storage.runfolder import load_run
from pocket_training.captions import describe, say

pytestmark = pytest.mark.slow

CPU = SharedDevice("cpu")
RUBRIC = rubric.load("pocket")
SERVERS = {
    "transformers serve": serving.transformers_serve,
    "vLLM": real_servers.vllm,
    "llama.cpp": real_servers.llama_cpp,
}
KINDS = ("reply", "soft", "checklist")
PLAIN = "transformers serve"
"""Which gives no probabilities."""
BOUNDS = {"reply": 1e-9, "soft": 1e-4, "checklist": 5e-3, "chance": 2e-2}
"""Of a score's difference from that of the same unquantized weights. llama.cpp computes GELU from a
table of half-precision numbers.
"""
COUNT = 12  # of requests


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Without anybody's keys and settings, in an empty folder."""
    for name in ("GCR_API_KEY", "OPENAI_API_KEY", "GCR_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    """A server's name and URL."""
    installed = {"vLLM": "vllm", "llama.cpp": "llama.cpp"}.get(request.param)
    if installed and (why := real_servers.missing(installed)):
        pytest.skip(why)
    with SERVERS[request.param](tmp_path_factory.mktemp("home")) as url:
        yield request.param, url


@pytest.fixture(scope="module")
def scenes():
    """Requests, with what the embedded generator drew for them, and other pictures to compare."""
    asked = requests(COUNT, "servers", held_out=False)
    settings = resolve({"profile": "pocket"}, ThisMachine(), environ={}).settings
    generator, _ = load_models(settings, RUBRIC, ignore)
    drawings = generator.draw([Candidate(prompt, seed=i) for i, prompt in enumerate(asked)])
    drawn = [drawing.image for drawing in drawings]
    dice = random.Random(5)
    sampled = [world.sample(dice) for _ in asked]
    others = [world.draw(scene) for scene in sampled]
    right = [Request(say(describe(scene))) for scene in sampled]
    return [Request(prompt) for prompt in asked], drawn, right, others


def judge(model, scenes, kind, quantize="nf4"):
    """Critiques of all scenes, by one kind of score."""
    asked, drawn, right, others = scenes
    heard = []
    use = probe.Use(size=(128, 128), warn=lambda *told: heard.append(told))
    critic = load(model, RUBRIC, CPU, quantize=quantize, batch=8, score=kind, use=use)
    assert heard == []
    critiques = critic.judge([*asked, *right, *asked], [*drawn, *others, *others])
    pairs = []
    if kind == "reply":
        pairs = critic.compare(asked, drawn, others) + critic.compare(asked, others, drawn)
    return critiques, pairs


@pytest.fixture(scope="module")
def local(scenes):
    """What the critic says on this machine: by quantization and kind of score."""
    kept = {}

    def said(quantize, kind):
        if (quantize, kind) not in kept:
            kept[quantize, kind] = judge("pocket:critic", scenes, kind, quantize)
        return kept[quantize, kind]

    return said


@pytest.fixture(scope="module")
def table(request):
    """Lines of a table that is printed at the end."""
    rows = [["server", "what", "against", "cases", "greatest", "mean"], ["---"] * 6]
    yield rows
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        for row in ([], *rows):
            line = "| " + " | ".join(row) + " |" if row else ""
            plugins.getplugin("terminalreporter").write_line(line)


def apart(these, those, kind):
    """Differences of two lists of critiques, by what is compared."""
    found = defaultdict(list)
    for one, other in zip(these, those, strict=True):
        found[kind].append(abs(one.overall - other.overall))
        if kind == "reply":
            found["words"].append(float(one.raw.split() != other.raw.split()))
        if kind == "checklist":
            here = {asked.question: asked.chance for asked in other.requirements}
            there = {asked.question: asked.chance for asked in one.requirements}
            found["questions"].append(float(list(here) != list(there)))
            found["chance"] += [abs(there[q] - here[q]) for q in here.keys() & there.keys()]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_scores_as_the_same_weights_do_on_this_machine(server, scenes, local, table, kind):
    name, url = server
    if name == PLAIN and kind != "reply":
        with pytest.raises(UsageError, match="tells no probabilities"):
            judge(url, scenes, kind)
        return
    critiques, pairs = judge(url, scenes, kind)
    for quantize in ("none", "nf4"):
        here, pairs_here = local(quantize, kind)
        found = apart(critiques, here, kind)
        if pairs:
            found["pairwise"] = [float(a != b) for a, b in zip(pairs, pairs_here, strict=True)]
        against = {"none": "unquantized", "nf4": "4 bits"}[quantize]
        for what, values in found.items():
            mean = sum(values) / len(values)
            figures = f"{max(values):.1e}", f"{mean:.1e}"
            table.append([name, what, against, str(len(values)), *figures])
        if quantize == "none":
            for what, values in found.items():
                assert max(values) <= BOUNDS.get(what, 0.0), what


def run(*arguments):
    """The tool in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gcr", *map(str, arguments)])
        return main()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_run(server, tmp_path, kind):
    name, url = server
    options = ["--critic", url, "--rubric", "pocket", "--score", kind, "--select", "pairwise"]
    request = "two red circles, a blue star and a green square"
    code = run("refine", request, *options, "--rounds", "3", "--images", "2")
    if name == PLAIN and kind != "reply":
        assert code == 2
        return
    assert code == 0
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    refined = load_run(record.parent)
    assert refined.request.prompt == request
    assert refined.rounds
    attempts = refined.attempts
    assert all(attempt.critique.overall is not None for attempt in attempts)
    here = load("pocket:critic", RUBRIC, CPU, quantize="none", batch=8, score=kind)
    pictures = [Image.open(record.parent / attempt.image) for attempt in attempts]
    expected = here.judge([refined.request] * len(attempts), pictures)
    for attempt, critique in zip(attempts, expected, strict=True):
        assert attempt.critique.overall == pytest.approx(critique.overall, abs=BOUNDS[kind])
    assert "server" not in json.loads(record.read_text())["revisions"]  # it takes all questions


def test_calibrate(server, capsys, table):
    """Servers sample each in their own way, so that only the size of it can be compared."""
    name, url = server
    asked = requests(6, "calibrate", held_out=False)
    options = ["--judges", "4", "--images", "2", "--rubric", "pocket", "--json"]
    for place, critic in ((name, url), ("this machine", "pocket:critic")):
        assert run("calibrate", *asked, "--critic", critic, *options) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["images"], told["judges"]) == (12, 4)
        assert 0 <= told["spread"] < 0.3
        table.append([place, "spread of a score", "", "12", f"{told['spread']:.4f}", ""])


def test_doctor(server, capsys):
    name, url = server
    run("doctor", "--critic", url, "--rubric", "pocket")
    shown = " ".join(capsys.readouterr().out.split())
    tells = "tells no probabilities" if name == PLAIN else "and tells probabilities"
    assert f"sees images{'; ' if name == PLAIN else ', '}{tells}" in shown


def test_what_a_rubric_sends_along_is_taken(server, scenes, local):
    name, url = server
    changes = {"chat_template_kwargs": {"enable_thinking": False}}
    changes |= {"extra_body": {"presence_penalty": 0.0}, "top_p": 1.0, "top_k": 20}
    told = []
    use = probe.Use(size=(128, 128), compare=False, warn=lambda message, _: told.append(message))
    critic = load(url, RUBRIC.model_copy(update=changes), CPU, batch=8, use=use)
    asked, drawn, _, _ = scenes
    here, _ = local("none", "reply")
    assert [critique.overall for critique in critic.judge(asked, drawn)] == [
        critique.overall for critique in here[:COUNT]
    ]
    refused = ["wants no top_k"] if name == PLAIN else []
    assert [change for words in told for change in refused if change in words] == refused
    assert len(told) == len(refused)


def test_a_server_that_is_started_again_in_the_middle_of_a_batch(tmp_path):
    if why := real_servers.missing("llama.cpp"):
        pytest.skip(why)
    (tmp_path / "prompts.txt").write_text("\n".join(requests(4, "restart", held_out=False)) + "\n")
    (tmp_path / "home").mkdir()
    port, summary = serving.free_port(), tmp_path / "b" / "summary.jsonl"
    options = ["--rubric", "pocket", "--rounds", "2", "--wave", "1", "--into", "b"]
    with (tmp_path / "told").open("w+") as told:
        with real_servers.llama_cpp(tmp_path / "home", port) as url:
            command = [sys.executable, "-m", "gcr", "batch", "prompts.txt", "--critic", url]
            batch = subprocess.Popen([*command, *options], stdout=told, stderr=told)
            while not (summary.is_file() and summary.read_text()):
                assert batch.poll() is None, (tmp_path / "told").read_text()
                time.sleep(0.1)
        try:
            while "waiting up to 5 minutes for it" not in (tmp_path / "told").read_text():
                assert batch.poll() is None, (tmp_path / "told").read_text()
                time.sleep(0.1)
            with real_servers.llama_cpp(tmp_path / "home", port):
                assert batch.wait(300) == 0, (tmp_path / "told").read_text()
        finally:
            batch.kill()
    assert "answers again" in (tmp_path / "told").read_text()
    assert len(summary.read_text().splitlines()) == 4
