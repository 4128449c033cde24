"""Copies of tensors in pinned memory, from which a GPU copies fastest.

torch rounds each allocation there up to a power of two, which for weights could be twice as much as
they need. So small tensors share blocks of a size that is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

BLOCK = 256 * 1024**2
ALIGNMENT = 256


class Packed:
    """Copies in blocks. allocate: gives so many bytes, as a tensor; by default pinned ones."""

    def __init__(self, allocate: Callable[[int], Any] | None = None, block: int = BLOCK) -> None:
        self._allocate = allocate or pinned
        self._size = block
        self._block: Any = None
        self._used = block  # of the block in hand

    def copy(self, tensor: Any) -> Any:
        """A copy of the tensor's values, in its type and shape."""
        room = self._room(tensor.nbytes)
        return room.view(tensor.dtype).view(tensor.shape).copy_(tensor)

    def _room(self, size: int) -> Any:
        if size > self._size:
            return self._allocate(size)
        if self._used + size > self._size:
            self._block, self._used = self._allocate(self._size), 0
        start = self._used
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return self._block[start : start + size]


def pinned(size: int) -> Any:
    """So many bytes of pinned memory, or of any where the system gives no more of that."""
    import torch

    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        logger.warning("no more memory can be pinned, so models are swapped more slowly: %s", said)
        return torch.empty(size, dtype=torch.uint8)
