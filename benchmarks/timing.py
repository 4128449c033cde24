"""How long things take.

    python -m benchmarks.timing help      `gcr --help` against importing its two libraries
    python -m benchmarks.timing overlap   a batch that draws while a server judges
    python -m benchmarks.timing questions an image that is read once for all questions about it
    python -m benchmarks.timing ray       a batch on Ray, and in this process
    python -m benchmarks.timing cold      models whose files are on a disk and in no cache

`make help-time`, `make overlap-time` and `make ray-time` run three of them.
"""

import json
import os
import random
import resource
import shutil
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


LAYERS = {"generator": 25, "critic": 20}  # 1.7 and 1 GB
LOADS = """
import sys, time
from contextlib import nullcontext
from gcr.critic import rubric
from gcr.device import loading
from gcr.engine import models
from gcr.hub import weightfiles
from gcr.settings.schema import Settings

began = time.perf_counter()
loading.spare()
if sys.argv[1] == "without":
    weightfiles.reading_ahead = lambda _: nullcontext()
_, generator, critic = sys.argv[1:]
settings = Settings(
    generator=generator, critic=critic, quantize_critic="none", width=128, height=128
)
marks = []
models.load_models(settings, rubric.load("pocket"), lambda _: marks.append(time.perf_counter()))
print(time.perf_counter() - began, time.perf_counter() - marks[-1])
"""


def make_large(folder: Path) -> None:
    """Write a pair of models into a folder: of the embedded one's architectures, but larger."""
    import torch
    from diffusers import DiffusionPipeline, PixArtTransformer2DModel
    from transformers import AutoConfig, AutoModelForImageTextToText

    from gcr import pocket

    pipeline = DiffusionPipeline.from_pretrained(pocket.GENERATOR)
    wider = {"num_attention_heads": 32, "cross_attention_dim": 1024}
    shape = {**pipeline.transformer.config, **wider, "num_layers": LAYERS["generator"]}
    pipeline.transformer = PixArtTransformer2DModel.from_config(shape)
    pipeline.to(torch.float32).save_pretrained(folder / "generator")
    shutil.copytree(pocket.CRITIC, folder / "critic")
    config = AutoConfig.from_pretrained(pocket.CRITIC)
    text = config.text_config
    text.hidden_size, text.intermediate_size, text.head_dim = 1024, 2816, 64
    text.num_attention_heads = text.num_key_value_heads = 16
    text.num_hidden_layers = LAYERS["critic"]
    larger = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    larger.save_pretrained(folder / "critic")


def forget(folder: Path) -> None:
    """Have the system drop what it keeps of the weights in a folder."""
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@app.command()
def cold(
    folder: Annotated[Path, typer.Argument(help="For the models, on the disk to read from.")],
    times: Annotated[int, typer.Option(help="Pairs of loads.")] = 6,
) -> None:
    """Load two models of 1.7 and 1 GB, each time in a process of its own and from the disk alone:
    with the generator's files read ahead, and without.

    Each line has the seconds of all, imports as well, of the generator alone, and of the processor.
    The models stay in the folder, and are made where there is none.
    """
    if not folder.exists():
        make_large(folder)
    for turn in range(times):
        ways = ("with", "without")
        for way in ways if turn % 2 else reversed(ways):
            forget(folder)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            places = [str(folder / name) for name in LAYERS]
            ran = subprocess.run(
                [sys.executable, "-c", LOADS, way, *places],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            whole, generator = map(float, ran.stdout.split())
            typer.echo(
                f"{way:>7} reading ahead: {whole:5.1f} s, {generator:4.1f} of them the generator; "
                f"{busy:.1f} of the processor"
            )


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
