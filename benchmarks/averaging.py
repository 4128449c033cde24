"""Does the mean of several sampled judgements find better images? `python -m benchmarks.averaging`.

The embedded pair, the same images: scored by the likeliest reply, and by the mean of N sampled
replies (`--judges N`). Truth says which of two images has fewer flaws,
and whether the image of the highest score is right, paired by request.
"""

from __future__ import annotations

import json
import time
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks import refinement
from benchmarks.selection import finding
from gcr.core.events import ignore
from gcr.core.records import Candidate, Request
from gcr.critic import rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.pocket import truth
from gcr.pocket.language import parse
from gcr.settings.resolving import GOOD_CHANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.critic.critic import VisionLanguageCritic

SINGLE = "the likeliest reply"
SLACK = 1e-9  # scores are sums of thirds


def right_about_pairs(scores: Sequence[float], flaws: Sequence[int]) -> list[float]:
    """Of each pair of images that differ in flaws, whether the scores order it so; a tie counts
    half.
    """
    return [
        0.5 if scores[a] == scores[b] else float((scores[a] > scores[b]) == (flaws[a] < flaws[b]))
        for a, b in combinations(range(len(flaws)), 2)
        if flaws[a] != flaws[b]
    ]


def scored(
    critic: VisionLanguageCritic, wave: Sequence[Candidate], images: Sequence[Image], judges: int
) -> tuple[list[float], float]:
    """The score of each image, and the seconds that one took. An image without a score has 0, since
    a run would not choose it.
    """
    critic.judges = judges
    began = time.perf_counter()
    critiques = critic.judge([Request(candidate.prompt) for candidate in wave], images)
    seconds = (time.perf_counter() - began) / len(images)
    scores = [critique.overall for critique in critiques if critique.overall is not None]
    if len(scores) != len(critiques):
        raise ValueError(f"{len(critiques) - len(scores)} replies could not be read")
    return scores, seconds


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 60,
    images: Annotated[int, typer.Option(help="Images for each request.")] = 6,
    name: Annotated[str, typer.Option(help="Which requests: any word is another set.")] = "mean",
    held_out: Annotated[bool, typer.Option(help="Ask for pairs nobody trained on.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Compare one judgement with the mean of several on pocket, with truth as the evaluator."""
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    prompts = refinement.requests(count, name, held_out=held_out)
    seeds = range(refinement.SEED, refinement.SEED + images)
    wave = [Candidate(prompt, seed) for prompt in prompts for seed in seeds]
    drawn = [drawing.image for drawing in generator.draw(wave)]
    flaws = [
        truth.compare(parse(candidate.prompt), truth.look(image)).flaws
        for candidate, image in zip(wave, drawn, strict=True)
    ]
    figures: dict[str, object] = {"requests": count, "set": name, "images": images}
    ways: dict[str, list[float]] = {}
    for judges in (1, 2, 4, 8):
        way = SINGLE if judges == 1 else f"mean of {judges}"
        ways[way], figures[f"{way}: seconds an image"] = scored(critic, wave, drawn, judges)
    groups = [slice(i, i + images) for i in range(0, len(wave), images)]
    pairs, picks = {}, {}
    for way, values in ways.items():
        right = [right_about_pairs(values[group], flaws[group]) for group in groups]
        pairs[way] = {i: fmean(each) for i, each in enumerate(right) if each}
        best = [max(range(images), key=values[group].__getitem__) for group in groups]
        picks[way] = [float(flaws[group][i] == 0) for i, group in zip(best, groups, strict=True)]
        figures |= {
            f"{way}: right about pairs": fmean(side for each in right for side in each),
            f"{way}: chosen image right": fmean(picks[way]),
        }
        for target in (1.0, GOOD_CHANCE):
            reached = [value >= target - SLACK for value in values]
            for kind, flawless in (("right", True), ("wrong", False)):
                some = [f for f, flaw in zip(reached, flaws, strict=True) if (not flaw) is flawless]
                figures[f"{way}: {kind} images that reach {target}"] = fmean(some)
        if way != SINGLE:
            more = [pairs[way][i] - once for i, once in pairs[SINGLE].items()]
            better = [a - b for a, b in zip(picks[way], picks[SINGLE], strict=True)]
            figures[f"{way}: right about pairs, against {SINGLE}"] = finding(more)
            figures[f"{way}: chosen image right, against {SINGLE}"] = finding(better)
    for key, value in figures.items():
        typer.echo(f"{key}: {value}")
    if output is not None:
        write(output, json.dumps(figures, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
