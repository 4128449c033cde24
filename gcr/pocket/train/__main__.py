"""`python -m gcr.pocket.train STAGE`: train one stage of the pocket pair."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gcr.pocket import WEIGHTS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[Path, typer.Option(help="Folder of all stages' checkpoints and logs.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, data and noise.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate; lower it for adopted weights.")]
Steps = Annotated[int, typer.Option(help="Optimizer steps.")]
WORK = Path("training")


@app.callback()
def main() -> None:
    """Train the pocket pair, stage by stage."""


@app.command()
def adopt(
    folder: Folder = WORK,
    source: Annotated[Path, typer.Option(help="A trained pair, as export writes it.")] = WEIGHTS,
) -> None:
    """Begin from a trained pair instead of from nothing: every stage then trains its weights on."""
    from gcr.pocket.train import adopt

    adopt.adopt(source, folder)


@app.command()
def vae(folder: Folder = WORK, steps: Steps = 1500, seed: Seed = 0, rate: Rate = 3e-3) -> None:
    """The autoencoder."""
    from gcr.pocket.train import vae

    vae.train(folder / "vae", steps, seed, rate)


@app.command()
def decoder(folder: Folder = WORK, steps: Steps = 1500, seed: Seed = 0, rate: Rate = 2e-3) -> None:
    """The decoder of the autoencoder once more, its latents as they are; needs vae."""
    from gcr.pocket.train import vae

    vae.polish(folder / "decoder", steps, seed, rate)


@app.command()
def text(folder: Folder = WORK, steps: Steps = 1200, seed: Seed = 0, rate: Rate = 2e-3) -> None:
    """The text encoder."""
    from gcr.pocket.train import text

    text.train(folder / "text", steps, seed, rate)


@app.command()
def denoiser(folder: Folder = WORK, steps: Steps = 6000, seed: Seed = 0, rate: Rate = 2e-3) -> None:
    """The denoiser; needs vae and text."""
    from gcr.pocket.train import denoiser

    denoiser.train(folder / "denoiser", steps, seed, rate)


@app.command()
def eyes(folder: Folder = WORK, steps: Steps = 2500, seed: Seed = 0, rate: Rate = 2e-3) -> None:
    """The critic's vision tower."""
    from gcr.pocket.train import eyes

    eyes.train(folder / "eyes", steps, seed, rate)


@app.command()
def drawings(
    folder: Folder = WORK,
    requests: Annotated[int, typer.Option(help="Requests, each drawn in every way.")] = 140,
    seed: Seed = 0,
) -> None:
    """Pictures by the generator, and which rewrites succeed; needs denoiser."""
    from gcr import profiles
    from gcr.pocket.train import drawings

    drawings.draw(folder / "drawings", requests, seed, profiles.load(profiles.EMBEDDED))


@app.command()
def critic(folder: Folder = WORK, steps: Steps = 4000, seed: Seed = 0, rate: Rate = 2e-3) -> None:
    """The critic; needs eyes, and learns from drawings if there are any."""
    from gcr.pocket.train import critic, drawings

    drawn = (folder / "drawings" / "told.json").exists()
    album = drawings.album(folder / "drawings", seed, drawn=drawn)
    critic.train(folder / "critic", steps, seed, rate, album)


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
