"""`python -m gcr.pocket.bench`: does refinement help, by truth, on requests nobody trained on?

Three arms over the same requests and seeds, through the same loop, models and settings as
`gcr refine`: the raw image, the best of N raw seeds chosen by the critic, and refinement with N
images. Truth judges only the result.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr import assembly, loop, profiles, rubric, settings
from gcr.pocket import truth, world
from gcr.pocket.language import Spec, describe, detail, parse, relate, say
from gcr.records import Attempt, Request, Run
from gcr.stopping import StopRule
from gcr.strategies import Refine

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.records import Critic, Generator


@dataclass(frozen=True, slots=True)
class Judged:
    """One image of an arm: what the critic thought, and what is true."""

    attempt: Attempt
    right: bool


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
        say_sizes, say_canvas = rng.random() < 0.15, rng.random() < 0.2
        if rng.random() < 0.1:
            spec: Spec = detail(scene, sizes=say_sizes, canvas=say_canvas)
        else:
            spec = describe(scene, sizes=say_sizes, canvas=say_canvas)
            spec = relate(spec, scene, rng) if rng.random() < 0.6 else spec
        text = say(spec, rng)
        if text not in found:
            found.append(text)
    return found


def play(
    prompts: list[str], generator: Generator, critic: Critic, *, images: int, rule: StopRule
) -> list[tuple[Run, dict[str, Judged]]]:
    """One arm: every run with all its images judged by critic and truth, by image name."""
    results: dict[str, tuple[Run, dict[str, Judged]]] = {}
    specs = {f"{i}": parse(prompt) for i, prompt in enumerate(prompts)}
    for first, prompt in enumerate(prompts):
        results[f"{first}"] = Run(f"{first}", Request(prompt)), {}
    runs = [run for run, _ in results.values()]
    # Arms share seeds, and so their first images: the comparison is paired.
    for step in loop.refine(runs, generator, critic, Refine(images, seed=1_000), rule):
        judged = results[step.run.id][1]
        for attempt, image in zip(step.run.rounds[-1].attempts, step.images, strict=True):
            judged[attempt.image] = Judged(attempt, _right(image, specs[step.run.id]))
        results[step.run.id] = step.run, judged
    return list(results.values())


def _right(image: Image, spec: Spec) -> bool:
    return truth.shows(image, spec)


def accuracy(arm: list[tuple[Run, dict[str, Judged]]], pick: str) -> float:
    """Share of runs whose picked image is right. pick: `best` or `raw`."""
    right = 0
    for run, judged in arm:
        attempt = loop.best(run) if pick == "best" else loop.raw(run)
        right += attempt is not None and judged[attempt.image].right
    return right / len(arm)


def auc(judged: list[Judged]) -> float:
    """The chance that the critic scores a right image above a wrong one; ties count half."""
    good = [j.attempt.score for j in judged if j.right and j.attempt.score is not None]
    bad = [j.attempt.score for j in judged if not j.right and j.attempt.score is not None]
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


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
    chosen = settings.resolve({"profile": profiles.EMBEDDED})
    generator, critic = assembly.load_models(chosen, rubric.load(chosen.rubric), assembly.Silent())
    prompts = requests(count, name, held_out=held_out)
    began = time.perf_counter()
    patient = StopRule(images // chosen.images, 1.0, patience=images, min_gain=0.02)
    arms = {
        "best-of-n": play(prompts, generator, critic, images=images, rule=StopRule(rounds=1)),
        "refine": play(prompts, generator, critic, images=chosen.images, rule=patient),
        "refine, default stop": play(
            prompts,
            generator,
            critic,
            images=chosen.images,
            rule=replace(patient, patience=chosen.patience),
        ),
    }
    every = [
        j for arm in ("best-of-n", "refine") for _, judged in arms[arm] for j in judged.values()
    ]
    figures: dict[str, object] = {"requests": count, "set": name, "images": images}
    figures["raw"] = round(accuracy(arms["best-of-n"], "raw"), 4)
    for arm, runs in arms.items():
        figures[arm] = round(accuracy(runs, "best"), 4)
        figures[f"{arm}: images used"] = round(sum(len(run.attempts) for run, _ in runs) / count, 2)
        figures[f"{arm}: any image right"] = round(
            sum(any(j.right for j in judged.values()) for _, judged in runs) / count, 4
        )
    figures["critic AUC"] = round(auc(every), 4)
    figures["images judged"] = len(every)
    figures["unreadable replies"] = round(
        sum(j.attempt.score is None for j in every) / len(every), 4
    )
    figures["seconds"] = round(time.perf_counter() - began, 1)
    for key, value in figures.items():
        typer.echo(f"{key}: {value}")
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
