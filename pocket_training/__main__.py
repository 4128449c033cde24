"""`python -m pocket_training all`: train the pocket pair. Or one stage of it, by its name."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.pocket import WEIGHTS
from gcr.settings import profiles

if TYPE_CHECKING:
    from pocket_training.session import Plan

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[Path, typer.Option(help="Folder of all stages' checkpoints and logs.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, data and noise.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate; as `all` has it.")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps; as `all` has them.")]
Size = Annotated[int | None, typer.Option("--batch", help="Examples in a step; as `all` has it.")]
Target = Annotated[Path, typer.Option(help="Where the weights go.")]
WORK = Path("training")


class On(StrEnum):
    """What a course is made for."""

    CPU = "cpu"
    GPU = "gpu"


@app.callback()
def main() -> None:
    """Train the pocket pair, stage by stage."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


@app.command()
def all(  # noqa: A001 - a command is called as its function is
    folder: Folder = WORK,
    target: Target = WEIGHTS,
    seed: Seed = 0,
    on: Annotated[
        On | None, typer.Option(help="Steps, batches and scenes for this; for what is here.")
    ] = None,
) -> None:
    """Every stage in order, those that are done left out."""
    from pocket_training.course import COURSES, follow, here

    course = COURSES[on.value] if on else here()
    typer.echo(f"how long it took: {course.took}")
    follow(course, folder, target, seed, profiles.load(profiles.EMBEDDED))


def planned(
    stage: str, seed: int, steps: int | None, rate: float | None, batch: int | None
) -> Plan:
    """The plan that `all` has for a stage on this machine, changed where a value is given."""
    from pocket_training.course import here
    from pocket_training.session import Plan

    plan = here().plans[stage]
    return Plan(steps or plan.steps, batch or plan.batch, rate or plan.rate, seed, plan.pool)


STAGES = {
    "vae": ("vae", "train", "The autoencoder."),
    "decoder": (
        "vae",
        "polish",
        "The decoder of the autoencoder once more; needs vae. It did not train what ships.",
    ),
    "text": ("text", "train", "The text encoder."),
    "denoiser": ("denoiser", "train", "The denoiser; needs vae and text."),
    "eyes": ("eyes", "train", "The critic's vision tower."),
}
"""Stages that take a folder and a plan and nothing else: module, function, and help."""


def add(stage: str, module: str, function: str, text: str) -> None:
    """Add the command of a stage."""

    @app.command(stage, help=text)
    def command(
        folder: Folder = WORK,
        steps: Steps = None,
        seed: Seed = 0,
        rate: Rate = None,
        batch: Size = None,
    ) -> None:
        learn = getattr(import_module(f"pocket_training.{module}"), function)
        learn(folder / stage, planned(stage, seed, steps, rate, batch))


for stage_, place in STAGES.items():
    add(stage_, *place)


@app.command()
def drawings(
    folder: Folder = WORK,
    requests: Annotated[
        int | None, typer.Option(help="Requests, each drawn in every way; as `all` has them.")
    ] = None,
    seed: Seed = 0,
    batch: Annotated[
        int | None, typer.Option(help="Pictures drawn at once; as `all` has it.")
    ] = None,
) -> None:
    """Pictures by the generator, and which rewrites succeed; needs denoiser."""
    from pocket_training import denoiser, drawings
    from pocket_training.course import here

    course, profile = here(), profiles.load(profiles.EMBEDDED)
    count, at_once = requests or course.requests, batch or course.at_once
    pipeline = denoiser.pipeline(folder)
    drawings.draw(folder / "drawings", pipeline, count, seed, profile, at_once)


@app.command()
def critic(
    folder: Folder = WORK,
    steps: Steps = None,
    seed: Seed = 0,
    rate: Rate = None,
    batch: Size = None,
) -> None:
    """The critic; needs eyes, and learns from drawings if there are any."""
    from pocket_training import critic, drawings

    plan = planned("critic", seed, steps, rate, batch)
    critic.train(folder / "critic", plan, drawings.album(folder / "drawings", plan))


@app.command()
def finetune(  # noqa: PLR0913, PLR0917 - its options
    folder: Folder = WORK,
    steps: Steps = None,
    seed: Seed = 0,
    rate: Rate = None,
    batch: Size = None,
    requests: Annotated[
        int | None, typer.Option(help="Requests, each drawn in four ways; as `all` has them.")
    ] = None,
) -> None:
    """The critic again, on things too many and sizes; the shipped pair where none was trained."""
    from pocket_training import finetune
    from pocket_training.course import here

    course, profile = here(), profiles.load(profiles.EMBEDDED)
    plan = planned("finetune", seed, steps, rate, batch)
    finetune.train(folder, plan, profile, requests or course.redrawn, course.at_once)


@app.command()
def export(folder: Folder = WORK, target: Target = WEIGHTS) -> None:
    """Write the trained pair as it ships."""
    from pocket_training import export

    export.export(folder, target)


if __name__ == "__main__":
    app()
