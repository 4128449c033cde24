"""What a GPU says of its memory, and the queues that it takes work from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class Card(Protocol):
    """A device's memory, in bytes, and its queues of work."""

    def room(self) -> int:
        """What this process could have in all, with what it has already."""

    def begin(self) -> None:
        """Measure from here on."""

    def peak(self) -> int:
        """The most that this process had since then."""

    def queue(self, number: int) -> AbstractContextManager[None]:
        """What is done inside need not wait for what is done inside another number's."""


class TorchCard:
    """A GPU, as torch tells it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._streams: dict[int, Any] = {}

    def room(self) -> int:
        import torch

        free, _ = torch.cuda.mem_get_info(self._name)
        return free + torch.cuda.memory_reserved(self._name)

    def begin(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self._name)

    def peak(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated(self._name)

    @contextmanager
    def queue(self, number: int) -> Iterator[None]:
        """The first is torch's default stream, on which weights are brought, too."""
        if number == 0:
            yield
            return
        import torch

        if number not in self._streams:
            self._streams[number] = torch.cuda.Stream(self._name)  # type: ignore[no-untyped-call]
        stream = self._streams[number]
        stream.wait_stream(torch.cuda.default_stream(self._name))
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()
