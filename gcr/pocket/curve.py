"""What images buy: `python -m gcr.pocket.curve`, accuracy against images for every strategy.

The same requests and first seeds for all; truth judges what the critic picks from the first 1, 2,
4, … images of each run. A run that reached the target draws no more.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer

from gcr import rubric
from gcr.models import load_models
from gcr.pocket import bench
from gcr.records import Run
from gcr.stopping import StopRule
from gcr.strategies import STRATEGIES
from gcr.view import Silent


def first(run: Run, images: int) -> Run:
    """The run as it was when it had drawn so many images."""
    rounds, left = [], images
    for round_ in run.rounds:
        if left > 0:
            rounds.append(replace(round_, attempts=round_.attempts[:left]))
            left -= len(round_.attempts)
    return replace(run, rounds=tuple(rounds))


def figures(arm: bench.Arm, counts: list[int]) -> dict[str, dict[str, float]]:
    """For each number of images: the share of right picks, and the images used on average."""
    told = {}
    for count in counts:
        cut = [(first(run, count), judged) for run, judged in arm]
        told[f"{count}"] = {
            "right": round(bench.accuracy(cut, "best"), 4),
            "images used": round(fmean(len(run.attempts) for run, _ in cut), 2),
        }
    return told


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 200,
    images: Annotated[int, typer.Option(help="Images at most for each request.")] = 16,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "curve",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = True,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Spend images by every strategy on the same requests."""
    chosen = bench.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), Silent())
    prompts = bench.requests(count, name, held_out=held_out)
    rule = StopRule(images, chosen.target, images, chosen.min_gain, images)
    counts = [2**i for i in range(images.bit_length()) if 2**i <= images]
    told: dict[str, object] = {"requests": count, "set": name}
    for strategy, kind in STRATEGIES.items():
        began = time.perf_counter()
        arm = bench.play(prompts, generator, critic, kind(chosen.images, bench.SEED), rule)
        told[strategy] = figures(arm, counts)
        told[f"{strategy}: seconds"] = round(time.perf_counter() - began, 1)
        typer.echo(f"{strategy}: {json.dumps(told[strategy])}")
    if output is not None:
        output.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
