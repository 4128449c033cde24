"""Decode steps through captured graphs, inside transformers' own `generate`.

A step of decoding launches hundreds of small kernels, for which the host needs many times as long
as the GPU for their work. With a static cache a step has the same shapes at every token: it is
captured once, and replayed from then on. What goes around it is transformers' own: logits,
sampling, and the end of replies.

Captures are kept for the next replies, by the batch and the length of the cache. They hold the
addresses of the weights and of their cache, so they are dropped when weights move.
"""

from __future__ import annotations

import copy
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gcr.device.out_of_memory import is_out_of_memory
from gcr.device.weights import addresses

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

BUCKET = 512
"""Capacities of caches are multiples of so many tokens."""
KEPT = 1 / 8
"""The largest share of the GPU's memory that kept caches may take."""

MOST_FORMS = 8
"""Steps that differ in form, on one cache; where there are more, each would be captured anew."""

_CAPTURING = threading.Lock()
"""CUDA captures one graph at a time in a process."""
_FAILED: list[object] = []
"""Graphs whose capture failed: torch's allocator may still ask them whose memory is whose."""

Replay = Callable[[], None]


class Capture(Protocol):
    """How steps are captured: on a GPU `CudaGraphs`."""

    def most_bytes(self) -> int:
        """What the caches of captures may take together while nothing is written."""
        ...

    def forget(self) -> None:
        """All captures are gone, and with them what they shared."""
        ...

    def __call__(
        self, step: Callable[[], torch.Tensor], restore: Callable[[], None]
    ) -> tuple[torch.Tensor, Replay]:
        """The logits of a step, and what runs the step again: it reads what the step's inputs hold
        then, and writes into those logits.

        restore: takes back what a run of the step changed besides; to be called after each one that
        was made for the capture: these runs must leave no trace.
        """
        ...


