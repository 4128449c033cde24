"""The machine that gcr runs on, as settings ask about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.device import memory

if TYPE_CHECKING:
    from gcr.settings.address import Address


class ThisMachine:
    """A `gcr.settings.resolving.Machine` that asks torch, and servers."""

    def free_gib(self) -> float:
        free, _ = memory.gpu_gib()
        return free

    def device_name(self) -> str:
        return memory.device_name()

    def distilled(self, generator: str) -> str:
        from gcr.hub import checkpoints

        return checkpoints.distilled(generator)

    def model_at(self, server: Address, *, trusted: bool) -> str:
        from gcr.critic import endpoint

        return endpoint.with_model(server, trusted=trusted).model
