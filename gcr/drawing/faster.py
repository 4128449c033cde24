"""Ways to have a pipeline of diffusers draw the same, or nearly the same, in less time."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections import OrderedDict
from typing import Any

from gcr.hub.templates import bounded

logger = logging.getLogger(__name__)

CALLS, BYTES = 16, 256 * 1024**2
"""Encoded batches of prompts that are kept, and how large they are together, at most. They wait in
the machine's memory: that of a GPU is planned for the weights and the work."""

STEPS_CAN_BE_REUSED = frozenset({"FluxPipeline", "QwenImagePipeline"})
"""Families that were seen to draw so. A cache on the denoiser does not say that they do: that of
FLUX.2 fails in its first step, and Kontext does not tell it which call is which."""


def encode_once(pipeline: Any) -> None:
    """Have a pipeline encode a prompt once, however many seeds it is drawn from.

    The pipeline still calls its own `encode_prompt`; a call with arguments that it had before gets
    what came of it then. So images are the same to the bit, and no family's names are needed.
    """
    family = type(pipeline)
    method = inspect.getattr_static(family, "encode_prompt", None)
    if method is None:
        return
    # Weakly: a pipeline that held itself would keep its memory when nobody needs it any more.
    itself, known = weakref.ref(pipeline), _Encodings()

    def encode_prompt(*args: object, **kwargs: object) -> object:
        encode = method.__get__(itself(), family)
        try:
            key = _key((args, kwargs))
        except TypeError:
            return encode(*args, **kwargs)
        found = known.get(key)
        if found is None:
            with bounded():  # some tokenizers have a chat template
                found = encode(*args, **kwargs)
            known.keep(key, found)
        return found

    pipeline.encode_prompt = encode_prompt


class _Encodings:
    """What came of the last calls of a text encoder, in the machine's memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, _Parked] = OrderedDict()

    def get(self, key: object) -> object:
        """A copy, on the device where it was: what the pipeline does with it is its own affair."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key].back()

    def keep(self, key: object, encoded: object) -> None:
        self._kept[key] = _Parked(encoded)
        while len(self._kept) > CALLS or sum(one.bytes for one in self._kept.values()) > BYTES:
            self._kept.popitem(last=False)


class _Parked:
    """A copy of tensors, in whatever they are nested, in the machine's memory."""

    def __init__(self, nested: object) -> None:
        from accelerate.utils import recursively_apply

        self._devices: list[Any] = []
        self.bytes = 0
        self._copy = recursively_apply(self._park, nested)

    def _park(self, tensor: Any) -> Any:
        self._devices.append(tensor.device)
        self.bytes += tensor.nbytes
        return tensor.to("cpu", copy=True)

    def back(self) -> object:
        from accelerate.utils import recursively_apply

        devices = iter(self._devices)
        return recursively_apply(lambda tensor: tensor.to(next(devices), copy=True), self._copy)


def compile_blocks(pipeline: Any) -> None:
    """Have torch compile the blocks that the denoiser repeats: the first image takes longer.

    Says so and does nothing where diffusers names no such blocks.
    """
    denoiser: Any = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
    if not getattr(denoiser, "_repeated_blocks", None):
        _warn(pipeline, "diffusers names no blocks of it to compile", "--compile")
        return
    # For all sizes at once: kernels made for the first prompt's length would round differently
    # from those made later, and the same candidate drawn first or second would not be the same.
    denoiser.compile_repeated_blocks(dynamic=True)


def reuse_steps(pipeline: Any) -> bool:
    """Have the denoiser skip all blocks but the first in steps where that one changes little, and
    add what the others added before: First Block Cache, with diffusers' own threshold.

    What is skipped is decided for all images of a call. Says so and does nothing where this is not
    known to work; returns whether it is.
    """
    from diffusers import FirstBlockCacheConfig

    if type(pipeline).__name__ not in STEPS_CAN_BE_REUSED:
        _warn(pipeline, "it is not known to draw with steps skipped", "--step-cache")
        return False
    pipeline.transformer.enable_cache(FirstBlockCacheConfig())
    return True


def forget_steps(pipeline: Any) -> None:
    """Begin a drawing with nothing to reuse: one that failed leaves what it had."""
    from diffusers.hooks import HookRegistry

    HookRegistry.check_if_exists_or_initialize(pipeline.transformer).reset_stateful_hooks()


def _warn(pipeline: Any, why: str, option: str) -> None:
    logger.warning("%s: %s, so %s does nothing", type(pipeline).__name__, why, option)


def _key(argument: object) -> object:
    """What equal arguments have in common. Raises TypeError for images and tensors."""
    import torch

    if isinstance(argument, dict):
        return tuple((name, _key(value)) for name, value in argument.items())
    if isinstance(argument, list | tuple):
        return tuple(map(_key, argument))
    if isinstance(argument, str | int | float | torch.device | torch.dtype | None):
        return argument
    raise TypeError(type(argument))
