"""Captures steps as CUDA graphs do, on a CPU: operations are recorded with the memory that they
read and write, and a replay runs nothing but them. Python and its numbers have no part in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gcr.device.weights import addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from gcr.critic.graphs import Replay

ATEN = torch.ops.aten
WAITS = {ATEN._local_scalar_dense.default, ATEN.item.default, ATEN.is_nonzero.default}
"""What brings a number to the host, which no capture allows."""


class Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    def __torch_dispatch__(self, call: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call in WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = call(*args, **(kwargs or {}))
        self.operations.append((call, args, kwargs or {}, tensors(result)))
        return result

    def replay(self) -> None:
        for call, args, kwargs, written in self.operations:
            for place, new in zip(written, tensors(call(*args, **kwargs)), strict=True):
                if new.data_ptr() != place.data_ptr():  # else a view, or written in place
                    place.copy_(new)


class Recorder:
    """A `gcr.critic.graphs.Capture`.

    model: whose weights must be where they were when a step is replayed.
    captured, replayed: how often. full: how many of the next captures raise an error of memory.
    """

    def __init__(self, model: Any, kept_bytes: int = 2**30) -> None:
        self.model = model
        self._kept_bytes = kept_bytes
        self.captured = self.replayed = 0
        self.full = 0

    def most_bytes(self) -> int:
        return self._kept_bytes

    def forget(self) -> None: ...

    def __call__(
        self, step: Callable[[], torch.Tensor], restore: Callable[[], None]
    ) -> tuple[torch.Tensor, Replay]:
        if self.full:
            self.full -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        step()
        restore()
        with Recording() as recording:
            logits = step()
        restore()
        self.captured += 1
        places = addresses(self.model)

        def replay() -> None:
            assert addresses(self.model) == places, "the weights are no longer where they were"
            recording.replay()
            self.replayed += 1

        return logits, replay


def tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
