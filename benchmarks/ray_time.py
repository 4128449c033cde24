"""The same batch with and without Ray, on the embedded pair: `make ray-time`."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import gcr
from benchmarks.refinement import requests

# How many threads torch has decides how it rounds on a CPU. Each worker has what is said here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # else they wait for all else on the machine


def images(folder: Path) -> dict[Path, bytes]:
    """Of all runs, by their paths from the batch's folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 40,
    workers: Annotated[int, typer.Option(help="Workers on a local cluster.")] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds at most.")] = 2,
) -> None:
    """Compare images and times of a batch on Ray and of one in this process."""
    prompts = requests(count, "ray")
    with TemporaryDirectory() as place:
        shared, alone = Path(place, "ray"), Path(place, "alone")
        spread = gcr.batch(prompts, into=shared, rounds=rounds, ray="local", workers=workers)
        single = gcr.batch(prompts, into=alone, rounds=rounds)
        found, wanted = images(shared), images(alone)
    typer.echo(f"images: {len(wanted)}, equal: {found == wanted}")
    typer.echo(f"on Ray: {spread.seconds:.0f} s, in this process: {single.seconds:.0f} s")


if __name__ == "__main__":
    typer.run(main)
