"""Weights rounded as NF4 rounds them (Dettmers et al., 2023), for training what will run in 4 bits.

The gradient is taken at the rounded weights and applied to the exact ones: the straight-through
estimator (Bengio et al., 2013).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

BLOCK = 64  # weights that share one scale


@cache
def levels(device: torch.device) -> torch.Tensor:
    """The 16 values of NF4, ascending, in -1..1."""
    from bitsandbytes.functional import get_4bit_type

    values = get_4bit_type("nf4", device=str(device))
    return torch.as_tensor(values, dtype=torch.float32, device=device).sort().values


def nearest(weight: torch.Tensor) -> torch.Tensor:
    """A weight as 4 bits hold it. Its scales are not rounded, which NF4 can do as well."""
    code = levels(weight.device)
    blocks = weight.reshape(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-12)
    middles = (code[1:] + code[:-1]) / 2
    return (code[torch.bucketize(blocks / scale, middles)] * scale).view_as(weight)


@contextmanager
def rounded(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """The weights as 4 bits hold them, and afterwards as they were."""
    with torch.no_grad():
        exact = [weight.detach().clone() for weight in weights]
        for weight in weights:
            weight.copy_(nearest(weight))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, exact, strict=True):
                weight.copy_(before)
