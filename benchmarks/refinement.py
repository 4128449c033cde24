"""The measurement of the embedded pair: `python -m benchmarks.refinement`.

Does refining help, by truth, on requests nobody trained on? Three arms over the same requests and
seeds, through the same loop, models and settings as `gcr refine`: the raw image, the best of N raw
seeds chosen by the critic, and refinement with N images. Truth judges only the results.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.core import loop, ranking
from gcr.core.events import ignore
from gcr.core.records import Attempt, Request, Run
from gcr.core.stopping import StopRule
from gcr.core.strategies import BestOfN, Refine
from gcr.critic import rubric
from gcr.engine import single
from gcr.engine.machine import ThisMachine
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.pocket import WEIGHTS, truth, world
from gcr.pocket.language import parse
from gcr.settings import profiles, resolving
from gcr.settings.schema import Settings
from pocket_training.captions import describe, detail, relate, say

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.core.records import Critic, Generator, Strategy

SEED = 1_000
FULL = 1.0 - 1e-9  # a perfect score; they are sums of thirds


@dataclass(frozen=True, slots=True)
class Judged:
    """One image of an arm: what the critic thought, and how much truth finds wrong with it."""

    attempt: Attempt
    flaws: int
    image: Image

    @property
    def right(self) -> bool:
        return self.flaws == 0


Arm = list[tuple[Run, dict[str, Judged]]]
"""Every run with all its images judged by critic and truth, by image name."""


def requests(count: int, name: str, *, held_out: bool = True) -> list[str]:
    """Requests of mixed difficulty, the same for the same name.

    held_out: each names a colour-shape pair that no model was trained on; otherwise none does.
    """
    rng = random.Random(f"bench {name}")
    found: list[str] = []
    while len(found) < count:
        scene = world.sample(rng, world.PAIRS if held_out else world.TRAINING_PAIRS)
        if held_out != any((t.colour, t.shape) in world.HELD_OUT for t in scene.things):
            continue
        sizes, canvas = rng.random() < 0.15, rng.random() < 0.2
        if rng.random() < 0.1:
            spec = detail(scene, sizes=sizes, canvas=canvas)
        else:
            spec = describe(scene, sizes=sizes, canvas=canvas)
            spec = relate(spec, scene, rng) if rng.random() < 0.6 else spec
        text = say(spec, rng)
        if text not in found:
            found.append(text)
    return found


def play(  # noqa: PLR0913 - as the loop has them
    prompts: list[str],
    generator: Generator,
    critic: Critic,
    strategy: Strategy,
    rule: StopRule,
    *,
    screen: bool = False,
) -> Arm:
    """Run one arm over all requests, as one wave. screen: as the loop has it.

    Arms whose strategies have the same seed share their first images: the comparison is paired.
    """
    arm: dict[str, tuple[Run, dict[str, Judged]]] = {
        f"{i}": (Run(f"{i}", Request(prompt)), {}) for i, prompt in enumerate(prompts)
    }
    runs = [run for run, _ in arm.values()]
    wave = loop.refine(
        runs,
        generator,
        critic,
        strategy,
        rule,
        screen=screen,
        gallery=lambda run, name: arm[run.id][1][name].image,
    )
    for step in wave:
        run = step.run
        judged = arm[run.id][1]
        spec = parse(run.request.prompt)
        for attempt, image in zip(run.rounds[-1].attempts, step.images, strict=True):
            flaws = truth.compare(spec, truth.look(image)).flaws
            judged[attempt.image] = Judged(attempt, flaws, image)
        arm[run.id] = run, judged
    return list(arm.values())


def stopped(arm: Arm, rule: StopRule) -> Arm:
    """The arm as it had been under a rule that stops earlier: each run's first rounds."""

    def cut(run: Run) -> Run:
        lengths = range(1, len(run.rounds) + 1)
        starts = [replace(run, rounds=run.rounds[:length], stop=None) for length in lengths]
        return next((start for start in starts if rule.reason(start) is not None), run)

    return [(cut(run), judged) for run, judged in arm]


def accuracy(arm: Arm, pick: str) -> float:
    """Share of runs whose picked image is right. pick: `best` or `raw`."""
    right = 0
    for run, judged in arm:
        attempt = ranking.best(run) if pick == "best" else ranking.raw(run)
        right += attempt is not None and judged[attempt.image].right
    return right / len(arm)


