"""Initial noise from seeds: the noise of one seed, mutated by the noise of further seeds.

A pipeline's shapes, packing and scales need not be known: all that it does to noise while it
prepares its latents is linear, so latents prepared from several seeds can be mixed as the noise
itself could. Latents are never stored: a run is resumed, and an image drawn again, from seeds.
"""

from __future__ import annotations

import inspect
import weakref
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from gcr.drawing.pipelines import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from gcr.core.records import Candidate


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU, so that a seed gives the same noise on every machine."""
    import torch

    return torch.Generator().manual_seed(seed)


def sample_tokens_from_seeds(pipeline: Any) -> bool:
    """Have a pipeline that writes tokens before it draws sample them from the seed of its image.

    GLM-Image seeds torch's global random state instead, which all threads share, and with the first
    seed of a batch. Returns whether the pipeline is of this kind: then it must draw one image at a
    time, as it tells its language model only that seed.
    """
    family = type(pipeline)
    write = getattr(family, "generate_prior_tokens", None)
    if write is None:
        return False
    reference = weakref.ref(pipeline)  # in a cycle the pipeline would keep its memory

    def generate_prior_tokens(*args: Any, generator: Any = None, **kwargs: Any) -> Any:
        with _sampling(generator):
            return write(reference(), *args, **kwargs)

    pipeline.generate_prior_tokens = generate_prior_tokens
    return True


def _sampling(generator: torch.Generator | None) -> AbstractContextManager[Any]:
    """Inside this block, in this thread, torch samples from a seed, not from its global state."""
    import torch
    from torch.overrides import TorchFunctionMode

    if generator is None:
        return nullcontext()

    class Sampling(TorchFunctionMode):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.seed = seed
            self.generator: torch.Generator | None = None  # made where the first sample is taken

        def __torch_function__(
            self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if function is torch.multinomial:
                if self.generator is None:
                    self.generator = torch.Generator(args[0].device).manual_seed(self.seed)
                kwargs = {**kwargs, "generator": self.generator}
            return function(*args, **kwargs)

    return Sampling(generator.initial_seed())


def obstacle(pipeline: Any) -> str:
    """Why the pipeline's initial noise cannot be mutated; empty if it can."""
    prepare = getattr(pipeline, "prepare_latents", None)
    if prepare is None or "generator" not in inspect.signature(prepare).parameters:
        return f"{type(pipeline).__name__} prepares no latents that could be mutated"
    return ""


def mutated(pipeline: Any, batch: Sequence[Candidate]) -> AbstractContextManager[None]:
    """Inside this block the pipeline draws from the batch's noise with its mutations.

    A mutation of strength s turns noise x into sqrt(1 - s²) x + s y, where y is the noise of its
    seed: standard normal again (EvoSearch; He et al., 2025).
    """
    if not any(candidate.mutations for candidate in batch):
        return nullcontext()
    return replaced(pipeline, "prepare_latents", _mutating(pipeline.prepare_latents, batch))


def _mutating(prepare: Callable[..., Any], batch: Sequence[Candidate]) -> Callable[..., Any]:
    signature = inspect.signature(prepare)

    def prepare_latents(*args: object, **kwargs: object) -> Any:
        call = signature.bind(*args, **kwargs)
        prepared = prepare(*call.args, **call.kwargs)
        for generation in range(max(len(candidate.mutations) for candidate in batch)):
            mutations = [
                (c.mutations[generation], c.strength) if generation < len(c.mutations) else (0, 0.0)
                for c in batch
            ]
            call.arguments["generator"] = [seeded(seed) for seed, _ in mutations]
            other = prepare(*call.args, **call.kwargs)
            prepared = _mixed(prepared, other, [strength for _, strength in mutations])
        return prepared

    return prepare_latents


def _mixed(prepared: Any, other: Any, strengths: Sequence[float]) -> Any:
    """latents: (batch, ...); some pipelines return them with the positions of their tokens."""
    import torch

    if isinstance(prepared, tuple):
        return (_mixed(prepared[0], other[0], strengths), *prepared[1:])
    rows = (-1, *(1 for _ in prepared.shape[1:]))
    # In float32: rounding to half precision once is enough.
    weight = torch.tensor(strengths, device=prepared.device).reshape(rows)
    rest = (1 - weight.square()).sqrt()
    return (rest * prepared.float() + weight * other.float()).to(prepared.dtype)
