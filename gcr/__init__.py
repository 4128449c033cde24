"""gcr: a diffusion pipeline draws, a vision-language critic scores and rewrites, until it is right.

    import gcr

    outcome = gcr.refine("two red circles and a blue star", images=4)
    print(outcome.folder, outcome.best)
    for result in gcr.batch(Path("prompts.txt")).results:
        print(result.prompt, result.raw, result.best)
    for pair in gcr.compare(Path("prompts.txt")).pairs:
        print(pair.arm, pair.against, pair.verdict, pair.difference, pair.interval)

Importing gcr imports neither torch nor any other large library; the first run does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gcr.errors import BatchError, GcrError, ModelError, UsageError

if TYPE_CHECKING:
    from gcr.comparison.comparing import compare
    from gcr.comparison.measuring import Comparison
    from gcr.engine.batching import BatchOutcome, batch
    from gcr.engine.outcome import Outcome
    from gcr.engine.single import refine
    from gcr.results.rewards import Reward, reward
    from gcr.storage.runfolder import load_run

__version__ = "0.1.0"
__all__ = [
    "BatchError",
    "BatchOutcome",
    "Comparison",
    "GcrError",
    "ModelError",
    "Outcome",
    "Reward",
    "UsageError",
    "__version__",
    "batch",
    "compare",
    "load_run",
    "refine",
    "reward",
]

_HOMES = {
    "BatchOutcome": "gcr.engine.batching",
    "Comparison": "gcr.comparison.measuring",
    "Outcome": "gcr.engine.outcome",
    "Reward": "gcr.results.rewards",
    "batch": "gcr.engine.batching",
    "compare": "gcr.comparison.comparing",
    "load_run": "gcr.storage.runfolder",
    "refine": "gcr.engine.single",
    "reward": "gcr.results.rewards",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
