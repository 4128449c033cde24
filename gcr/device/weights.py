"""Weights that are moved to a device and off it, without ever being copied back.

Weights do not change. So from the first time that they leave the device, each tensor has one copy
in the machine's memory, pinned where there is a GPU, and the tensors of the model point either to
that copy or to one on the device: bringing copies to the device, releasing points back. 4-bit
weights take their quantization state along, which other ways of moving a model leave behind.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

logger = logging.getLogger(__name__)

Setter = Callable[[Any], None]

HOOKS = {"_hf_hook", "_diffusers_hook", "_old_forward", "forward", "_compiled_call_impl"}
"""Attributes that accelerate, diffusers and torch add to a module, each with a reference to it."""

BLOCK_BYTES = 256 * 1024**2
ALIGNMENT = 256  # bytes


class Part:
    """One module whose weights come and go together."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._host: list[tuple[Any, list[Setter]]] | None = None  # made when it is first released
        self._packed: list[bool] = []  # the layout of the 4-bit weights then

    def bytes(self) -> int:
        """Of its weights."""
        return sum(tensor.nbytes for tensor, _ in _tensors(self.module))

    def bring(self, device: str) -> None:
        """Copy the weights to a device, and have the module use that copy."""
        self._forget_outdated()
        for host, setters in self._host or _tensors(self.module):
            _point(setters, host.data.to(device, non_blocking=True, copy=True))

    def release(self) -> None:
        """Have the module use the copies in the machine's memory, which are made the first time."""
        self._forget_outdated()
        if self._host is None:
            self._host, self._packed = _hosted(_tensors(self.module)), _packed(self.module)
        for host, setters in self._host:
            _point(setters, host)

    def _forget_outdated(self) -> None:
        """Drop copies of 4-bit weights that bitsandbytes has laid out anew since: it does so when
        they first run on a CPU with AVX512-BF16.
        """
        if self._host is not None and self._packed != _packed(self.module):
            self._host = None


class Weights:
    """The modules of one model, each a part of it.

    moving: called before they move, by whoever knows where they are.
    kept: returns the bytes that their model's work has left on the device for the next.
    """

    def __init__(
        self,
        modules: Iterable[Any],
        moving: Callable[[], object] = lambda: None,
        kept: Callable[[], int] = lambda: 0,
    ) -> None:
        self._parts = [Part(module) for module in modules]
        self._moving = moving
        self._kept = kept
        self._bytes: list[int] | None = None
        self._hooked = False
        weakref.finalize(self, _unhook_all, [part.module for part in self._parts]).atexit = False

    @property
    def weight_bytes(self) -> int:
        """Of the whole model."""
        return sum(self._sizes())

    @property
    def part_bytes(self) -> int:
        """Of the largest part: of the whole model where it has only one."""
        return max(self._sizes(), default=0)

    @property
    def several(self) -> bool:
        """Whether parts of it can be on a device without the others."""
        return len(self._parts) > 1

    @property
    def kept_bytes(self) -> int:
        """What work has left on the device for the next."""
        return self._kept()

    def bring(self, device: str) -> None:
        """Bring all parts to a device."""
        self._moving()
        self._unhook()
        for part in self._parts:
            part.bring(device)

    def release(self) -> None:
        """Take all parts off the device."""
        self._moving()
        self._unhook()
        for part in self._parts:
            part.release()

    def by_parts(self, device: str) -> None:
        """From now on bring each part to the device when it is called, in place of the others."""
        self.release()
        from accelerate.hooks import add_hook_to_module

        for part in self._parts:
            add_hook_to_module(part.module, _bring_hook(part, self._parts, device))
        self._hooked = True

    def _unhook(self) -> None:
        if self._hooked:
            from accelerate.hooks import remove_hook_from_module

            for part in self._parts:
                remove_hook_from_module(part.module)
            self._hooked = False

    def _sizes(self) -> Sequence[int]:
        if self._bytes is None:
            self._bytes = [part.bytes() for part in self._parts]
        return self._bytes


def addresses(module: Any) -> list[int]:
    """Where the tensors of a module are."""
    return [tensor.data_ptr() for tensor, _ in _tensors(module)]


