"""`gcr refine` with real pipelines and critics: tiny random ones, and the embedded pair.

No network: a connection that anything tries to open fails the test.
"""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

import gcr
from benchmarks import refinement
from gcr.__main__ import main
from gcr.core.records import StopReason
from gcr.critic import rubric
from gcr.critic.local import LocalSpeaker
from gcr.storage import metadata, runfolder

RUBRIC = """
name: brief
description: as short as a reply can be
aspects: [Text Faithfulness]
template: "{request}"
complaint: again
max_new_tokens: 8
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """An empty working folder, cache and configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def critic(checkpoints):
    return tiny.qwen3_vl(checkpoints / "critic")


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gcr", *(str(argument) for argument in arguments)])
    code = main()
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("family", ["stable_diffusion", "flux"])
def test_any_pipeline_and_critic_go_through_the_same_command(
    family, checkpoints, critic, tmp_path, monkeypatch, capsys
):
    pipeline = getattr(tiny, family)(checkpoints / family)
    (tmp_path / "brief.yaml").write_text(RUBRIC)
    code, out, err = call(
        monkeypatch,
        capsys,
        *("refine", "a red circle", "-m", pipeline, "--critic", critic, "--rubric", "brief.yaml"),
        *("--rounds", 2, "-W", 32, "-H", 32, "--steps", 2, "--json", "-q"),
    )
    told = json.loads(out)
    attempts = [attempt for round_ in told["rounds"] for attempt in round_["attempts"]]
    assert len(attempts) == 4
    # Random weights write nothing readable, and what cannot be read gets no score.
    assert all(attempt["score"] is None for attempt in attempts)
    assert all(attempt["problem"] for attempt in attempts)
    assert (code, told["best"], told["stop"]) == (1, None, "failed")
    assert "no image could be scored" in err
    assert len(runfolder.RunFolder.open(tmp_path / told["folder"]).run.rounds) == 2


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype="uint8")
    Image.fromarray(values).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def test_an_image_is_edited_by_the_same_command(
    checkpoints, critic, photo, tmp_path, monkeypatch, capsys
):
    pipeline = tiny.instruct_pix2pix(checkpoints / "instruct_pix2pix")
    load = rubric.load  # of the rubric for edits, which needs no naming; but for a short reply
    monkeypatch.setattr(
        rubric, "load", lambda name: load(name).model_copy(update={"max_new_tokens": 8})
    )
    seen = []
    inputs = LocalSpeaker._inputs
    monkeypatch.setattr(
        LocalSpeaker, "_inputs", lambda self, chats: seen.append(inputs(self, chats)) or seen[-1]
    )
    code, out, err = call(
        monkeypatch,
        capsys,
        *("refine", "make it red", "-i", photo, "-m", pipeline, "--critic", critic),
        *("--rounds", 2, "--images", 1, "--steps", 2, "--json", "-q"),
    )
    told = json.loads(out)
    assert (code, told["images"]) == (1, 2), err  # random weights write nothing readable
    images = [len(tokens.get("image_grid_thw", ())) for tokens in seen]
    assert images == [2, 2, 0, 2, 2]  # each asked again; between them what was tried is told
    folder = runfolder.RunFolder.open(tmp_path / told["folder"])
    assert folder.run.settings["rubric"] == "editing"
    assert Image.open(folder.path / "source.png").tobytes() == Image.open(photo).tobytes()
    assert Image.open(folder.path / "00-0.png").size == (56, 40)


