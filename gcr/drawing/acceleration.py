"""Ways for a pipeline of diffusers to draw the same, or nearly the same, in less time."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

from gcr.hub.processors import bounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from gcr.drawing.reading import Reader

logger = logging.getLogger(__name__)

MOST_CALLS, MOST_BYTES = 16, 256 * 1024**2
"""Encoded batches of prompts that are kept, at most, and their size together. They are kept in the
machine's memory: that of a GPU is planned for the weights and the work."""

STEPS_CAN_BE_REUSED = frozenset({"FluxPipeline", "QwenImagePipeline"})
"""Families that were tested. That a denoiser has a cache is not enough: that of FLUX.2 fails in its
first step, and Kontext does not tell it which call is which."""


def encode_once(
    pipeline: Any, reader: Reader | None = None, active: Callable[[], object] = lambda: None
) -> None:
    """Have a pipeline encode a prompt once, however many seeds it is drawn from.

    The pipeline still calls its `encode_prompt`; a call with arguments that it had before returns
    the result of then. So images are the same to the bit, for every family.

    reader: that reads prompts; by default the pipeline itself.
    active: the LoRAs at work, which may change its text encoders.
    """
    family = type(pipeline)
    method = inspect.getattr_static(family, "encode_prompt", None)
    if method is None:
        return
    # A weak reference: in a cycle with itself the pipeline would keep its memory.
    reference, encodings = weakref.ref(pipeline), _Encodings()

    def encode_prompt(*args: object, **kwargs: object) -> object:
        encode = method.__get__(reference(), family)
        if reader is not None:
            encode = partial(reader.encode, reference(), encode)
        try:
            key = active(), _key((args, kwargs))
        except TypeError:
            return encode(*args, **kwargs)
        encoded = encodings.get(key)
        if encoded is None:
            with bounded():  # some tokenizers have a chat template
                encoded = encode(*args, **kwargs)
            encodings.keep(key, encoded)
        return encoded

    pipeline.encode_prompt = encode_prompt


class _Encodings:
    """The results of the last calls of a text encoder, in the machine's memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, _HostCopy] = OrderedDict()

    def get(self, key: object) -> object:
        """A copy for the pipeline to change, on the device where it was; None: there is none."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key].back()

    def keep(self, key: object, encoded: object) -> None:
        self._kept[key] = _HostCopy(encoded)
        while self._is_full():
            self._kept.popitem(last=False)

    def _is_full(self) -> bool:
        size = sum(encoding.bytes for encoding in self._kept.values())
        return len(self._kept) > MOST_CALLS or size > MOST_BYTES


class _HostCopy:
    """A copy of nested tensors in the machine's memory.

    Attributes:
        bytes: of all of them.
    """

    def __init__(self, nested: object) -> None:
        from accelerate.utils import recursively_apply

        self._devices: list[Any] = []
        self.bytes = 0
        self._copy = recursively_apply(self._copy_to_host, nested)

    def _copy_to_host(self, tensor: Any) -> Any:
        self._devices.append(tensor.device)
        self.bytes += tensor.nbytes
        return tensor.to("cpu", copy=True)

    def back(self) -> object:
        from accelerate.utils import recursively_apply

        devices = iter(self._devices)
        return recursively_apply(lambda tensor: tensor.to(next(devices), copy=True), self._copy)


def compile_blocks(pipeline: Any) -> None:
    """Have torch compile the blocks that the denoiser repeats: the first image takes longer.

    Warns and does nothing where diffusers names no such blocks.
    """
    denoiser: Any = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    if not getattr(denoiser, "_repeated_blocks", None):
        _warn(pipeline, "diffusers names no blocks of it to compile", "--compile")
        return
    # With dynamic shapes: kernels made for the length of the first prompt would round differently
    # from later ones, and a candidate would look different when it is drawn first or second.
    denoiser.compile_repeated_blocks(dynamic=True)


def reuse_steps(pipeline: Any) -> bool:
    """Have the denoiser skip steps in which little changes: First Block Cache.

    Where the first block changes little, the others are skipped, and what they added in the step
    before is added again, with diffusers' default threshold. What is skipped is decided for all
    images of a call. Returns whether the family is known to draw so; else this warns and does
    nothing.
    """
    from diffusers import FirstBlockCacheConfig

    if type(pipeline).__name__ not in STEPS_CAN_BE_REUSED:
        _warn(pipeline, "it is not known to draw with steps skipped", "--step-cache")
        return False
    pipeline.transformer.enable_cache(FirstBlockCacheConfig())
    return True


def forget_steps(pipeline: Any) -> None:
    """Begin a drawing with an empty cache: a drawing that failed leaves its own."""
    from diffusers.hooks import HookRegistry

    HookRegistry.check_if_exists_or_initialize(pipeline.transformer).reset_stateful_hooks()


def _warn(pipeline: Any, reason: str, option: str) -> None:
    logger.warning("%s: %s, so %s does nothing", type(pipeline).__name__, reason, option)


def _key(argument: object) -> object:
    """A hashable value, equal for equal arguments. Raises TypeError for images and tensors."""
    import torch

    if isinstance(argument, dict):
        return tuple((name, _key(value)) for name, value in argument.items())
    if isinstance(argument, list | tuple):
        return tuple(map(_key, argument))
    if isinstance(argument, str | int | float | torch.device | torch.dtype | None):
        return argument
    raise TypeError(type(argument))
