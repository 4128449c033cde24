"""Training picks up where the shipped pair, or an interrupted stage, left off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gcr.pocket.train.adopt import adopt
from safetensors.torch import load_file
from torch import nn

from gcr.pocket import WEIGHTS
from gcr.pocket.train.export import export
from gcr.pocket.train.muon import Muon
from gcr.pocket.train.session import Session


def test_a_pair_adopted_and_exported_is_the_same_pair(tmp_path: Path) -> None:
    work, again = tmp_path / "training", tmp_path / "weights"
    adopt(WEIGHTS, work)
    export(work, again)
    files = sorted(path.relative_to(WEIGHTS) for path in WEIGHTS.rglob("*.safetensors"))
    assert len(files) == 4
    for file in files:
        shipped, written = load_file(WEIGHTS / file), load_file(again / file)
        assert shipped.keys() == written.keys()
        assert all(torch.equal(shipped[name], written[name]) for name in shipped), file
    before = json.loads((again / "training.json").read_text())["before"]
    assert before == json.loads((WEIGHTS / "training.json").read_text())


def test_adopting_never_overwrites_a_trained_stage(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    trained = tmp_path / "text" / "checkpoint.pt"
    trained.write_bytes(b"an hour of work")
    with pytest.raises(FileExistsError, match="checkpoint"):
        adopt(WEIGHTS, tmp_path)
    assert trained.read_bytes() == b"an hour of work"


def test_an_interrupted_stage_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    def train(folder: Path, stops: list[int]) -> dict[str, torch.Tensor]:
        for stop in stops:
            torch.manual_seed(3)
            model = nn.Linear(4, 1)
            session = Session(folder, model, 8, seed=3, rate=0.1, every=1)
            left = stop - session.step

            def loss(_: int, model: nn.Linear = model) -> tuple[torch.Tensor, dict[str, float]]:
                nonlocal left
                if not left:
                    raise KeyboardInterrupt
                left -= 1
                x = torch.randn(16, 4)
                return ((model(x) - x.sum(1, keepdim=True)) ** 2).mean(), {}

            if stop < session.steps:
                with pytest.raises(KeyboardInterrupt):
                    session.run(loss)
            else:
                session.run(loss)
        return model.state_dict()

    whole, broken = train(tmp_path / "whole", [8]), train(tmp_path / "broken", [3, 5, 8])
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


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