def test_a_resumed_edit_equals_an_uninterrupted_one(checkpoints, critic, photo, tmp_path):
    (tmp_path / "brief.yaml").write_text(RUBRIC)
    settings = {
        "generator": str(tiny.instruct_pix2pix(checkpoints / "editor")),
        "critic": str(critic),
        "rubric": "brief.yaml",
        "rounds": 2,
        "images": 1,
        "steps": 1,
        "width": 56,
        "height": 40,
    }
    whole = gcr.refine("make it red", image=photo, **settings)
    cut = gcr.refine("make it red", image=photo, **settings)
    lines = (cut.folder / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (cut.folder / "rounds.jsonl").write_bytes(lines[0])
    resumed = gcr.refine("make it red", image=Image.open(photo), resume=cut.folder, **settings)
    assert [a.sha256 for a in resumed.run.attempts] == [a.sha256 for a in whole.run.attempts]
    assert len({a.sha256 for a in whole.run.attempts}) == 2


@pytest.mark.parametrize(
    ("family", "flags", "message", "hint"),
    [
        ("stable_diffusion", ["-i", "in.png"], "does not edit images", "an editing pipeline"),
        ("instruct_pix2pix", [], "does not draw an image from text alone", "with --image"),
    ],
)
def test_a_pipeline_of_the_other_kind_is_found_before_the_critic_is_loaded(
    family, flags, message, hint, checkpoints, photo, monkeypatch, capsys
):
    pipeline = getattr(tiny, family)(checkpoints / f"other-{family}")
    (checkpoints / "empty").mkdir(exist_ok=True)  # which nothing can be loaded from
    models = ("-m", pipeline, "--critic", checkpoints / "empty")
    code, out, err = call(monkeypatch, capsys, "refine", "x", "-q", *models, *flags)
    assert (code, out) == (1, "")
    assert message in err
    assert hint in err
    assert err.count("\n") == 2


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--critic", "text_only"], 1, "cannot see images"),
        (["--critic", "nowhere"], 2, "there is no model at nowhere"),
        (["-m", "nowhere"], 2, "there is no model at nowhere"),
        (["-W", "33", "-H", "33"], 2, "not a multiple"),
    ],
)
def test_models_that_do_not_fit_are_refused(
    flags, code, message, checkpoints, critic, monkeypatch, capsys
):
    if "text_only" in flags:
        flags = ["--critic", tiny.text_only(checkpoints / "text_only")]
    pipeline = tiny.stable_diffusion(checkpoints / "pipeline")
    got, out, err = call(
        monkeypatch, capsys, "refine", "x", "-q", "-m", pipeline, "--critic", critic, *flags
    )
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 2


def test_the_embedded_pair_refines(tmp_path, monkeypatch, capsys):
    code, out, err = call(
        monkeypatch, capsys, "refine", "a red circle left of a blue square", "--rounds", "2"
    )
    assert code == 0, err
    best = tmp_path / out.strip()
    assert best.is_file()
    (attempt, *_) = runfolder.RunFolder.open(best.parent).run.attempts
    assert attempt.score is not None
    assert attempt.critique.aspects[0].aspect == "Text Faithfulness"
    assert attempt.sampler == "DPM++ 2M"
    assert ", Sampler: DPM++ 2M, " in metadata.read(best)["parameters"]
    assert "warning" not in err


@pytest.mark.parametrize("strategy", ["refine", "reflect", "evolve"])
def test_a_resumed_run_of_the_embedded_pair_equals_an_uninterrupted_one(strategy):
    settings = {"rounds": 2, "images": 1, "strategy": strategy}
    outcomes = (gcr.refine(prompt, **settings) for prompt in refinement.requests(20, "resumed"))
    whole = next(outcome for outcome in outcomes if len(outcome.run.rounds) > 1)
    # Only the first round of it, as if the run had been killed in the second.
    cut = Path(shutil.copytree(whole.folder, whole.folder.with_name("cut")))
    lines = (cut / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "rounds.jsonl").write_bytes(lines[0])
    resumed = gcr.refine(whole.run.request.prompt, resume=cut, **settings)
    assert resumed.run.stop is whole.run.stop is not StopReason.FAILED
    assert len(resumed.run.rounds) == len(whole.run.rounds)
    for ours, theirs in zip(resumed.run.attempts, whole.run.attempts, strict=True):
        assert ours.sha256 == theirs.sha256
        assert ours.critique == theirs.critique
