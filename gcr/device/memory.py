"""Two models on one device: both stay there when they fit, else they take turns.

On a GPU a model at work needs its weights there and room to work. Which weights stay is planned
before each piece of work, from what was measured: the weights, the most that work needed so far,
and what is free.

    both      the weights of both models stay there
    swap      the model at work is there, the other waits in the machine's memory
    offload   as swap, and of a pipeline only the part at work is there

Each mode needs less memory and more time than the one before. On any other device there is nothing
to gain by moving, and nothing moves.

Models may be put to work from several threads. They work one at a time, unless all of them are on
the device, the work of each was measured, and there is room for all of it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from gcr.device.loading import imported, working
from gcr.device.out_of_memory import is_out_of_memory
from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gcr.device.weights import Weights

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

TURNS = {
    "swap": "the two models take turns on the GPU",
    "offload": "the parts of the generator take turns on the GPU",
}

Mode = Literal["both", "swap", "offload"]
Residency = Literal["auto", "both", "swap", "offload"]
MODES: tuple[Mode, ...] = ("both", "swap", "offload")

GIB = 1024**3
WORKING_BYTES = 3 * GIB
"""What work needs besides the weights, until that is measured (estimated): decoding a 1024 px
image, or the KV cache of a batch of critiques."""


class Footprint(NamedTuple):
    """What one model needs, in bytes.

    Attributes:
        weights: of the whole model.
        part: weights of the largest part that can be on the device without the others.
        working: what work needs besides the weights, at most.
    """

    weights: int
    part: int
    working: int = WORKING_BYTES


class Plan(NamedTuple):
    """How the models use the device.

    Attributes:
        mode: which weights stay there.
        needs: bytes, at most.
        free: bytes that there are.
        fits: whether there is room.
    """

    mode: Mode
    needs: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needs <= self.free

    def __str__(self) -> str:
        room = f"needs {self.needs / GIB:.1f} GiB of {self.free / GIB:.1f}"
        return f"{self.mode}: {room}" + ("" if self.fits else ", which is too much")


def needs(mode: Mode, models: Sequence[Footprint]) -> int:
    """Bytes on the device in a mode, at most, where models work one at a time."""
    if mode == "both":
        return sum(m.weights for m in models) + max((m.working for m in models), default=0)
    if mode == "swap":
        return max((m.weights + m.working for m in models), default=0)
    return max((m.part + m.working for m in models), default=0)


def needs_at_once(models: Sequence[Footprint]) -> int:
    """Bytes on the device, at most, where all models are there and at work."""
    return sum(m.weights + m.working for m in models)


def plan(modes: Sequence[Mode], models: Sequence[Footprint], free: int) -> Plan:
    """The first of the modes that fits, else the last.

    free: bytes on the device when none of the models is there.
    """
    plans = [Plan(mode, needs(mode, models), free) for mode in modes]
    return next((candidate for candidate in plans if candidate.fits), plans[-1])


CONTEXT_BYTES = 512 * 1024**2
"""What a process takes of a GPU besides what torch allocates (estimated)."""


class Card:
    """A GPU, through torch: its memory, in bytes, and its queues of work."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._streams: dict[int, Any] = {}

    def room(self) -> int:
        """What this process can have in all, including what it has already."""
        import torch

        free, total = torch.cuda.mem_get_info(self._name)
        share = torch.cuda.get_per_process_memory_fraction(self._name)
        return min(free + torch.cuda.memory_reserved(self._name), int(share * total))

    def begin(self) -> None:
        """Measure the peak from here on."""
        import torch

        torch.cuda.reset_peak_memory_stats(self._name)

    def peak(self) -> int:
        """The most that this process had since `begin`."""
        import torch

        return torch.cuda.max_memory_allocated(self._name)

    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16 itself: before Ampere it is emulated, and slow."""
        import torch

        with torch.cuda.device(self._name):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))

    @contextmanager
    def queue(self, number: int) -> Iterator[None]:
        """A context whose work runs at the same time as that of other numbers.

        Queue 0 is torch's default stream, on which weights are moved, too.
        """
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


class SharedDevice:
    """A torch device and the models that work on it.

    Arguments:
        name: as torch spells it.
        mode: which weights stay there; `auto` plans that.
        card: its memory; None: through torch.
        smaller: names models that need at most so many GiB, for a hint; empty: there are none.

    Attributes:
        name: as torch spells it.
        limited: whether its memory is: it is a GPU.
        peak_bytes: the most memory that was ever allocated.
    """

    def __init__(
        self,
        name: str,
        mode: Residency = "auto",
        card: Card | None = None,
        smaller: Callable[[float], str] = lambda _: "",
    ) -> None:
        self.name = name
        self._smaller = smaller
        self._modes: Sequence[Mode] = MODES if mode == "auto" else (mode,)
        self.limited = name.partition(":")[0] == "cuda"
        self._card = card or Card(name)
        self._models: list[Weights] = []
        self._resident: dict[int, str] = {}  # by id of a model: "whole" or "parts"
        self._working: dict[int, int] = {}  # by id of a model: measured bytes
        self.peak_bytes = 0
        self._changed = Condition()
        self._at_work: list[_Turn] = []
        self._warned = False  # that the device has no bfloat16
        self._crowded = False  # two models at work once ran out of memory

    def join(self, model: Weights, *, resident: bool = False) -> None:
        """Register a model. resident: whether its weights are on the device already."""
        if self.limited and not any(joined is model for joined in self._models):
            self._models.append(model)
            if resident:
                self._resident[id(model)] = "whole"

    def run(self, model: Weights, work: Callable[[], Result]) -> Result:
        """Call `work` with the model's weights on the device; it is over when this returns.

        Raises ModelError when there is no room for the weights, and where there is none for the
        work, the library's own error (`gcr.device.out_of_memory.is_out_of_memory`).
        """
        if not self.limited:
            with working():
                return work()
        import torch

        self.join(model)
        while True:
            with self._turn(model) as turn:
                try:
                    return self._measured(turn, work)
                except RuntimeError as error:
                    if not (turn.shared and is_out_of_memory(error)):
                        raise
            self._crowded = True
            logger.warning("out of memory: the models work one at a time from here on")
            torch.cuda.empty_cache()

    def dtype(self, name: str = "auto") -> Any:
        """The torch.dtype that models compute in on this device.

        name: as torch spells it; `auto` is bfloat16. A CPU computes in float32 in any case: half
        precision is slower there, where it works at all. A GPU without bfloat16 computes in
        float16 instead, with a warning.
        """
        import torch

        if self.name == "cpu":
            return torch.float32
        if name in ("auto", "bfloat16") and self.limited and not self._card.has_bfloat16():
            if not self._warned:
                logger.warning("this GPU has no bfloat16: models compute in float16, not all well")
            self._warned = True
            return torch.float16
        return torch.bfloat16 if name == "auto" else getattr(torch, name)

    def side_by_side(self) -> bool:
        """Whether models can work at the same time from now on."""
        if not self.limited or self._crowded or self.plan().mode != "both":
            return False
        all_there = all(self._resident.get(id(model)) == "whole" for model in self._models)
        all_measured = all(id(model) in self._working for model in self._models)
        models = [self.footprint(model) for model in self._models]
        needs = needs_at_once(models)
        return all_there and all_measured and needs <= self._card.room()

    @contextmanager
    def _turn(self, model: Weights) -> Iterator[_Turn]:
        """A model's time at work, beside others where there is room for that."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_work(model))
            turn = _Turn(model, shared=bool(self._at_work))
            if not turn.shared:
                self._bring(model)
                self._card.begin()
            turn.queue = self._number(model) if self.side_by_side() else 0
            for other in self._at_work:
                other.shared = True
            self._at_work.append(turn)
        try:
            yield turn
        finally:
            with self._changed:
                self._at_work.remove(turn)
                self._changed.notify_all()

    def _may_work(self, model: Weights) -> bool:
        """Whether a model may work now: alone, or beside models other than itself."""
        if not self._at_work:
            return True
        is_at_work = any(turn.model is model for turn in self._at_work)
        return not is_at_work and self.side_by_side()

    def _measured(self, turn: _Turn, work: Callable[[], Result]) -> Result:
        with working(), self._card.queue(turn.queue):
            result = work()
        peak = self._card.peak()
        self.peak_bytes = max(self.peak_bytes, peak)
        if not turn.shared:
            kept = sum(model.kept_bytes for model in self._models if model is not turn.model)
            beside = peak - self._weights_there() - kept
            before = self._working.get(id(turn.model), 0)
            self._working[id(turn.model)] = max(0, beside, before)
        return result

    def _weights_there(self) -> int:
        """Bytes of weights on the device."""
        return sum(
            model.weight_bytes if how == "whole" else model.part_bytes
            for model, how in self._on_device()
        )

    def _number(self, model: Weights) -> int:
        return next(i for i, joined in enumerate(self._models) if joined is model)

    def clear(self) -> None:
        """Move every model off the device: one that loads straight onto it needs the room."""
        self._clear(besides=None)

    def plan(self) -> Plan:
        """What stays on the device, for the models that joined."""
        models = [self.footprint(model) for model in self._models]
        return plan(self._modes, models, self._card.room())

    def footprint(self, model: Weights) -> Footprint:
        """What a model needs, as far as it was measured."""
        working = self._working.get(id(model), WORKING_BYTES)
        return Footprint(model.weight_bytes, model.part_bytes, working)

    def spare(self) -> int:
        """Bytes that nothing needs of what is on the device, with any of its models at work, one at
        a time.
        """
        there = [model for model, _ in self._on_device()]
        working = max((self.footprint(model).working for model in there), default=0)
        return max(0, self._card.room() - self._weights_there() - working)

    def measure_anew(self, model: Weights) -> None:
        """Forget what this model's work needed so far."""
        self._working.pop(id(model), None)

    def tighten(self, model: Weights) -> str:
        """Keep less on the device, so that this model has more room to work.

        Returns what changes, for a message; empty where nothing can, or the user set the mode.
        """
        if not self.limited:
            return ""
        helps = {"swap": len(self._models) > 1, "offload": model.several}
        after = self._modes[self._modes.index(self.plan().mode) + 1 :]
        mode = next((mode for mode in after if helps[mode]), None)
        if mode is None:
            return ""
        self._modes = self._modes[self._modes.index(mode) :]
        return TURNS[mode]

    def hint(self) -> str:
        """What a user can do where memory is too small."""
        if not self.limited:
            return "draw smaller images (-W, -H)"
        smaller = self._smaller(self.plan().free / GIB)
        hint = "draw smaller images (-W, -H), or take smaller models"
        return f"{hint}; {smaller}" if smaller else hint

    def _bring(self, model: Weights) -> None:
        while True:
            try:
                return self._settle(model)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            self.clear()
            if step := self.tighten(model):
                logger.warning("out of memory: %s from here on", step)
            else:
                raise ModelError(f"the GPU's memory is too small: {reason}", self.hint())

    def _settle(self, model: Weights) -> None:
        """Put the weights where the plan has them."""
        mode = self.plan().mode
        if mode != "both":
            self._clear(besides=model)
        how = "parts" if mode == "offload" and model.several else "whole"
        if self._resident.get(id(model)) != how:
            # Noted first: a move that runs out of memory half-way has to be undone as well.
            self._resident[id(model)] = how
            if how == "parts":
                model.by_parts(self.name)
            else:
                model.bring(self.name)

    def _clear(self, besides: Weights | None) -> None:
        leaving = [model for model, _ in self._on_device() if model is not besides]
        for model in leaving:
            model.release()
            del self._resident[id(model)]
        if leaving:
            import torch

            torch.cuda.empty_cache()

    def _on_device(self) -> list[tuple[Weights, str]]:
        """The models that are on the device, and how."""
        return [(m, self._resident[id(m)]) for m in self._models if id(m) in self._resident]


@dataclass(eq=False, slots=True)
class _Turn:
    """A model's time at work.

    Attributes:
        model: at work.
        shared: whether another model was at work during a part of it.
        queue: number of the device's queue that it uses.
    """

    model: Weights
    shared: bool
    queue: int = 0


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    imported("torch")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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


def gpu_gib() -> tuple[float, float]:
    """Free and total memory of the GPU in GiB; nothing of either where there is no GPU."""
    imported("torch")
    import torch

    if not torch.cuda.is_available():
        return 0.0, 0.0
    free, total = torch.cuda.mem_get_info()
    return free / GIB, total / GIB
