"""`python -m gcr.pocket.train STAGE`: train the pocket pair, or one stage of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcr.pocket import WEIGHTS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[Path, typer.Option(help="Folder of all stages' checkpoints and logs.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, data and noise.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Steps = Annotated[int, typer.Option(help="Optimizer steps.")]
Size = Annotated[int, typer.Option("--batch", help="Examples in a step.")]
WORK = Path("training")


@app.callback()
def main() -> None:
    """Train the pocket pair, stage by stage."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


@app.command()
def vae(
    folder: Folder = WORK, steps: Steps = 4000, seed: Seed = 0, rate: Rate = 3e-3, batch: Size = 32
) -> None:
    """The autoencoder."""
    from gcr.pocket.train import vae
    from gcr.pocket.train.session import Plan

    vae.train(folder / "vae", Plan(steps, batch, rate, seed))


@app.command()
def decoder(
    folder: Folder = WORK, steps: Steps = 2000, seed: Seed = 0, rate: Rate = 2e-3, batch: Size = 32
) -> None:
    """The decoder of the autoencoder once more, its latents as they are; needs vae."""
    from gcr.pocket.train import vae
    from gcr.pocket.train.session import Plan

    vae.polish(folder / "decoder", Plan(steps, batch, rate, seed))


@app.command()
def text(
    folder: Folder = WORK, steps: Steps = 1500, seed: Seed = 0, rate: Rate = 2e-3, batch: Size = 128
) -> None:
    """The text encoder."""
    from gcr.pocket.train import text
    from gcr.pocket.train.session import Plan

    text.train(folder / "text", Plan(steps, batch, rate, seed))


@app.command()
def denoiser(
    folder: Folder = WORK, steps: Steps = 6000, seed: Seed = 0, rate: Rate = 2e-3, batch: Size = 48
) -> None:
    """The denoiser; needs vae and text."""
    from gcr.pocket.train import denoiser
    from gcr.pocket.train.session import Plan

    denoiser.train(folder / "denoiser", Plan(steps, batch, rate, seed))


@app.command()
def eyes(
    folder: Folder = WORK, steps: Steps = 2500, seed: Seed = 0, rate: Rate = 2e-3, batch: Size = 64
) -> None:
    """The critic's vision tower."""
    from gcr.pocket.train import eyes
    from gcr.pocket.train.session import Plan

    eyes.train(folder / "eyes", Plan(steps, batch, rate, seed))


@app.command()
def drawings(
    folder: Folder = WORK,
    requests: Annotated[int, typer.Option(help="Requests, each drawn in every way.")] = 140,
    seed: Seed = 0,
    batch: Annotated[int, typer.Option(help="Pictures drawn at once.")] = 48,
) -> None:
    """Pictures by the generator, and which rewrites succeed; needs denoiser."""
    from gcr import profiles
    from gcr.pocket.train import drawings

    profile = profiles.load(profiles.EMBEDDED)
    drawings.draw(folder / "drawings", requests, seed, profile, batch)


@app.command()
def critic(
    folder: Folder = WORK, steps: Steps = 9000, seed: Seed = 0, rate: Rate = 2e-3, batch: Size = 16
) -> None:
    """The critic; needs eyes, and learns from drawings if there are any."""
    from gcr.pocket.train import critic, drawings
    from gcr.pocket.train.session import Plan

    drawn = (folder / "drawings" / "told.json").exists()
    album = drawings.album(folder / "drawings", seed, drawn=drawn)
    critic.train(folder / "critic", Plan(steps, batch, rate, seed), album)


@app.command()
def export(
    folder: Folder = WORK,
    target: Annotated[Path, typer.Option(help="Where the weights go.")] = WEIGHTS,
) -> None:
    """Write the trained pair as it ships."""
    from gcr.pocket.train import export

    export.export(folder, target)


if __name__ == "__main__":
    app()
