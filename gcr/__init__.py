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

from gcr.errors import BatchError, GcrError, ModelError, UnavailableError, UsageError

if TYPE_CHECKING:
    from gcr.api import batch, compare, critique, rate, refine, resume
    from gcr.comparison.folder import CompareInterrupted
    from gcr.comparison.measuring import Comparison
    from gcr.core import events
    from gcr.core.records import (
        AspectScore,
        Attempt,
        Candidate,
        Critique,
        Request,
        Requirement,
        Result,
        Round,
        Run,
        StopReason,
    )
    from gcr.engine.judging import Judgement, Ranking
    from gcr.engine.outcome import (
        BatchInterrupted,
        BatchOutcome,
        BatchStopped,
        Interrupted,
        Outcome,
        Unreported,
    )
    from gcr.engine.parts import Warm
    from gcr.results.rewards import Reward, reward
    from gcr.storage.runfolder import load_run

__version__ = "0.1.0"

_HOMES = {
    "gcr.api": ("batch", "compare", "critique", "rate", "refine", "resume"),
    "gcr.comparison.folder": ("CompareInterrupted",),
    "gcr.comparison.measuring": ("Comparison",),
    "gcr.core": ("events",),
    "gcr.core.records": (
        *("AspectScore", "Attempt", "Candidate", "Critique", "Request", "Requirement", "Result"),
        *("Round", "Run", "StopReason"),
    ),
    "gcr.engine.judging": ("Judgement", "Ranking"),
    "gcr.engine.outcome": (
        *("BatchInterrupted", "BatchOutcome", "BatchStopped", "Interrupted", "Outcome"),
        "Unreported",
    ),
    "gcr.engine.parts": ("Warm",),
    "gcr.results.rewards": ("Reward", "reward"),
    "gcr.storage.runfolder": ("load_run",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AspectScore",
    "Attempt",
    "BatchError",
    "BatchInterrupted",
    "BatchOutcome",
    "BatchStopped",
    "Candidate",
    "CompareInterrupted",
    "Comparison",
    "Critique",
    "GcrError",
    "Interrupted",
    "Judgement",
    "ModelError",
    "Outcome",
    "Ranking",
    "Request",
    "Requirement",
    "Result",
    "Reward",
    "Round",
    "Run",
    "StopReason",
    "UnavailableError",
    "Unreported",
    "UsageError",
    "Warm",
    "__version__",
    "batch",
    "compare",
    "critique",
    "events",
    "load_run",
    "rate",
    "refine",
    "resume",
    "reward",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME_OF[name]
    return (
        import_module(f"{home}.{name}")
        if home == "gcr.core"
        else getattr(import_module(home), name)
    )
