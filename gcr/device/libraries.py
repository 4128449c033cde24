"""Imports of large libraries, each where it keeps nothing of ours.

torch.fx, which comes with torch, transformers and diffusers, keeps the stack on which it is first
imported until Python looks for circles: with it our callers, and the models that they have by then.
"""

from __future__ import annotations

import sys
from importlib import import_module

from gcr.core.background import in_background


def imported(*names: str) -> None:
    """Have these modules imported, on a stack where there is nothing else."""
    missing = [name for name in names if name not in sys.modules]
    if missing:
        in_background(lambda: [import_module(name) for name in missing])()
