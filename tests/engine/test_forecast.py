"""`--dry-run`: what would be done, with nothing loaded, and nothing made up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gcr.core.records import Wording
from gcr.device import memory
from gcr.device.memory import GIB
from gcr.engine import single
from gcr.engine.forecast import forecast
from gcr.engine.machine import ThisMachine
from gcr.settings.measurements import SPEEDS, Speed, device_key
from gcr.settings.resolving import resolve
from gcr.storage import timings

SPY = """
import sys
opened = []
sys.addaudithook(lambda event, found: event == "open" and opened.append(str(found[0])))
from gcr.cli.app import run
run(["refine", "a red circle", "--dry-run", "--steps", "9"])
weights = [path for path in opened if "/weights/" in path or path.endswith(".safetensors")]
loaded = {"diffusers", "transformers", "bitsandbytes"} & set(sys.modules)
print(weights, sorted(loaded), file=sys.stderr)
"""


def test_a_dry_run_opens_no_model_and_writes_nothing(tmp_path):
    environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    ran = subprocess.run(
        [sys.executable, "-c", SPY],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr.splitlines()[-1] == "[] []"
    assert list(tmp_path.iterdir()) == []
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert ["steps", "9", "--steps"] in rows
    assert ["guidance", "2", "profile", "pocket"] in rows
    assert "unknown: no earlier run" in ran.stdout


@pytest.fixture
def dry(cli):
    """The plan as JSON."""

    def run(command="refine", what="a red circle", *options):
        ran = cli(command, what, *options, "--dry-run", "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    run.cli = cli
    return run


def test_each_setting_says_where_it_came_from(dry, monkeypatch):
    Path("gcr.yaml").write_text("rounds: 3\npatience: 3")
    Path("config/gcr").mkdir(parents=True)
    Path("config/gcr/config.yaml").write_text("images: 3")
    monkeypatch.setenv("GCR_PATIENCE", "5")
    plan = dry("refine", "a red circle", "--score", "soft", "--seed", "7")
    origins = {key: one["origin"] for key, one in plan["settings"].items()}
    assert origins["seed"] == "--seed"
    assert origins["patience"] == "GCR_PATIENCE"
    assert origins["rounds"] == "rounds in gcr.yaml"
    assert origins["images"].startswith("images in ")
    assert origins["steps"] == "profile pocket"
    assert origins["compare"] == "default"
    assert origins["target"] == "scores that are probabilities"
    assert plan["settings"]["target"]["value"] == 0.95
    assert plan["estimate"]["most_images"] == 9


def test_auto_says_why(dry):
    plan = dry("refine", "a red circle", "--profile", "auto")
    assert plan["settings"]["profile"]["origin"].startswith("auto: ")


def test_what_is_measured_says_so(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    key = device_key("draw", "a/b", memory.device_name(), (64, 64))
    SPEEDS.keep(environ, {key: Speed(4, 0.5, 1, 1)})
    flags = {"generator": "a/b", "width": 64, "height": 64}
    found = resolve(flags, ThisMachine(), folder=tmp_path, environ=environ)
    assert (found.settings.draw_batch, found.origins["draw_batch"]) == (4, "gcr bench")
    other = resolve({**flags, "width": 32}, ThisMachine(), folder=tmp_path, environ=environ)
    assert other.settings.draw_batch == 1


def test_a_batch_counts_its_prompts(dry):
    Path("prompts.txt").write_text("a red circle\na blue star\na green heart")
    plan = dry("batch", "prompts.txt", "--rounds", "2", "--max-images", "5")
    assert (plan["prompts"], plan["estimate"]["most_images"]) == (3, 12)
    part = dry("batch", "prompts.txt", "--shard", "2/3", "--into", "elsewhere")
    assert part["prompts"] == 1
    assert not Path("elsewhere").exists()


def test_an_estimate_comes_from_earlier_runs_or_there_is_none(dry):
    assert dry()["estimate"]["seconds"] is None
    dry.cli("refine", "a red circle", "--rounds", "2")
    dry.cli("refine", "a blue star", "--rounds", "2")
    lines = [path.read_text() for path in Path("outputs").glob("*/*/rounds.jsonl")]
    attempts = [a for text in lines for line in text.splitlines() for a in _attempts(line)]
    spent = sum(a["draw_seconds"] + a["judge_seconds"] for a in attempts)

    like = dry("refine", "a green heart", "--rounds", "2")["estimate"]
    assert like["runs"] == 2
    assert like["images"] == len(attempts) / 2
    assert like["seconds"] == pytest.approx(spent / 2)
    longer = dry("refine", "a green heart", "--rounds", "3")["estimate"]
    assert longer["images"] is None  # nobody knows how many such a run draws
    assert longer["most_seconds"] == pytest.approx(6 * spent / len(attempts))
    assert dry("refine", "a green heart", "--steps", "3")["estimate"]["runs"] == 0
    assert (
        "by 2 earlier runs" in dry.cli("refine", "a red circle", "--rounds", "2", "--dry-run").out
    )


def _attempts(line):
    return json.loads(line)["attempts"]


def test_a_run_that_did_not_end_says_nothing_of_how_many_images(dry):
    dry.cli("refine", "a red circle")
    (story,) = Path("outputs").glob("*/*/run.json")
    record = json.loads(story.read_text())
    story.write_text(json.dumps({**record, "stop": "interrupted"}))
    found = timings.past_runs(Path("outputs"), record["settings"])
    assert (found.images, found.runs) == (None, 1)
    story.write_text("{")
    assert timings.past_runs(Path("outputs"), record["settings"]).runs == 0


def test_the_time_to_word_prompts_is_counted(dry):
    dry.cli.models["critic"].wordings = {0: Wording("a round circle")}
    dry.cli("refine", "a red circle", "--rounds", "2", "--rubric", "text-to-image")
    (path,) = Path("outputs").glob("*/*/rounds.jsonl")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    first["wording"]["seconds"] = 8.0
    path.write_text("".join(json.dumps(round_) + "\n" for round_ in (first, second)))
    attempts = [*first["attempts"], *second["attempts"]]
    judged = sum(attempt["judge_seconds"] for attempt in attempts)
    record = json.loads(path.with_name("run.json").read_text())
    found = timings.past_runs(Path("outputs"), record["settings"])
    assert found.judge == pytest.approx((judged + 8) / len(attempts))


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine that says it has a GPU with so many GiB free."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")

    def with_free(gib, **flags):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (gib * GIB, 24 * GIB))
        resolved = resolve(flags, ThisMachine(), folder=tmp_path)
        settings, _ = single.with_rubric(resolved.settings)
        return forecast(resolved._replace(settings=settings), settings.decisive(), ["x"]).memory

    return with_free


def test_a_server_needs_no_memory_here(gpu, dry, monkeypatch):
    there = {"profile": "16gb", "critic": "http://there/v1#x"}
    key = device_key("draw", resolve(there, ThisMachine()).settings.generator, "Card", (1024, 1024))
    assert gpu(20, **there).needs_gib is None
    SPEEDS.keep(os.environ, {key: Speed(2, 1.0, 15 * GIB, 8 * GIB, 2 * GIB)})
    assert (gpu(20, **there).residency, gpu(20, **there).needs_gib) == ("both", 17)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = dry("refine", "a red circle", "--critic", "http://there/v1#x")["memory"]["said"]
    assert said == "no GPU: the generator stays in the machine's memory"


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--keep", "blue"), "--keep 'blue' is not in"), (("--image", "nofile.png"), "nofile.png")],
)
def test_what_a_run_would_refuse_a_dry_run_refuses(cli, options, message):
    said = [cli("refine", "a red circle", *options, *more) for more in ((), ("--dry-run",))]
    assert [ran.code for ran in said] == [2, 2]
    assert said[0].err == said[1].err
    assert message in said[1].err
    assert said[1].out == ""


def test_a_dry_run_says_that_4_bits_need_a_gpu(dry):
    said = dry("refine", "a red circle", "--profile", "8gb")["memory"]["said"]
    assert said.startswith("no GPU: ")
    assert said.endswith("; profile 8gb is for a GPU with 7 GiB; nf4 weights need one")


def test_in_4_bits_a_pipeline_is_measured_apart(gpu):
    other = gpu(20, profile="24gb", quantize_generator="nf4")
    assert other.needs_gib is None
    assert "gcr bench measures what these models need" in other.said
    settings = resolve({"profile": "24gb", "quantize_generator": "nf4"}, ThisMachine()).settings
    for phase, name in (("draw", settings.generator_measured), ("judge", settings.critic)):
        key = device_key(phase, name, "Card", (1024, 1024))
        SPEEDS.keep(os.environ, {key: Speed(2, 1.0, 6 * GIB, 4 * GIB, 2 * GIB)})
    assert gpu(20, profile="24gb", quantize_generator="nf4").residency == "both"
    assert gpu(20, profile="24gb").residency == ""


def test_the_memory_plan_is_the_profile_s_word_until_it_is_measured(gpu):
    memory = gpu(20, profile="16gb")
    assert (memory.needs_gib, memory.residency) == (15, "")
    assert "profile 16gb needs 15 (estimated)" in memory.said
    assert gpu(20, profile="16gb", critic="owner/name").needs_gib is None

    pair = resolve({"profile": "16gb"}, ThisMachine()).settings
    SPEEDS.keep(
        os.environ,
        {
            device_key("draw", pair.generator, "Card", (1024, 1024)): Speed(
                2, 1.0, 15 * GIB, 8 * GIB, 2 * GIB
            ),
            device_key("judge", pair.critic, "Card", (1024, 1024)): Speed(
                4, 1.0, 7 * GIB, 7 * GIB, GIB
            ),
        },
    )
    modes = {free: gpu(free, profile="16gb").residency for free in (24, 20, 11)}
    assert modes == {24: "both", 20: "swap", 11: "offload"}
    assert "too much" in gpu(20, profile="16gb", residency="both").said
