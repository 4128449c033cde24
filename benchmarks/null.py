"""How often a comparison is wrong where there is nothing to find: `python -m benchmarks.null`.

Raw images are compared with raw images of other seeds, again and again, by the code that says
"better" and "worse" of any other comparison. Few of the verdicts may say either: at most one in 20.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import refinement
from gcr.comparison import statistics
from gcr.comparison.statistics import Verdict
from gcr.core.events import ignore
from gcr.core.records import Candidate, Request
from gcr.critic import rubric
from gcr.engine.models import load_models
from gcr.files.atomic import write
from gcr.pocket import truth
from gcr.pocket.language import parse

DECLARED = {Verdict.BETTER, Verdict.WORSE}


def scores(prompts: list[str], seeds: int) -> Iterator[tuple[str, list[list[float]]]]:
    """What truth, and then the critic, says of raw images: for each prompt a score for each seed.

    An image that the critic cannot score is left out.
    """
    chosen = refinement.as_shipped()
    generator, critic = load_models(chosen, rubric.load(chosen.rubric), ignore)
    images = [
        [
            d.image
            for d in generator.draw([Candidate(prompt, refinement.SEED + i) for i in range(seeds)])
        ]
        for prompt in prompts
    ]
    asked = list(zip(prompts, images, strict=True))
    yield "truth", [[float(truth.shows(i, parse(prompt))) for i in own] for prompt, own in asked]
    judged = [critic.judge([Request(prompt)] * seeds, own) for prompt, own in asked]
    yield "critic", [[c.overall for c in own if c.overall is not None] for own in judged]


def declared(given: list[list[float]], repeats: int, rng: random.Random) -> float:
    """The share of repeats in which one seed of each prompt is called better than another."""
    count = 0
    for _ in range(repeats):
        pairs = (rng.sample(own, 2) for own in given if len(own) > 1)
        (finding,) = statistics.judge([[first - second for first, second in pairs]])
        count += finding.verdict in DECLARED
    return count / repeats


def main(
    count: Annotated[int, typer.Option(help="Prompts.")] = 60,
    seeds: Annotated[int, typer.Option(help="Raw images of each.")] = 4,
    repeats: Annotated[int, typer.Option(help="Comparisons.")] = 200,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Compare raw images with raw images of other seeds, by truth and by the critic's scores."""
    prompts = refinement.requests(count, "null", held_out=False)
    told: dict[str, object] = {"prompts": count, "seeds": seeds, "repeats": repeats}
    for name, own in scores(prompts, seeds):
        share = declared(own, repeats, random.Random(f"null {name}"))
        told[f"{name}: declared different"] = share
        typer.echo(f"by {name}: {share:.1%} of {repeats} comparisons declared different")
    if output is not None:
        write(output, json.dumps(told, indent=1).encode() + b"\n")


if __name__ == "__main__":
    typer.run(main)
