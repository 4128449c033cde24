"""Two models on one device: both stay there when they fit, else they take turns.

On a GPU a model at work needs its weights there and room to work. Which weights stay is planned
by `residency` before each piece of work, from what was measured: the weights, the most that work
needed so far, and what is free. On any other device there is nothing to gain by moving, and
nothing moves.

Models may be put to work from several threads. They work one at a time, unless all of them are on
the device, the work of each was measured, and there is room for all of it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gcr.device import residency
from gcr.device.card import Card, TorchCard
from gcr.device.loading import imported, working
from gcr.device.out_of_memory import is_out_of_memory
from gcr.device.residency import GIB, MODES, WORKING_BYTES, Footprint, Mode, Plan, Residency
from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

TURNS = {
    "swap": "the two models take turns on the GPU",
    "offload": "the parts of the generator take turns on the GPU",
}


class Movable(Protocol):
    """Weights that can wait in the machine's memory: `gcr.device.weights.Weights`."""

    @property
    def weight_bytes(self) -> int: ...
    @property
    def part_bytes(self) -> int: ...
    @property
    def several(self) -> bool: ...
    @property
    def kept_bytes(self) -> int: ...
    def bring(self, device: str) -> None: ...
    def release(self) -> None: ...
    def by_parts(self, device: str) -> None: ...


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
        self._card = card or TorchCard(name)
        self._models: list[Movable] = []
        self._resident: dict[int, str] = {}  # by id of a model: "whole" or "parts"
        self._working: dict[int, int] = {}  # by id of a model: measured bytes
        self.peak_bytes = 0
        self._changed = Condition()
        self._at_work: list[_Turn] = []
        self._warned = False  # that the device has no bfloat16
        self._crowded = False  # two models at work once ran out of memory

    def join(self, model: Movable, *, resident: bool = False) -> None:
        """Register a model. resident: whether its weights are on the device already."""
        if self.limited and not any(joined is model for joined in self._models):
            self._models.append(model)
            if resident:
                self._resident[id(model)] = "whole"

    def run(self, model: Movable, work: Callable[[], Result]) -> Result:
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
        needs = residency.needs_at_once(models)
        return all_there and all_measured and needs <= self._card.room()

    @contextmanager
    def _turn(self, model: Movable) -> Iterator[_Turn]:
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

    def _may_work(self, model: Movable) -> bool:
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

    def _number(self, model: Movable) -> int:
        return next(i for i, joined in enumerate(self._models) if joined is model)

    def clear(self) -> None:
        """Move every model off the device: one that loads straight onto it needs the room."""
        self._clear(besides=None)

    def plan(self) -> Plan:
        """What stays on the device, for the models that joined."""
        models = [self.footprint(model) for model in self._models]
        return residency.plan(self._modes, models, self._card.room())

    def footprint(self, model: Movable) -> Footprint:
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

    def measure_anew(self, model: Movable) -> None:
        """Forget what this model's work needed so far."""
        self._working.pop(id(model), None)

    def tighten(self, model: Movable) -> str:
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

    def _bring(self, model: Movable) -> None:
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

    def _settle(self, model: Movable) -> None:
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

    def _clear(self, besides: Movable | None) -> None:
        leaving = [model for model, _ in self._on_device() if model is not besides]
        for model in leaving:
            model.release()
            del self._resident[id(model)]
        if leaving:
            import torch

            torch.cuda.empty_cache()

    def _on_device(self) -> list[tuple[Movable, str]]:
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

    model: Movable
    shared: bool
    queue: int = 0


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    imported("torch")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
