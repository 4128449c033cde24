"""Two models on one device: both stay there when they fit, else they take turns.

On a GPU a model at work needs its weights there and room to work. Where the weights of both leave
that room, nothing ever moves. Where they do not, the one that is not working waits in the
machine's memory. On any other device there is nothing to gain by moving, and nothing moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

Result = TypeVar("Result")

WORKING_BYTES = 3 * 1024**3
"""Room to work beside the weights: decoding a 1024 px image, or the KV cache of a batch of
critiques (estimated). When it is too little, the other model makes room all the same."""


class Movable(Protocol):
    """A model that can wait in the machine's memory."""

    def weight_bytes(self) -> int: ...
    def move(self, device: str) -> None: ...


class SharedDevice:
    """A torch device and the models that work on it, one at a time."""

    def __init__(self, name: str, free_bytes: Callable[[], int] | None = None) -> None:
        """name: as torch spells it. free_bytes: of the device; by default torch is asked."""
        self.name = name
        self.limited = name.partition(":")[0] == "cuda"
        self._free_bytes = free_bytes or (lambda: _free_bytes(name))
        self._resident: list[Movable] = []

    def run(self, model: Movable, work: Callable[[], Result]) -> Result:
        """Call `work` with the model's weights on the device.

        Raises ModelError when the device is too small for this model alone.
        """
        if not self.limited:
            return work()
        import torch

        try:
            self._bring(model)
            return work()
        except torch.OutOfMemoryError as error:
            if not self._clear(besides=model):
                raise _too_small(error) from error
        try:
            self._bring(model)
            return work()
        except torch.OutOfMemoryError as error:
            raise _too_small(error) from error

    def clear(self) -> None:
        """Move every model out: one that loads straight onto the device needs the room."""
        if self.limited:
            self._clear(besides=None)

    def hold(self, model: Movable) -> None:
        """Note that a model's weights are on the device already."""
        if self.limited and not self._is_resident(model):
            self._resident.append(model)

    def _bring(self, model: Movable) -> None:
        resident = self._is_resident(model)
        needed = WORKING_BYTES + (0 if resident else model.weight_bytes())
        if self._free_bytes() < needed:
            self._clear(besides=model)
        if not resident:
            # Noted first: a move that runs out of memory half-way has to be undone as well.
            self._resident.append(model)
            model.move(self.name)

    def _clear(self, besides: Movable | None) -> bool:
        """Whether anything moved out."""
        leaving = [model for model in self._resident if model is not besides]
        for model in leaving:
            model.move("cpu")
        self._resident = [model for model in self._resident if model is besides]
        if leaving:
            import torch

            torch.cuda.empty_cache()
        return bool(leaving)

    def _is_resident(self, model: Movable) -> bool:
        return any(held is model for held in self._resident)


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _free_bytes(name: str) -> int:
    """What a model could still take: free on the device, or kept by torch for later."""
    import torch

    free, _ = torch.cuda.mem_get_info(name)
    return free + torch.cuda.memory_reserved(name) - torch.cuda.memory_allocated(name)


def _too_small(error: torch.OutOfMemoryError) -> ModelError:
    said = next(iter(str(error).splitlines()), "out of memory")
    return ModelError(
        f"the GPU's memory is too small: {said}",
        "draw smaller or fewer images at once (-W, -H, --images), or take a smaller profile",
    )
