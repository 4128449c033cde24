"""What large libraries import without any need of ours, and how they are imported without it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gcr.core.background import no_collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MODELS = ("torch", "bitsandbytes", "transformers", "diffusers")
"""Needed to load models, in the order in which each spares the next something."""


_ours = False


def spare() -> None:
    """Import less from here on, in a process that does nothing else than ours: what is left out
    would be missed by others, such as scipy by a training of detectors.
    """
    global _ours  # noqa: PLW0603 - what is imported is the process's
    _ours = True


def import_lightly(names: Iterable[str]) -> None:
    """Import modules, in a process of ours without what models that only answer never need."""
    with no_collection():
        for name in names:
            importing = PREPARED.get(name, import_module) if _ours else import_module
            importing(name)


def _bitsandbytes(name: str) -> None:
    """Without torch's compiler, which its decorators ask for, and which is imported for that."""
    import torch

    with _standing_in(torch, "compile", _compiled_when_called):
        import_module(name)


def _compiled_when_called(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """As `torch.compile` does it, which only begins at the first call as well."""
    import torch

    compiled: list[Callable[..., Any]] = []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not compiled:
            compiled.append(torch.compile(function, **how))
        return compiled[0](*args, **kwargs)

    return call


def _transformers(name: str) -> None:
    """Without scipy, of which its losses for training detectors would take one function."""
    import_module(name)
    utils = import_module("transformers.utils")
    with _standing_in(utils, "is_scipy_available", lambda: False):
        import_module("transformers.loss.loss_utils")


def _diffusers(name: str) -> None:
    """Without the parts of scipy that its schedulers import, and only few of them ever use."""
    for part in ("scipy.integrate", "scipy.stats"):
        if part not in sys.modules:
            unloaded = _Unloaded(part)
            unloaded.__spec__ = find_spec(part)
            sys.modules[part] = unloaded
            setattr(import_module("scipy"), part.removeprefix("scipy."), unloaded)
    import_module(name)


class _Unloaded(ModuleType):
    """Stands where a module is imported, which is loaded when something of it is used.

    importlib's own LazyLoader loads at any look, and `inspect` looks at all modules there are.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # which imports of its parts ask for
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


PREPARED: dict[str, Callable[[str], object]] = {
    "bitsandbytes": _bitsandbytes,
    "transformers": _transformers,
    "diffusers": _diffusers,
}


@contextmanager
def _standing_in(module: Any, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
