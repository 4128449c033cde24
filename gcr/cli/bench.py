"""`gcr bench`: what a pair of models takes on this machine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options
from gcr.cli.options import settings_but

if TYPE_CHECKING:
    from gcr.diagnose.bench import Bench, Curve, Overlap
    from gcr.settings.schema import Settings
    from gcr.ui.terminal import Terminal

Prompt = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="What to draw and judge (default: one of ours)."),
]
Most = Annotated[
    int, typer.Option(metavar="N", help="Images at once, at most, here and in later runs.", min=1)
]


@settings_but("overlap")
def bench(
    prompt: Prompt = None,
    *,
    most: Most = 64,
    as_json: options.Listed = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, object],
) -> None:
    """Measure what your models take here: seconds for an image and a critique, memory, swapping.

    Draws and judges 1, 2, 4, … images at once until that is no longer 10% faster or memory runs
    out. Later runs on this device use the size that was found. Says nothing of how good the images
    are.
    """
    from gcr.diagnose import calibration
    from gcr.engine.machine import ThisMachine
    from gcr.engine.requests import checked_prompt
    from gcr.settings.resolving import resolve

    settings = resolve(flags, ThisMachine()).settings
    asked = checked_prompt(prompt or calibration.prompts(settings)[0])
    with options.watching(quiet=quiet) as terminal:
        found, path = _measured(asked, settings, most, terminal)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        options.table(("measured", "", ""), _rows(found))
    if terminal:
        terminal.say(f"kept for later runs in {path}")


def _measured(
    prompt: str, settings: "Settings", most: int, terminal: "Terminal | None"
) -> tuple["Bench", Path]:
    """What was measured, and the file it is kept in."""
    from gcr.core.events import ignore
    from gcr.critic import rubric
    from gcr.diagnose import bench as benches
    from gcr.engine.models import load_models
    from gcr.settings.measurements import OVERLAPS, SPEEDS, device_key, pair

    questions = rubric.load(settings.rubric)
    drawer, critic = load_models(settings, questions, terminal or ignore)
    found = benches.measure(prompt, drawer, critic, settings, most)
    if found.overlap is not None:
        size = settings.width, settings.height
        models = pair(settings.generator_measured, settings.critic_timed)
        key = device_key("overlap", models, found.device, size)
        OVERLAPS.keep(os.environ, {key: found.overlap.pays})
    return found, SPEEDS.keep(os.environ, benches.speeds(found, drawer, critic, settings))


def _rows(found: "Bench") -> list[tuple[str, str, str]]:
    width, height = found.size
    what = "of the GPU" if found.swap else "of this process"
    rows = [("device", found.device, f"{width}×{height} pixels")]
    rows += _curve("draw", found.generator, found.draw)
    if found.judge is not None:
        rows += _curve("judge", found.critic, found.judge)
        rows.append(("tokens", f"{found.tokens:.1f} a second", "of all replies together"))
    if found.overlap is not None:
        rows.append(_overlap(found.overlap))
    rows.append(("overhead", f"{found.overhead:.4f} s an image", "outside of the models"))
    rows.append(("peak memory", f"{found.peak_gib:.2f} GiB", what))
    rows += [
        (
            f"swap, {name}",
            f"{one.bring:.3f} s in, {one.release:.3f} s out",
            f"{one.gib:.2f} GiB, {one.gib / one.bring:.1f} GiB a second",
        )
        for name, one in found.swap.items()
    ]
    return rows if found.swap else [*rows, ("swap", "–", "no GPU: nothing moves")]


def _overlap(found: "Overlap") -> tuple[str, str, str]:
    """Of drawing and judging at the same time."""
    if not found.same:
        verdict = "not used: results differ"
    else:
        verdict = "◂ used from now on" if found.pays else "not used: too small a gain"
    return "both at once", f"{found.ratio:.2f} times as long", verdict


def _curve(what: str, model: str, curve: "Curve") -> list[tuple[str, str, str]]:
    rows = [(what, model, "")]
    for point in curve.points:
        best = " ◂ used from now on" if point == curve.best else ""
        speed = f"{1 / point.seconds:.2f} a second{best}"
        rows.append((f"{what} {point.batch}", f"{point.seconds:.3f} s an image", speed))
    return rows if not curve.full else [*rows, (f"{what} {curve.full}", "out of memory", "")]
