"""Scenes to train on and their pictures, made on all cores, the same for the same name."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from gcr.pocket import world

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 500  # scenes made by one process at a time
Item = TypeVar("Item")
Made = TypeVar("Made")


def scenes(name: str, count: int) -> list[world.Scene]:
    """Random scenes of trained pairs."""
    chunks = [(name, start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
    return [scene for chunk in spread_out(_sample, chunks) for scene in chunk]


def _sample(chunk: tuple[str, int, int]) -> list[world.Scene]:
    name, start, count = chunk
    rng = random.Random(f"{name} {start}")
    return [world.sample(rng) for _ in range(count)]


def render(scenes: list[world.Scene]) -> torch.Tensor:
    """Scenes as (scenes, 3, SIDE, SIDE), uint8."""
    chunks = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    return torch.cat([torch.from_numpy(pixels) for pixels in spread_out(_render, chunks)])


def _render(scenes: list[world.Scene]) -> NDArray[np.uint8]:
    pixels = np.stack([np.asarray(world.draw(scene)) for scene in scenes])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def spread_out(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `make` makes of each item, in order, by as many processes as there are cores."""
    items = list(items)
    workers = min(os.cpu_count() or 1, len(items))
    if workers < 2:
        yield from map(make, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(make, items)
