"""What every training stage shares: a folder with checkpoints and a log, a schedule, optimizers."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gcr.pocket.train.muon import Muon


@dataclass
class Session:
    """One stage of training in a folder of its own.

    folder: where `checkpoint.pt` and `log.jsonl` are.
    steps: optimizer steps in all. seed: of weights, data and noise.
    rate: of learning, at its peak. muon: for the hidden matrices. every: steps between
    checkpoints. adopted: the weights came trained.
    """

    folder: Path
    model: nn.Module
    steps: int
    seed: int
    rate: float
    muon: bool = False
    every: int = 200
    adopted: bool = False
    step: int = 0
    seconds: float = 0.0
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path, state = self.folder / "checkpoint.pt", {}
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.adopted = state.get("adopted", False)
        self.optimizers = optimizers(self.model, self.rate, muon=self.muon)
        if "optimizers" in state:  # adopted weights come without
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["peak"] = self.rate  # a resumed stage may be given another

    def run(self, loss_of: Callable[[int], tuple[torch.Tensor, dict[str, float]]]) -> None:
        """Train to the last step. loss_of(step) gives the loss and figures to log.

        The step is all it may draw randomness from, so that a resumed run sees the same data.
        """
        started, done_before = time.monotonic(), self.seconds
        figures: dict[str, float] = {}
        while self.step < self.steps:
            self._set_rate()
            torch.manual_seed(self.seed * 1_000_003 + self.step)
            loss, now = loss_of(self.step)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            for name, value in {"loss": loss.item(), **now}.items():
                figures[name] = 0.98 * figures.get(name, value) + 0.02 * value
            self.step += 1
            self.seconds = done_before + time.monotonic() - started
            if self.step % 50 == 0 or self.step == self.steps:
                self.log(**{k: round(v, 5) for k, v in figures.items()})
            if self.step % self.every == 0 or self.step == self.steps:
                self.save()

    def _set_rate(self) -> None:
        warm = min(1.0, (self.step + 1) / 100)
        cool = 0.5 + 0.5 * math.cos(math.pi * self.step / self.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * warm * (0.03 + 0.97 * cool)

    def save(self) -> None:
        save(
            self.folder,
            model=self.model.state_dict(),
            optimizers=[o.state_dict() for o in self.optimizers],
            step=self.step,
            seconds=self.seconds,
            adopted=self.adopted,
        )

    def log(self, **figures: Any) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1), **figures}
        with (self.folder / "log.jsonl").open("a") as f:
            f.write(json.dumps(line) + "\n")
        print(f"{self.folder.name}: {json.dumps(line)}", flush=True)


def save(folder: Path, **state: Any) -> None:
    """Write a stage's checkpoint, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "checkpoint.part")
    (folder / "checkpoint.part").replace(folder / "checkpoint.pt")


def optimizers(model: nn.Module, rate: float, *, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the hidden matrices and AdamW for the rest."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            inner = (
                muon
                and weight.ndim == 2
                and not any(k in name for k in ("embed", "shared", "head"))
            )
            (hidden if inner else rest).append(weight)
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if hidden:
        made.append(Muon(hidden, lr=rate, weight_decay=0.01, momentum=0.95))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of at most `size`."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def hardware() -> str:
    """What this machine computes with, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
