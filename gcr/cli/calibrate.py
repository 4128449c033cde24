"""`gcr calibrate`: how much of the critic's score is chance."""

import json
import os
from typing import Annotated

import typer

from gcr import offline as connections
from gcr.cli import options

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROMPT]...", help="What to draw and judge (default: a few of ours)."),
]
Judges = Annotated[int, typer.Option(metavar="N", help="How often each image is judged.", min=2)]
Images = Annotated[int, typer.Option(metavar="N", help="Images for each prompt.", min=1)]


def calibrate(
    prompts: Prompts = None,
    *,
    profile: options.Profile = None,
    generator: options.Generator = None,
    critic: options.Critic = None,
    rubric: options.Rubric = None,
    score: options.Score = None,
    seed: options.Seed = None,
    judges: Judges = 5,
    images: Images = 2,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure by how much the critic disagrees with itself about the same image, and remember it.

    From then on `gcr refine` with this critic, rubric and score calls an image better only when it
    is better by more than that, and stops when no round is.
    """
    from gcr.cli import logs  # it takes a while, which --help need not wait for

    connections.set_up(forbid=offline)
    logs.set_up(verbose=False, quiet=quiet)
    from gcr import assembly, calibration, spreads
    from gcr import rubric as rubrics
    from gcr.console import Terminal
    from gcr.models import load_models
    from gcr.settings import resolve
    from gcr.view import Silent
    from gcr.wording import count

    flags = {
        "profile": profile,
        "generator": generator,
        "critic": critic,
        "rubric": rubric,
        "score": score,
        "seed": seed,
        "judges": judges,
    }
    settings = resolve(flags)
    asked = [assembly.checked(prompt) for prompt in prompts or calibration.prompts(settings)]
    terminal = None if quiet else Terminal()
    try:
        pair = load_models(settings, rubrics.load(settings.rubric), terminal or Silent())
        found = calibration.measure(asked, images, *pair, settings)
    finally:
        if terminal:
            terminal.close()
    key = spreads.key(settings.critic, settings.rubric, settings.score)
    path = spreads.keep(os.environ, key, found.spread)
    if as_json:
        typer.echo(json.dumps({"spread": found.spread, "images": found.images, "judges": judges}))
    else:
        typer.echo(f"{found.spread:.4f}")
    if terminal:
        said = f"over {count(found.images, 'image')}, each judged {judges} times; kept in {path}"
        terminal.say(f"standard deviation of a score, {said}")
