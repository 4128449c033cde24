"""`gcr calibrate`: how much of the critic's score is chance."""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options
from gcr.cli.flags import settings_only
from gcr.errors import UsageError

if TYPE_CHECKING:
    from gcr.settings.schema import Settings

JUDGES, IMAGES = 5, 2

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROMPT]...", help="What to draw and judge (default: a few of ours)."),
]
Judges = Annotated[
    int | None,
    typer.Option(metavar="N", help="How often each image is judged (default: 5).", min=2),
]
Forget = Annotated[
    bool,
    typer.Option(
        "--forget",
        metavar="",
        help="Measure nothing, and forget what was measured for this critic, rubric and score.",
    ),
]
Images = Annotated[
    int | None, typer.Option(metavar="N", help="Images for each prompt (default: 2).", min=1)
]


@settings_only("profile", "generator", "critic", "rubric", "score", "seed")
def calibrate(
    prompts: Prompts = None,
    *,
    judges: Judges = None,
    images: Images = None,
    forget: Forget = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, object],
) -> None:
    """Measure by how much the critic disagrees with itself about the same image, and remember it.

    From then on `gcr refine` with this critic, rubric and score stops when no round is better by
    more than that, and says which images are within chance of the best.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=quiet)
    from gcr.core.events import ignore
    from gcr.core.phrases import count
    from gcr.critic import limits
    from gcr.critic import rubric as rubrics
    from gcr.diagnose import calibration
    from gcr.engine.machine import ThisMachine
    from gcr.engine.models import load_models
    from gcr.engine.requests import checked_prompt
    from gcr.settings.measurements import SPREADS, spread_key
    from gcr.settings.resolving import resolve
    from gcr.ui.terminal import Terminal

    settings = resolve({**flags, "judges": judges or JUDGES}, ThisMachine())
    if forget:
        if prompts or judges or images:
            raise UsageError(
                "--forget measures nothing", "leave out prompts, --judges and --images"
            )
        _forget(settings, as_json=as_json, quiet=quiet)
        return
    asked = [checked_prompt(prompt) for prompt in prompts or calibration.prompts(settings)]
    for prompt in asked:
        limits.check(prompt, settings)
    terminal = None if quiet else Terminal()
    try:
        pair = load_models(settings, rubrics.load(settings.rubric), terminal or ignore)
        found = calibration.measure(asked, images or IMAGES, *pair, settings)
    finally:
        if terminal:
            terminal.close()
    key = spread_key(settings.critic, settings.rubric, settings.score)
    path = SPREADS.keep(os.environ, {key: found.spread})
    if as_json:
        typer.echo(
            json.dumps({"spread": found.spread, "images": found.images, "judges": found.judges})
        )
    else:
        typer.echo(f"{found.spread:.4f}")
    if terminal:
        said = (
            f"over {count(found.images, 'image')}, each judged {found.judges} times; kept in {path}"
        )
        terminal.say(f"standard deviation of a score, {said}")


def _forget(settings: "Settings", *, as_json: bool, quiet: bool) -> None:
    """Forget one measurement, and say which; there may be none."""
    from gcr.settings.measurements import SPREADS, spread_key
    from gcr.ui.terminal import Terminal

    key = spread_key(settings.critic, settings.rubric, settings.score)
    spread = SPREADS.forget(os.environ, key)
    if as_json:
        typer.echo(json.dumps({"forgotten": spread}))
    if quiet:
        return
    of = f"{settings.critic}, rubric {settings.rubric}, score {settings.score}"
    if spread is None:
        Terminal().say(f"nothing to forget: nothing was measured for {of}")
    else:
        Terminal().say(f"forgotten: a standard deviation of {spread:.4f} for {of}")
