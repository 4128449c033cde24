"""How long things take.

    python -m benchmarks.timing help      `gcr --help` against importing its two libraries
    python -m benchmarks.timing overlap   a batch that draws while a server judges
    python -m benchmarks.timing questions an image that is read once for all questions about it
    python -m benchmarks.timing ray       a batch on Ray, and in this process

`make help-time`, `make overlap-time` and `make ray-time` run them.
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from PIL.Image import Image

import gcr
from benchmarks.refinement import requests
from gcr.critic import critic, rubric
from gcr.device.memory import SharedDevice
from gcr.pocket import world
from gcr.storage.runfolder import RunFolder

REQUESTS = Path(__file__).parent.parent / "examples" / "held-out.txt"
TIMES = 9
# How many threads torch has decides how it rounds on a CPU. Workers have what is said here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # else they wait for all else on the machine

app = typer.Typer(add_completion=False)


def seconds(*arguments: str) -> tuple[float, float]:
    """Wall time and processor time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def ratios() -> tuple[float, float]:
    """`gcr --help` over the imports, each the lowest of several taken in turns: wall, processor.

    Processor time is the one to test: it is the same on a busy machine.
    """
    shown, imported = [], []
    for _ in range(TIMES):
        shown.append(seconds("-m", "gcr", "--help"))
        imported.append(seconds("-c", "import typer, rich"))
    wall, processor = (
        min(times) / min(base)
        for times, base in zip(zip(*shown, strict=True), zip(*imported, strict=True), strict=True)
    )
    return wall, processor


@app.command("help")
def show_help() -> None:
    """Compare `gcr --help` with importing typer and rich."""
    wall, processor = ratios()
    typer.echo(f"gcr --help / import typer, rich: {wall:.2f} wall, {processor:.2f} processor")


def models(outcome: gcr.BatchOutcome) -> tuple[float, float]:
    """Seconds of drawing and of judging."""
    runs = [RunFolder.open(outcome.folder / result.folder).run for result in outcome.results]
    tried = [attempt for run in runs for attempt in run.attempts]
    return sum(one.draw_seconds for one in tried), sum(one.judge_seconds for one in tried)


@app.command()
def overlap(
    count: Annotated[int, typer.Option(help="Requests.")] = 16,
    rounds: Annotated[int, typer.Option(help="Rounds at most.")] = 3,
    times: Annotated[int, typer.Option(help="Batches of each kind.")] = 3,
) -> None:
    """Compare times of a batch with and without overlapping.

    The embedded critic runs behind `transformers serve` on one core of this machine, and this
    process draws on another. The same prompts go through both ways, in turn.
    """
    import serving  # of tests/support

    prompts = REQUESTS.read_text().splitlines()[:count]
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with TemporaryDirectory() as place:
        home = Path(place)
        os.sched_setaffinity(0, {second})
        with serving.transformers_serve(home) as url:
            os.sched_setaffinity(0, {first})
            for turn in range(times):
                took = []
                for overlapped in (False, True):
                    folder = home / f"{turn}-{overlapped}"
                    options = {"critic": url, "rubric": "pocket", "rounds": rounds}
                    outcome = gcr.batch(prompts, into=folder, overlap=overlapped, **options)
                    draw, judge = models(outcome)
                    took.append(outcome.seconds)
                    way = "overlapped" if overlapped else "in turn"
                    typer.echo(
                        f"{way:>10}: {outcome.seconds:.1f} s, {draw:.1f} of drawing and "
                        f"{judge:.1f} of judging"
                    )
                typer.echo(f"{'ratio':>10}: {took[1] / took[0]:.2f}")


def images(folder: Path) -> dict[Path, bytes]:
    """Of all runs, by their paths from the batch's folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


@app.command()
def ray(
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


QUESTIONS = (
    *("Is there a red circle?", "Is there a blue star?", "Are there two circles?"),
    *("Is there a green square?", "Is the circle left of the star?", "Is there a small square?"),
)


@app.command()
def questions(
    count: Annotated[int, typer.Option(help="Images.")] = 4,
    times: Annotated[int, typer.Option(help="Times each; the fastest counts.")] = 5,
) -> None:
    """Answer six questions about each image: one image after the other, and one question after the
    other, so that each image is read once, or for each question anew.

    Prints JSON: seconds of this process at work, and by how much answers differ.
    """
    judge = critic.load("pocket:critic", rubric.load("pocket"), SharedDevice("cpu"))
    pictures = [world.draw(world.sample(random.Random(seed))) for seed in range(count)]
    by_image = [(picture, question) for picture in pictures for question in QUESTIONS]
    by_question = [(picture, question) for question in QUESTIONS for picture in pictures]

    def answered(pairs: list[tuple[Image, str]]) -> tuple[float, dict[tuple[int, str], float]]:
        took = []
        for _ in range(times):
            began = time.process_time()
            answers = judge.answer([picture for picture, _ in pairs], [text for _, text in pairs])
            took.append(time.process_time() - began)
        keys = ((id(picture), text) for picture, text in pairs)
        return min(took), dict(zip(keys, answers, strict=True))

    once, answers = answered(by_image)
    each, others = answered(by_question)
    apart = max(abs(answers[key] - others[key]) for key in answers)
    figures = {"once_seconds": once, "each_seconds": each, "differ_by_at_most": apart}
    typer.echo(json.dumps(figures, indent=2))


if __name__ == "__main__":
    app()
