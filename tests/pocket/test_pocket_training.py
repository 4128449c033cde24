"""Training: an interrupted stage goes on as it was, a step is what it says, all stages fit."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everywhere
from transformers import LlavaForConditionalGeneration
from typer.testing import CliRunner

from gcr.pocket import CRITIC, WEIGHTS, world
from gcr.pocket.truth import compare
from gcr.settings import profiles
from pocket_training import __main__ as command
from pocket_training import course, drawings, export, finetune, fourbit, pool, session, vae
from pocket_training.muon import Muon
from pocket_training.session import Advance, Batch, Plan, Session

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on few cores
]


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, too."""
    monkeypatch.setattr(session, "device", lambda: torch.device("cpu"))


# Sessions


def example(step: int) -> Batch:
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
    return {"x": x, "sum": x.sum(1, keepdim=True)}


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("cores", [1, 4])
def test_an_interrupted_stage_goes_on_as_if_it_had_not_been(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)  # with four, two make batches ahead

    def train(folder: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        for stop in stops:
            torch.manual_seed(3)
            model = nn.Linear(4, 1)
            stage = Session(folder, model, Plan(8, 16, 0.1, seed=3), every=1)
            left = stop - stage.step

            def loss(batch: Batch, model: nn.Linear = model) -> tuple[torch.Tensor, Batch]:
                nonlocal left
                if not left:
                    raise KeyboardInterrupt
                left -= 1
                noise = torch.randn(16, 4) / 10
                return ((model(batch["x"] + noise) - batch["sum"]) ** 2).mean(), {}

            if stop < stage.plan.steps:
                with pytest.raises(KeyboardInterrupt):
                    stage.run(example, loss)
            else:
                stage.run(example, loss)
        return model.state_dict()

    whole, broken = train(tmp_path / "whole", [8]), train(tmp_path / "broken", [3, 5, 8])
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    torch.manual_seed(3)
    assert not torch.equal(whole["weight"], nn.Linear(4, 1).weight)


@pytest.mark.usefixtures("on_cpu")
def test_batches_come_in_order_from_any_number_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cores in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        made = list(session.batches_ahead(example, 3, 10))
        assert len(made) == 7
        for step, batch in enumerate(made, 3):
            assert torch.equal(batch["x"], example(step)["x"])
    assert list(session.batches_ahead(example, 10, 10)) == []


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("late", [False, True])
def test_a_step_is_the_optimizers_at_the_gradient_there(*, late: bool, tmp_path: Path) -> None:
    """Late, the gradient is that of the rounded weights, and the exact ones are moved by it."""
    torch.manual_seed(0)
    model, twin = nn.Linear(64, 2), nn.Linear(64, 2)
    twin.load_state_dict(model.state_dict())
    batch = {"x": torch.randn(8, 64), "y": torch.randn(8, 2)}

    def loss_of(batch: Batch) -> tuple[torch.Tensor, Batch]:
        loss = F.mse_loss(model(batch["x"]), batch["y"])
        return loss, {"twice": 2 * loss}

    stage = Session(tmp_path, model, Plan(10, 8, 0.01), fourbit=[model.weight])
    figures = Advance(stage, loss_of)(batch, late=late)

    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.01)
    there = fourbit.nearest(twin.weight) if late else twin.weight
    loss = F.mse_loss(F.linear(batch["x"], there, twin.bias), batch["y"])
    at = torch.autograd.grad(loss, [there, twin.bias])
    twin.weight.grad, twin.bias.grad = at
    nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    optimizer.step()
    torch.testing.assert_close(figures["loss"], loss.detach())
    torch.testing.assert_close(figures["twice"], 2 * loss.detach())
    torch.testing.assert_close(model.weight, twin.weight)
    torch.testing.assert_close(model.bias, twin.bias)