def auc(judged: list[Judged]) -> float:
    """The chance that the critic scores a right image above a wrong one; ties count half."""
    good = [j.attempt.score for j in judged if j.right and j.attempt.score is not None]
    bad = [j.attempt.score for j in judged if not j.right and j.attempt.score is not None]
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def ends(arm: Arm) -> list[tuple[Judged, Judged]]:
    """Each run's first image and its best."""
    picks = [(ranking.raw(run), ranking.best(run), judged) for run, judged in arm]
    return [(judged[raw.image], judged[best.image]) for raw, best, judged in picks if best]


def closed(arm: Arm) -> float:
    """Of the runs whose first image is wrong, the share whose best is right."""
    failed = [best.right for raw, best in ends(arm) if not raw.right]
    return sum(failed) / max(1, len(failed))


def hollow(arm: Arm) -> float:
    """Of the runs whose best image scores above the first, the share in which truth finds no less
    wrong with it.
    """
    gains = [
        best.flaws >= raw.flaws
        for raw, best in ends(arm)
        if (best.attempt.score or 0.0) > (raw.attempt.score or 0.0)
    ]
    return sum(gains) / max(1, len(gains))


def figures(arms: dict[str, Arm]) -> dict[str, float]:
    """What the arms `best-of-n`, `refine` and any others came to. Raw: each run's first image."""
    every = [
        j for arm in ("best-of-n", "refine") for _, judged in arms[arm] for j in judged.values()
    ]
    found = {"raw": accuracy(arms["best-of-n"], "raw")}
    for name, arm in arms.items():
        found[name] = accuracy(arm, "best")
        found[f"{name}: images used"] = fmean(len(run.attempts) for run, _ in arm)
        found[f"{name}: any image right"] = fmean(
            any(judged[attempt.image].right for attempt in run.attempts) for run, judged in arm
        )
    found["refine: raw failures closed"] = closed(arms["refine"])
    found["refine: reported gains that are none"] = hollow(arms["refine"])
    full = [j for j in every if j.attempt.score is not None and j.attempt.score >= FULL]
    found["perfect scores of wrong images"] = sum(not j.right for j in full) / max(1, len(full))
    found["critic AUC"] = auc(every)
    found["images judged"] = len(every)
    found["unreadable replies"] = fmean(j.attempt.score is None for j in every)
    return {name: round(figure, 4) for name, figure in found.items()}


def as_shipped() -> Settings:
    """The embedded profile's settings. Nobody's own may change the figures."""
    nobodys = {"XDG_CONFIG_HOME": str(WEIGHTS)}  # a folder that holds none
    return resolving.resolve(
        {"profile": profiles.EMBEDDED}, ThisMachine(), folder=WEIGHTS, environ=nobodys
    ).settings


def timings(chosen: Settings) -> dict[str, float]:
    """Seconds of a warm round, and the share of a run spent in neither model.

    Measured on the first request that takes more than one round: the first round is a cold one.
    """
    with TemporaryDirectory() as output:
        patient = replace(chosen, patience=chosen.rounds, compare=False, output=Path(output))
        outcomes = (single.run(prompt, patient) for prompt in requests(20, "timings"))
        outcome = next(found for found in outcomes if len(found.run.rounds) > 1)
    seconds = [
        sum(attempt.draw_seconds + attempt.judge_seconds for attempt in round_.attempts)
        for round_ in outcome.run.rounds
    ]
    looping = outcome.seconds - outcome.loading_seconds
    return {
        "warm round: seconds": round(fmean(seconds[1:]), 3),
        "loop: share outside both models": round(1 - sum(seconds) / looping, 4),
        "loading: seconds": round(outcome.loading_seconds, 3),
    }


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 120,
    images: Annotated[int, typer.Option(help="Images for each request and arm.")] = 8,
    name: Annotated[
        str, typer.Option(help="Which requests: any word is another set.")
    ] = "held-out",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = True,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Compare raw, best-of-N and refined images on pocket, with truth as the evaluator."""
    chosen = as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = requests(count, name, held_out=held_out)
    began = time.perf_counter()
    patient = StopRule(images // chosen.images, chosen.target, images, chosen.min_gain)
    refined = play(prompts, generator, critic, Refine(chosen.images, SEED), patient)
    arms = {
        "best-of-n": play(prompts, generator, critic, BestOfN(images, SEED), StopRule(rounds=1)),
        "refine": refined,
        "refine, default patience": stopped(refined, replace(patient, patience=chosen.patience)),
    }
    told: dict[str, object] = {"requests": count, "set": name, "images": images, **figures(arms)}
    told["seconds"] = round(time.perf_counter() - began, 1)
    told |= timings(chosen)
    for key, value in told.items():
        typer.echo(f"{key}: {value}")
    if output is not None:
        write(output, json.dumps(told, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
