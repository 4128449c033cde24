"""May a run stop once an image meets every requirement? `python -m benchmarks.stopping`.

The embedded pair with checklist scores: the same runs, as they would have ended under the target of
such scores and under rules that also stop where each answer is at least so sure. Truth judges the
best image of each, paired by request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Annotated

import typer

from benchmarks import refinement
from benchmarks.selection import finding
from gcr.core import ranking
from gcr.core.events import ignore
from gcr.core.records import Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import Refine
from gcr.critic import rubric
from gcr.engine.models import load_models
from gcr.settings.resolving import GOOD_CHANCE

Stops = Callable[[Run], bool]


def meets_all(run: Run, least: float) -> bool:
    """Whether an image of the run meets each requirement with at least this chance."""
    checklists = (attempt.critique.requirements for attempt in run.attempts)
    return any(every and all((r.chance or 0.0) >= least for r in every) for every in checklists)


def either(rule: StopRule, least: float) -> Stops:
    return lambda run: rule.reason(run) is not None or meets_all(run, least)


def cut(run: Run, stops: Stops) -> Run:
    """The run as it had been under a rule that stops earlier: its first rounds."""
    lengths = range(1, len(run.rounds) + 1)
    starts = (replace(run, rounds=run.rounds[:length], stop=None) for length in lengths)
    return next((start for start in starts if stops(start)), run)


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 60,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "stop",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = False,
) -> None:
    """Compare rules that end a run on pocket, with truth as the evaluator."""
    chosen = replace(refinement.as_shipped(), score="checklist")
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=held_out)
    patient = StopRule(chosen.rounds, 1.0, chosen.rounds, chosen.min_gain)
    strategy = Refine(chosen.images, refinement.SEED)
    arm = refinement.play(prompts, generator, critic, strategy, patient)
    default = StopRule(chosen.rounds, GOOD_CHANCE, chosen.patience, chosen.min_gain)
    rules: dict[str, Stops] = {"the target": lambda run: default.reason(run) is not None}
    rules |= {f"or all met at {least}": either(default, least) for least in (0.5, 0.8, 0.9)}
    right: dict[str, list[float]] = {}
    for rule, stops in rules.items():
        ends = [(cut(run, stops), judged) for run, judged in arm]
        bests = [(ranking.best(run), judged) for run, judged in ends]
        right[rule] = [float(judged[best.image].right) for best, judged in bests if best]
        images = fmean(len(run.attempts) for run, _ in ends)
        typer.echo(f"{rule}: right {fmean(right[rule]):.3f}, images {images:.2f}")
        pairs = zip(right[rule], right["the target"], strict=True)
        typer.echo(f"{rule}: right, against the target: {finding([a - b for a, b in pairs])}")


if __name__ == "__main__":
    typer.run(main)
