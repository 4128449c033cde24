"""gcr: a diffusion pipeline draws, a vision-language critic scores and rewrites, until it is right.

    import gcr

    outcome = gcr.refine("two red circles and a blue star", images=4)
    print(outcome.folder, outcome.best)

Importing gcr imports neither torch nor any other large library; the first run does.
"""

from typing import TYPE_CHECKING

from gcr.errors import GcrError, ModelError, UsageError

if TYPE_CHECKING:
    from gcr.assembly import refine
    from gcr.outcome import Outcome

__version__ = "0.1.0"
__all__ = ["GcrError", "ModelError", "Outcome", "UsageError", "__version__", "refine"]


def __getattr__(name: str) -> object:
    if name in ("Outcome", "refine"):
        from gcr import assembly

        return getattr(assembly, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
