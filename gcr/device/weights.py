"""Weights that come to a device and go, without ever being copied back.

Weights do not change. So once they had to leave, each tensor has one copy in the machine's memory,
pinned where there is a GPU, and the tensors of the model point either to that copy or to one on the
device: to bring is to copy there, to release is to point back. Of 4-bit weights the quantization
state goes with them, which other ways of moving a model leave behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from gcr.device.pinned import Packed

Setter = Callable[[Any], None]

CIRCLES = {"_hf_hook", "_diffusers_hook", "_old_forward", "forward", "_compiled_call_impl"}
"""Names of what accelerate, diffusers and torch hang on a module."""


class Part:
    """One module whose weights come and go together."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._host: list[tuple[Any, list[Setter]]] | None = None  # made when it has to leave
        self._packed: list[bool] = []  # how the 4-bit weights were laid out then

    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor, _ in _tensors(self.module))

    def bring(self, device: str) -> None:
        """Copy the weights to a device, and have the module work with that copy."""
        self._forget_outdated()
        for host, setters in self._host or _tensors(self.module):
            _point(setters, host.data.to(device, non_blocking=True, copy=True))

    def release(self) -> None:
        """Have the module point to the copies in the machine's memory, which are made the first
        time. Later nothing is copied.
        """
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
    """The modules of one model, each a part of it."""

    def __init__(self, modules: Iterable[Any]) -> None:
        self._parts = [Part(module) for module in modules]
        self._bytes: list[int] | None = None
        self._hooked = False
        weakref.finalize(self, _part, [part.module for part in self._parts]).atexit = False

    @property
    def weight_bytes(self) -> int:
        return sum(self._sizes())

    @property
    def part_bytes(self) -> int:
        """Of the largest part, which is all of a model that has no parts."""
        return max(self._sizes(), default=0)

    @property
    def several(self) -> bool:
        """Whether parts of it can be on a device without the others."""
        return len(self._parts) > 1

    def bring(self, device: str) -> None:
        self._unhook()
        for part in self._parts:
            part.bring(device)

    def release(self) -> None:
        self._unhook()
        for part in self._parts:
            part.release()

    def by_parts(self, device: str) -> None:
        """From here on bring each part to the device when it is called, in place of the others."""
        self.release()
        from accelerate.hooks import add_hook_to_module

        for part in self._parts:
            add_hook_to_module(part.module, _visit(part, self._parts, device))
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


def _part(modules: Iterable[Any]) -> None:
    """Take off what libraries hung on modules that nobody needs any more: hooks, caches, compiled
    calls. It refers back to its module, and such circles keep their memory until Python looks for
    them.
    """
    for module in chain.from_iterable(module.modules() for module in modules):
        for hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).values():
            hook.fn_ref = None  # a circle of its own, with the module in it
        for name in CIRCLES & vars(module).keys():
            delattr(module, name)


def _visit(part: Part, parts: Sequence[Part], device: str) -> Any:
    """A hook that runs before a part does.

    diffusers asks such hooks where a pipeline works, and calls them before a VAE decodes, too.
    """
    from accelerate.hooks import ModelHook

    class Visit(ModelHook):  # type: ignore[misc]
        # Nothing of the function around it: a class is a circle, which would keep that.
        def __init__(self, part: Part, parts: Sequence[Part], device: str) -> None:
            self.execution_device = device
            self.here = False
            self.part, self.others = part, [other for other in parts if other is not part]

        def pre_forward(self, _module: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.here:
                for other in self.others:
                    other.release()
                    other.module._hf_hook.here = False  # noqa: SLF001 - accelerate's own name
                self.part.bring(self.execution_device)
                self.here = True
            return args, kwargs

    return Visit(part, parts, device)


def _tensors(module: Any) -> Iterator[tuple[Any, list[Setter]]]:
    """Every tensor of a module once, and what sets each place that it is used in."""
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