def part_from_layers(model: Any) -> None:
    """Have 4-bit weights not know the layers that they are in, which they need to be quantized.

    A layer and a weight that know each other are a circle, whose memory is only freed when Python
    looks for such: another model may have to be loaded before that.
    """
    for weight in model.parameters():
        if getattr(weight, "module", None) is not None:
            weight.module = None


def _unhook_all(modules: Iterable[Any]) -> None:
    """Remove what libraries added to modules that are no longer needed: hooks, compiled calls.

    They refer back to their modules: such cycles keep memory until the garbage collector runs.
    """
    for module in chain.from_iterable(module.modules() for module in modules):
        for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values():
            hook.fn_ref = None  # another cycle
        added = HOOKS & vars(module).keys()
        if added == {"forward"}:
            continue  # no hook's: of whoever has the model decode through captures at this moment
        for name in added:
            delattr(module, name)


def _bring_hook(part: Part, parts: Sequence[Part], device: str) -> Any:
    """A hook of accelerate that brings a part before it runs.

    diffusers reads from such hooks where a pipeline runs, and calls them before a VAE decodes, too.
    """
    from accelerate.hooks import ModelHook

    class BringPart(ModelHook):  # type: ignore[misc]
        # No closure: a class is a reference cycle, and would keep what it closes over.
        def __init__(self, part: Part, parts: Sequence[Part], device: str) -> None:
            self.execution_device = device
            self.is_here = False
            self.part, self.others = part, [other for other in parts if other is not part]

        def pre_forward(self, _module: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_here:
                for other in self.others:
                    other.release()
                    other.module._hf_hook.is_here = False  # noqa: SLF001 - accelerate's own name
                self.part.bring(self.execution_device)
                self.is_here = True
            return args, kwargs

    return BringPart(part, parts, device)


def _tensors(module: Any) -> Iterator[tuple[Any, list[Setter]]]:
    """Every tensor of a module once, with a setter for each place that refers to it."""
    places: dict[int, tuple[Any, list[Setter]]] = {}
    for tensor in chain(module.parameters(), module.buffers()):
        places[id(tensor)] = (tensor, [_data_of(tensor)])
        state = getattr(tensor, "quant_state", None)
        for owner in (state, getattr(state, "state2", None)):
            for name, value in vars(owner).items() if owner is not None else ():
                if hasattr(value, "untyped_storage"):
                    _, setters = places.setdefault(id(value), (value, []))
                    setters.append(_attribute_of(owner, name))
    return iter(places.values())


def _packed(module: Any) -> list[bool]:
    """For each 4-bit weight whether it is laid out for a CPU's kernel; then it has no `state2`."""
    states = (getattr(weight, "quant_state", None) for weight in module.parameters())
    return [
        getattr(state, "packing_format_for_cpu", False) for state in states if state is not None
    ]


def _point(setters: Iterable[Setter], tensor: Any) -> None:
    for point_to in setters:
        point_to(tensor)


def _data_of(tensor: Any) -> Setter:
    def point_to(other: Any) -> None:
        tensor.data = other

    return point_to


def _attribute_of(owner: Any, name: str) -> Setter:
    def point_to(other: Any) -> None:
        setattr(owner, name, other)

    return point_to


def _hosted(tensors: Iterable[tuple[Any, list[Setter]]]) -> list[tuple[Any, list[Setter]]]:
    """The tensors' copies in the machine's memory, which are themselves where there is no GPU."""
    import torch

    packed = Packed() if torch.cuda.is_available() else None
    return [
        (packed.copy(tensor.data) if packed else tensor.data.cpu(), setters)
        for tensor, setters in tensors
    ]


# The copies


class Packed:
    """Copies of tensors in blocks of pinned memory, from which a GPU copies fastest.

    torch rounds each allocation there up to a power of two, which for weights could be twice as
    much as they need. So small tensors share blocks of such a size.

    Arguments:
        allocate: returns so many bytes as a tensor; by default `pinned`.
        block: bytes of a block.
    """

    def __init__(
        self, allocate: Callable[[int], Any] | None = None, block: int = BLOCK_BYTES
    ) -> None:
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
    """A tensor of so many bytes, in pinned memory if the system gives any more of that."""
    import torch

    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        message = "no more memory can be pinned, so models are swapped more slowly: %s"
        logger.warning(message, reason)
        return torch.empty(size, dtype=torch.uint8)