def test_weights_are_as_they_were_after_rounding_even_if_it_fails() -> None:
    weight = nn.Parameter(torch.randn(4, 64))
    before = weight.detach().clone()

    def interrupted() -> None:
        with fourbit.rounded([weight]):
            assert not torch.equal(weight, before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("shape", [(8, 64), (192, 512), (6, 192)])
def test_four_bits_are_those_of_bitsandbytes(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    weight = torch.randn(shape) * 0.05
    ours = fourbit.nearest(weight)
    packed, state = quantize_4bit(weight, blocksize=fourbit.BLOCK, quant_type="nf4")
    torch.testing.assert_close(ours, dequantize_4bit(packed, state))
    # As gcr loads a critic, the scales are rounded, too, to eight bits.
    packed, state = quantize_4bit(
        weight, blocksize=fourbit.BLOCK, quant_type="nf4", compress_statistics=True
    )
    nested = dequantize_4bit(packed, state)
    assert (ours - nested).abs().max() < 0.02 * weight.abs().max()
    assert (ours - nested).abs().max() < 0.1 * (ours - weight).abs().max()


# Scenes and pictures


def test_a_pool_is_the_same_from_one_process_and_from_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "CHUNK", 4)
    made = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        scenes = pool.scenes("test", 10)
        made.append((scenes, pool.render(scenes)))
    (first, pictures), (again, others) = made
    assert first == again
    assert torch.equal(pictures, others)
    assert len({*first}) == 10
    assert pool.scenes("other", 10) != first
    assert pool.scenes("test", 6) == first[:6]
    assert pictures.shape == (10, 3, world.SIDE, world.SIDE)
    for scene, picture in zip(first, pictures, strict=True):
        drawn = torch.frombuffer(bytearray(world.draw(scene).tobytes()), dtype=torch.uint8)
        assert torch.equal(picture.permute(1, 2, 0).flatten(), drawn)


# All stages


def shortened(of: course.Course) -> course.Course:
    """Every stage as it is, for a step of two examples."""
    plans = {
        stage: Plan(1, 2, plan.rate, pool=8 if plan.pool else 0) for stage, plan in of.plans.items()
    }
    return replace(of, plans=plans, with_drawings=1, requests=1, redrawn=2, at_once=4)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Courses and drawings of a few steps."""
    monkeypatch.setattr(vae, "SPREAD", 4)
    monkeypatch.setattr(finetune, "ROUND", 1)
    monkeypatch.setattr(
        course, "COURSES", {name: shortened(of) for name, of in course.COURSES.items()}
    )
    load = profiles.load
    monkeypatch.setattr(profiles, "load", lambda name: load(name).model_copy(update={"steps": 2}))


@pytest.mark.usefixtures("brief")
@pytest.mark.filterwarnings("ignore")  # libraries' own, at weights that make no sense
def test_one_command_trains_all_stages_and_goes_on_where_it_was(tmp_path: Path) -> None:
    work, target = tmp_path / "training", tmp_path / "weights"
    arguments = ["all", "--folder", str(work), "--target", str(target), "--on", "cpu"]
    ran = CliRunner().invoke(command.app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    files = sorted(path.relative_to(WEIGHTS) for path in WEIGHTS.rglob("*.safetensors"))
    assert len(files) == 4
    for file in files:
        shipped, written = export.nested(load_file(WEIGHTS / file)), load_file(target / file)
        assert {k: v.shape for k, v in shipped.items()} == {k: v.shape for k, v in written.items()}
    log = json.loads((target / "training.json").read_text())
    assert {stage: lines[-1]["step"] for stage, lines in log["stages"].items()} == {
        "vae": 1, "text": 1, "denoiser": 1, "eyes": 1, "critic": 2, "finetune": 1
    }  # fmt: skip
    lines = json.loads((work / "drawings" / "told.json").read_text())
    assert len(lines) == len(torch.load(work / "drawings" / "pictures.pt")) == 10
    rounds = [line["request"] for line in drawings.told(work / "finetune")]
    assert rounds[0] == rounds[3] != rounds[4] == rounds[7]

    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.pt")}
    (work / "critic" / "checkpoint.pt").unlink()
    again = CliRunner().invoke(command.app, arguments, catch_exceptions=False)
    assert again.exit_code == 0
    changed = {path for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {work / "critic" / "checkpoint.pt"}
    for file in files:
        first, second = load_file(target / file), load_file(target / file)
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("brief", "on_cpu")
@pytest.mark.filterwarnings("ignore")  # libraries' own
def test_the_shipped_critic_is_trained_on_where_none_was_trained(tmp_path: Path) -> None:
    work, target = tmp_path / "training", tmp_path / "weights"
    shutil.copytree(WEIGHTS, target)
    for stage, *more in (["finetune", "--seed", "2"], ["export", "--target", str(target)]):
        ran = CliRunner().invoke(
            command.app, [stage, "--folder", str(work), *more], catch_exceptions=False
        )
        assert ran.exit_code == 0
    for file in (path.relative_to(WEIGHTS) for path in WEIGHTS.rglob("*.safetensors")):
        shipped, written = export.nested(load_file(WEIGHTS / file)), load_file(target / file)
        assert shipped.keys() == written.keys()
        changed = [name for name in shipped if not torch.equal(shipped[name], written[name])]
        assert bool(changed) == (file.parts[0] == "critic")
        # One step away, not a critic made anew.
        assert all((shipped[n] - written[n]).abs().max() < 0.01 for n in changed)
    log = json.loads((target / "training.json").read_text())
    before = json.loads((WEIGHTS / "training.json").read_text())
    assert log["stages"].keys() == {*before["stages"], "finetune"}
    assert log["hardware"] == before["hardware"]


def test_renders_in_pairs_show_the_same_without_and_with_things_too_many() -> None:
    torch.manual_seed(0)
    ways = dict.fromkeys(drawings.KINDS, finetune.BEST)
    twins = drawings.crowded(Plan(1, 1, 1.0, 5, 48), AsItIs(), ways)
    asked = [spec for spec in twins.asked if spec is not None]
    assert len(asked) == len(twins.views) == len(twins.pixels)
    assert len(asked) > 40
    extras = [len(compare(spec, v).extra) for spec, v in zip(asked, twins.views, strict=True)]
    assert sum(extra == 0 for extra in extras) > 15
    assert {1, 2, 3} <= set(extras)
    assert max(len(view.things) for view in twins.views) > world.MOST
    radii = [thing.radius for view in twins.views for thing in view.things]
    between = [min(abs(r - named) for named in world.SIZES.values()) > 1.0 for r in radii]
    assert sum(between) > 0.2 * len(radii)


class AsItIs:
    """An autoencoder that loses nothing."""

    device = torch.device("cpu")

    def __call__(self, pixels: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=pixels)


def test_a_stage_alone_has_the_plan_of_all_unless_it_is_given_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(vae, "train", lambda folder, plan: seen.append(plan))
    start = ["vae", "--folder", str(tmp_path)]
    for more in ([], ["--steps", "7", "--rate", "0.5", "--batch", "3", "--seed", "4"]):
        assert CliRunner().invoke(command.app, start + more).exit_code == 0
    plan = course.here().plans["vae"]
    assert seen == [plan, Plan(7, 3, 0.5, 4, plan.pool)]


@pytest.mark.parametrize("name", course.COURSES)
def test_a_course_has_a_plan_for_every_stage_that_learns(name: str) -> None:
    of = course.COURSES[name]
    assert set(of.plans) == {*course.LEARNERS, "decoder", "critic", "finetune"}
    assert {stage for stage, plan in of.plans.items() if not plan.pool} == {"text"}
    assert command.On(name)


# Optimizers


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_muon_moves_as_torchs_own_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(5)
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    pair = (
        Muon([ours], lr=0.02, weight_decay=0.01, momentum=0.95),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )
    start = ours.detach().clone()
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        for optimizer in pair:
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.02 * moved  # theirs rounds to bfloat16


# What is written


def test_a_critic_named_as_vllm_wants_it_is_the_same_to_transformers(tmp_path: Path) -> None:
    served = tmp_path / "critic"
    shutil.copytree(CRITIC, served)
    export.nest_tower(served)
    once = load_file(served / "model.safetensors")
    export.nest_tower(served)
    assert load_file(served / "model.safetensors").keys() == once.keys()
    towers = [name for name in once if name.startswith("vision_tower.")]
    assert towers
    assert all(name.startswith("vision_tower.vision_model.") for name in towers)
    shipped, renamed = (
        LlavaForConditionalGeneration.from_pretrained(folder).state_dict()
        for folder in (CRITIC, served)
    )
    assert shipped.keys() == renamed.keys()
    assert all(torch.equal(shipped[name], renamed[name]) for name in shipped)
