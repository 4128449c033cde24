"""Initial noise from seeds: the noise of one seed, mutated by the noise of further seeds.

A pipeline's shapes, packing and scales need not be known: all that it does to noise while it
prepares its latents is linear, so latents prepared from several seeds can be mixed as the noise
itself could. Latents are never stored: a run is resumed, and an image drawn again, from seeds.
"""

from __future__ import annotations

import inspect
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
