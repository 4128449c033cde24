"""What every training stage shares: a folder with checkpoints and a log, a schedule, a step.

A stage gives two functions: one that makes the batch of a step on the CPU, from the step's number
alone, and one that computes the loss of a batch on the device. So batches are made by worker
processes ahead of time, a resumed run sees the data an uninterrupted one had seen, and on CUDA a
whole step is captured once as a graph and replayed: models this small are bound by launches.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pocket_training.fourbit import rounded
from pocket_training.muon import Muon

Batch = dict[str, torch.Tensor]
Loss = Callable[[Batch], tuple[torch.Tensor, dict[str, torch.Tensor]]]
"""The loss of a batch, and figures to log: scalars, on the device."""


LATE = 0.3  # share of the steps in which 4-bit weights are trained as they will be rounded


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a stage learns, and how fast.

    steps: optimizer steps in all. batch: examples in each. rate: of learning, at its peak. seed:
    of weights, data and noise. pool: scenes made beforehand, from which steps pick; 0 for a stage
    whose steps make their own.
    """

    steps: int
    batch: int
    rate: float
    seed: int = 0
    pool: int = 0


@dataclass
class Session:
    """One stage of training in a folder of its own.

    folder: where `checkpoint.pt` and `log.jsonl` are. muon: for the hidden matrices. every: steps
    between checkpoints.
    fourbit: weights whose gradient is taken where 4-bit rounding puts them, in the last `late` of
    the steps, so that the model is good at what it will be run as.
    """

    folder: Path
    model: nn.Module
    plan: Plan
    muon: bool = False
    every: int = 200
    fourbit: list[nn.Parameter] = field(default_factory=list)
    late: float = LATE
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
        self.optimizers = optimizers(self.model, self.plan.rate, muon=self.muon)
        for optimizer, saved in zip(self.optimizers, state.get("optimizers", ()), strict=False):
            optimizer.load_state_dict(saved)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                # A tensor, so that a captured step heeds the schedule. A resumed stage may be
                # given another peak.
                group["lr"] = torch.tensor(self.plan.rate, device=device())

    def run(self, batch_of: Callable[[int], Batch], loss_of: Loss) -> None:
        """Train to the last step.

        batch_of(step): tensors on the CPU. The step is all it may draw randomness from.
        """
        started, done_before = time.monotonic(), self.seconds
        advance, shown, names = Advance(self, loss_of), None, []
        for batch in batches_ahead(batch_of, self.step, self.plan.steps):
            self._set_rate()
            torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
            figures = advance(batch, late=self.step >= (1 - self.late) * self.plan.steps)
            names = list(figures)
            now = torch.stack([figure.float() for figure in figures.values()])
            shown = now.clone() if shown is None else shown.lerp_(now, 0.02)
            self.step += 1
            self.seconds = done_before + time.monotonic() - started
            if self.step % 50 == 0 or self.step == self.plan.steps:
                told = zip(names, shown.tolist(), strict=True)
                self.log(**{name: round(figure, 5) for name, figure in told})
            if self.step % self.every == 0 or self.step == self.plan.steps:
                self.save()

    def _set_rate(self) -> None:
        warm = min(1.0, (self.step + 1) / min(100, max(1, self.plan.steps // 10)))
        cool = 0.5 + 0.5 * math.cos(math.pi * self.step / self.plan.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(self.plan.rate * warm * (0.03 + 0.97 * cool))

    def save(self) -> None:
        save(
            self.folder,
            model=self.model.state_dict(),
            optimizers=[o.state_dict() for o in self.optimizers],
            step=self.step,
            seconds=self.seconds,
        )

    def log(self, **figures: Any) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1), **figures}
        with (self.folder / "log.jsonl").open("a") as f:
            f.write(json.dumps(line) + "\n")
        print(f"{self.folder.name}: {json.dumps(line)}", flush=True)


class Advance:
    """One optimizer step: on a CPU as it comes, on CUDA replayed from a graph of its own for each
    shape of batch.
    """

    def __init__(self, session: Session, loss_of: Loss) -> None:
        self._session = session
        self._loss_of = loss_of
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, Batch, dict[str, torch.Tensor]]] = {}
        self._pool: Any = None

    def __call__(self, batch: Batch, *, late: bool) -> dict[str, torch.Tensor]:
        """Take a step; what is logged of it, `loss` among it."""
        batch = {name: t.to(device(), non_blocking=True) for name, t in batch.items()}
        if device().type != "cuda":
            return self._step(batch, late=late)
        key = (late, *((name, t.shape) for name, t in sorted(batch.items())))
        if key not in self._graphs:
            return self._capture(key, batch, late=late)
        graph, static, figures = self._graphs[key]
        for name, t in batch.items():
            static[name].copy_(t)
        graph.replay()
        return figures

    def _capture(self, key: Any, batch: Batch, *, late: bool) -> dict[str, torch.Tensor]:
        """Two steps as they come, for what is set up lazily, and the graph of the next one."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._step(batch, late=late)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            figures = self._step(batch, late=late)
        self._pool = graph.pool()
        self._graphs[key] = graph, batch, figures
        graph.replay()
        return figures

    def _step(self, batch: Batch, *, late: bool) -> dict[str, torch.Tensor]:
        session = self._session
        for optimizer in session.optimizers:
            optimizer.zero_grad(set_to_none=True)
        fast = device().type == "cuda"
        half = torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if fast else None
        with rounded(session.fourbit) if late else nullcontext():
            with half or nullcontext():
                loss, figures = self._loss_of(batch)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(session.model.parameters(), 1.0)
        for optimizer in session.optimizers:
            optimizer.step()
        return {"loss": loss.detach(), **{name: f.detach() for name, f in figures.items()}}


class _Steps(Dataset[Batch]):
    """The batches from one step on."""

    def __init__(self, batch_of: Callable[[int], Batch], start: int, stop: int) -> None:
        self._batch_of = batch_of
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> Batch:
        return self._batch_of(self._start + index)


def batches_ahead(batch_of: Callable[[int], Batch], start: int, stop: int) -> Iterator[Batch]:
    """The batches of the steps start to stop, made ahead by all cores but two."""
    if stop <= start:
        return iter(())
    steps = _Steps(batch_of, start, stop)
    workers = max(0, (os.cpu_count() or 1) - 2)
    if not workers:
        return iter(DataLoader(steps, batch_size=None))
    return iter(
        DataLoader(
            steps,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4,
            multiprocessing_context="fork",
        )
    )


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
    on_gpu = device().type == "cuda"
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest,
            lr=torch.tensor(rate, device=device()),
            betas=(0.9, 0.98),
            weight_decay=0.01,
            foreach=on_gpu,
            capturable=on_gpu,
        )
    ]
    if hidden:
        made.append(Muon(hidden, lr=rate, weight_decay=0.01, momentum=0.95))
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
