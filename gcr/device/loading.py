"""Importing libraries and building models, which has the process to itself.

While they build a model, transformers and diffusers change what all threads share: torch's default
dtype, the functions that make and fill weights. A second model that is built meanwhile comes out
without weights, and a model at work would compute in the wrong precision. So threads that work pass
a gate, which threads that load close.

In a process of our own, what large libraries import without any need of ours is left out.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gcr.core.background import in_background, no_collection
from gcr.errors import GcrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager


class Gate:
    """A lock that many threads share to work, or one thread has alone to load, which goes first.

    A thread that is inside may enter again in the same way, and may work while it loads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: Counter[int] = Counter()  # by thread
        self._waiting = 0  # to load
        self._loading = 0  # how often the thread that loads has entered
        self._loader: int | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Wait while a thread loads or waits to; then keep threads from loading."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._may_work(me))
            self._working[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._working[me] -= 1
                if not self._working[me]:
                    del self._working[me]
                self._changed.notify_all()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Wait until no thread is inside; then keep all others out."""
        me = threading.get_ident()
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._may_load(me))
            finally:
                self._waiting -= 1
                self._changed.notify_all()  # also where Ctrl-C ended the wait
            self._loader = me
            self._loading += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading -= 1
                if not self._loading:
                    self._loader = None
                self._changed.notify_all()

    def _may_work(self, me: int) -> bool:
        if self._loader is not None:
            return self._loader == me
        return not self._waiting or me in self._working

    def _may_load(self, me: int) -> bool:
        return self._loader == me if self._loader is not None else not self._working


_GATE = Gate()


def working() -> AbstractContextManager[None]:
    """Use models while no thread of this process loads any."""
    return _GATE.working()


@contextmanager
def loading() -> Iterator[None]:
    """Import or build models while no other thread of this process does so or works."""
    with _GATE.loading():
        import torch

        dtype = torch.get_default_dtype()
        try:
            yield
        finally:
            # diffusers leaves its own where a model could not be built.
            torch.set_default_dtype(dtype)


def imported(*names: str) -> None:
    """Have modules imported on a stack of their own.

    torch.fx, which torch, transformers and diffusers import, keeps the stack on which it is first
    imported until Python's garbage collector runs, and with it our callers and their models.

    Raises GcrError where there is no room for temporary files, without which torch is not imported.
    """
    missing = [name for name in names if name not in sys.modules]
    if missing:
        try:
            tempfile.gettempdir()
        except FileNotFoundError as error:
            message = "no folder for temporary files can be written to: the disk may be full"
            raise GcrError(message, "free space, or name a folder with TMPDIR") from error
        in_background(partial(import_lightly, missing))()


# What is imported, and without what

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