class CudaGraphs:
    """Captures CUDA graphs, which share the memory that they compute in."""

    def __init__(self, device: str) -> None:
        """device: as torch spells it."""
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None  # made with the first capture

    def most_bytes(self) -> int:
        """A share of the memory."""
        import torch

        return int(KEPT * torch.cuda.mem_get_info(self._device)[1])

    def __call__(
        self, step: Callable[[], torch.Tensor], restore: Callable[[], None]
    ) -> tuple[torch.Tensor, Replay]:
        import torch

        usual = torch.cuda.current_stream(self._device)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with _CAPTURING:
            self._stream.wait_stream(usual)
            try:
                with torch.cuda.stream(self._stream):
                    # Libraries make their workspaces when they first run on a stream: on this one,
                    # before the capture, so that they are not in its memory.
                    for _ in range(2):
                        step()
                        restore()
                    logits, graph = self._captured(step)
            finally:
                # Also where it failed: the cache that is dropped then is still being written to.
                usual.wait_stream(self._stream)
        restore()
        return logits, graph.replay

    def _captured(self, step: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """The logits of a step that is captured on the current stream, and its graph.

        As `torch.cuda.graph` does it, which leaves torch in a capture that failed: its allocator
        would give no memory back from then on, its random numbers would raise wherever they are
        drawn, and the stream would stay the current one.
        """
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # during a capture nothing can be freed
        graph = torch.cuda.CUDAGraph()
        # Not "global": the generator may be at work in another thread.
        graph.capture_begin(self._pool, capture_error_mode="thread_local")
        try:
            logits = step()
        except BaseException:
            self._end(graph, failed=True)
            raise
        self._end(graph)
        return logits, graph

    def _end(self, graph: Any, *, failed: bool = False) -> None:
        """End a capture. failed: an error is on its way that says more than this one's."""
        import torch

        try:
            graph.capture_end()
        except RuntimeError:
            _FAILED.append(graph)
            number = self._stream.device_index
            torch._C._cuda_endAllocateToPool(number, self._pool)  # noqa: SLF001
            generator = torch.cuda.default_generators[number]
            generator.graphsafe_set_state(generator.clone_state())  # the same, and in no capture
            if not failed:
                raise

    def forget(self) -> None:
        self._pool = None


@dataclass
class _Step:
    """A captured step. inputs: the tensors that it reads. output: what the model gives back, whose
    logits each replay writes anew.
    """

    inputs: list[torch.Tensor]
    output: Any
    replay: Replay


@dataclass
class _Room:
    """A static cache, and the steps that were captured on it, by the form of their inputs.

    capacity: tokens of each row, at most.
    """

    cache: Any
    capacity: int
    steps: dict[object, _Step] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of the cache, and of what its steps read and write."""
        layers = [layer for layer in self.cache.layers if layer.is_initialized]
        kept = [half for layer in layers for half in (layer.keys, layer.values)]
        for step in self.steps.values():
            kept += [*step.inputs, step.output.logits]
        return sum(tensor.nbytes for tensor in kept)


class Graphs:
    """Has a model decode through captures, where its cache and its masks allow that."""

    def __init__(self, model: Any, capture: Capture | None) -> None:
        """capture: None: steps are not captured."""
        self._model = model
        self._capture = capture
        self._rooms: dict[tuple[int, int], _Room] = {}  # by batch and capacity; last used last
        self._addresses: Sequence[int] = ()  # of the weights, when steps were captured
        if capture is not None and not _is_static(model):
            self.refuse("its cache or its masks change their shapes")

    @property
    def serve(self) -> bool:
        """Whether steps are captured."""
        return self._capture is not None

    @contextmanager
    def decoding(
        self, batch: int, prompt: int, expected: int, spare: Callable[[], int] | None = None
    ) -> Iterator[Any]:
        """Gives the cache with which `generate` decodes through captures inside; None: without any.

        prompt: tokens of the prompts. expected: tokens that are likely to follow; the cache grows
        where there are more. spare: returns the bytes that may be kept from then on; None: as many
        as captures of this kind may take.
        """
        if not self.serve:
            yield None
            return
        if self._addresses and addresses(self._model) != self._addresses:
            self.drop()
        run = _Run(self, self._model.forward, batch, prompt, expected)
        before = vars(self._model).get("forward")
        self._model.forward = run.forward()
        try:
            yield run.room.cache
        finally:
            del self._model.forward
            if before is not None:
                self._model.forward = before
            self._tidy(spare)

    def room(self, batch: int, tokens: int) -> _Room:
        """An empty cache of so many rows, each with room for so many tokens and one more."""
        from transformers import StaticCache

        capacity = (tokens // BUCKET + 1) * BUCKET
        room = self._rooms.pop((batch, capacity), None)
        room = room or _Room(StaticCache(self._model.config, capacity), capacity)
        self._rooms[batch, capacity] = room
        room.cache.reset()
        return room

    def capture(self, step: Callable[[], Any], restore: Callable[[], None]) -> tuple[Any, Replay]:
        """A step's output, whose logits what comes with it writes anew.

        Raises what the capture raises.
        """
        if self._capture is None:
            raise ValueError("steps are not captured")
        output: Any = None

        def logits() -> torch.Tensor:
            nonlocal output
            output = step()
            written: torch.Tensor = output.logits
            return written

        output.logits, replay = self._capture(logits, restore)
        self._addresses = addresses(self._model)
        return output, replay

    def drop(self) -> int:
        """Forget all captures, and free their memory. Returns how many caches these had."""
        caches = len(self._rooms)
        self._rooms.clear()
        self._addresses = ()
        if self._capture is not None:
            self._capture.forget()
        return caches

    def give_up(self) -> str:
        """Capture nothing more; what that means, in words: empty where nothing was captured."""
        if self._capture is None:
            return ""
        self.drop()
        self._capture = None
        return "replies are written without captured graphs"

    def refuse(self, why: str) -> None:
        """Capture nothing more, and say so."""
        self.give_up()
        logger.warning("%s writes without a captured graph: %s", type(self._model).__name__, why)

    def kept_bytes(self) -> int:
        """Of the caches of all captures."""
        return sum(room.bytes for room in self._rooms.values())

    def _tidy(self, spare: Callable[[], int] | None) -> None:
        """Forget what was not used for longest, where all captures take too much."""
        most = self._capture.most_bytes() if self._capture else 0
        if spare is not None and self._rooms:
            most = min(most, spare())
        while self.kept_bytes() > most:
            del self._rooms[next(iter(self._rooms))]


class _Run:
    """One call of `generate`, which calls the model for the prompts and then for each token."""

    def __init__(
        self, graphs: Graphs, eager: Callable[..., Any], batch: int, prompt: int, expected: int
    ) -> None:
        self._graphs = graphs
        self._eager = eager
        self._batch = batch
        self._length = prompt  # tokens in each row, once the prompts are read
        self.room = graphs.room(batch, prompt + expected)

    def forward(self) -> Callable[..., Any]:
        @functools.wraps(self._eager)  # `generate` looks at its signature
        def forward(*args: Any, **inputs: Any) -> Any:
            is_step = inputs.get("past_key_values") is self.room.cache and not args
            # Prompts come first, in one call or several.
            if not is_step or inputs["input_ids"].shape[1] > 1:
                return self._eager(*args, **inputs)
            return self._next(inputs)

        return forward

    def _next(self, inputs: Mapping[str, Any]) -> Any:
        """The output for one token of each row."""
        output = self._replayed(inputs) if self._graphs.serve else None
        if output is None:
            output = self._eager(**inputs)
        self._length += 1
        if self._length == self.room.capacity:
            output = copy.copy(output)
            output.past_key_values = self._moved().cache
        return output

    def _replayed(self, inputs: Mapping[str, Any]) -> Any:
        """The output, through a capture that is made where there is none yet; None where none can
        be made.
        """
        tensors, form = _flat(inputs)
        step = self.room.steps.get(form)
        if step is None:
            step = self._captured(inputs, tensors)
            if step is None:
                return None
            self.room.steps[form] = step
            if len(self.room.steps) > MOST_FORMS:
                self._graphs.refuse("its steps differ")
        for static, tensor in zip(step.inputs, tensors, strict=True):
            static.copy_(tensor)
        step.replay()
        return step.output

    def _captured(self, inputs: Mapping[str, Any], tensors: list[torch.Tensor]) -> _Step | None:
        static = [tensor.clone() for tensor in tensors]
        filled = _filled(inputs, static)
        layers = self.room.cache.layers
        lengths = [layer.cumulative_length.clone() for layer in layers]

        def restore() -> None:
            for layer, length in zip(layers, lengths, strict=True):
                layer.cumulative_length.copy_(length)

        try:
            output, replay = self._graphs.capture(lambda: self._eager(**filled), restore)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            restore()
            self._graphs.refuse(str(error).partition("\n")[0])
            return None
        return _Step(static, output, replay)

    def _moved(self) -> _Room:
        """Go on in a larger cache, with what is in the full one."""
        full, self.room = self.room, self._graphs.room(self._batch, self._length)
        for old, new in zip(full.cache.layers, self.room.cache.layers, strict=True):
            new.update(old.keys, old.values)
        return self.room


def _is_static(model: Any) -> bool:
    """Whether a step has the same shapes at every token, and asks for nothing on the host."""
    from transformers import StaticCache
    from transformers.cache_utils import StaticLayer

    if model.config.is_encoder_decoder or not model._can_compile_fullgraph:  # noqa: SLF001
        return False
    layers = StaticCache(model.config, BUCKET).layers
    return all(type(layer) is StaticLayer for layer in layers)  # sliding ones count on the host


def _flat(inputs: Mapping[str, Any]) -> tuple[list[torch.Tensor], object]:
    """The tensors among the inputs, and what they and all else must be alike in for a capture."""
    tensors: list[torch.Tensor] = []
    form: list[object] = []
    for name, value in inputs.items():
        # Masks may come by the kind of layer.
        for part, item in value.items() if type(value) is dict else [("", value)]:
            if hasattr(item, "untyped_storage"):
                tensors.append(item)
                form.append((name, part, item.shape, item.dtype))
            else:
                plain = isinstance(item, bool | int | float | str | None)
                form.append((name, part, item if plain else id(item)))
    return tensors, tuple(form)


def _filled(inputs: Mapping[str, Any], tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The inputs with others in place of their tensors, in the order of `_flat`."""
    left = iter(tensors)

    def other(value: Any) -> Any:
        if type(value) is dict:
            return {part: other(item) for part, item in value.items()}
        return next(left) if hasattr(value, "untyped_storage") else value

    return {name: other(value) for name, value in inputs.items()}
