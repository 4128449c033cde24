"""A GPU: its memory, and the queues that it takes work from."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from gcr.device.loading import imported
from gcr.device.residency import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


CONTEXT_BYTES = 512 * 1024**2
"""What a process takes of a GPU besides what torch allocates (estimated)."""


class Card(Protocol):
    """A device's memory, in bytes, and its queues of work."""

    def room(self) -> int:
        """What this process can have in all, including what it has already."""

    def begin(self) -> None:
        """Measure the peak from here on."""

    def peak(self) -> int:
        """The most that this process had since `begin`."""

    def queue(self, number: int) -> AbstractContextManager[None]:
        """A context whose work runs at the same time as that of other numbers."""

    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16 in hardware."""


class TorchCard:
    """A GPU, through torch."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._streams: dict[int, Any] = {}

    def room(self) -> int:
        import torch

        free, total = torch.cuda.mem_get_info(self._name)
        share = torch.cuda.get_per_process_memory_fraction(self._name)
        return min(free + torch.cuda.memory_reserved(self._name), int(share * total))

    def begin(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self._name)

    def peak(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated(self._name)

    def has_bfloat16(self) -> bool:
        """Not before Ampere: Turing cards emulate it, many times slower."""
        import torch

        with torch.cuda.device(self._name):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    @contextmanager
    def queue(self, number: int) -> Iterator[None]:
        """Queue 0 is torch's default stream, on which weights are moved, too."""
        if number == 0:
            yield
            return
        import torch

        if number not in self._streams:
            self._streams[number] = torch.cuda.Stream(self._name)  # type: ignore[no-untyped-call]
        stream = self._streams[number]
        stream.wait_stream(torch.cuda.default_stream(self._name))
        with torch.cuda.stream(stream):
            try:
                yield
            finally:
                # Also where work raised: its kernels would run on into what comes next.
                stream.synchronize()


def take_share(share: float) -> None:
    """Have this process take no more than a share of each GPU's memory.

    share: 0-1. Plans keep to it, and torch raises torch.OutOfMemoryError beyond it.
    """
    import torch

    if share < 1 and torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            _, total = torch.cuda.mem_get_info(number)
            torch.cuda.set_per_process_memory_fraction(
                max(0.0, share - CONTEXT_BYTES / total), number
            )


def device_name() -> str:
    """The name that the GPU gives itself, or `cpu`."""
    imported("torch")
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def memory_gib() -> tuple[float, float]:
    """Free and total memory of the GPU in GiB; nothing of either where there is no GPU."""
    imported("torch")
    import torch

    if not torch.cuda.is_available():
        return 0.0, 0.0
    free, total = torch.cuda.mem_get_info()
    return free / GIB, total / GIB
