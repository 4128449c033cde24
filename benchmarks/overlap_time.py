"""How much sooner a batch is done that draws while a server judges: `make overlap-time`.

The embedded critic runs behind `transformers serve` on one core of this machine, and this process
draws on another. The same prompts go through with and without overlapping, in turn.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import serving
import typer

import gcr
from gcr.storage.runfolder import RunFolder

# How many threads torch has decides how it rounds on a CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REQUESTS = Path(__file__).parent.parent / "examples" / "held-out.txt"


def models(outcome: gcr.BatchOutcome) -> tuple[float, float]:
    """Seconds of drawing and of judging."""
    runs = [RunFolder.open(outcome.folder / result.folder).run for result in outcome.results]
    tried = [attempt for run in runs for attempt in run.attempts]
    return sum(one.draw_seconds for one in tried), sum(one.judge_seconds for one in tried)


def main(
    count: Annotated[int, typer.Option(help="Requests.")] = 16,
    rounds: Annotated[int, typer.Option(help="Rounds at most.")] = 3,
    times: Annotated[int, typer.Option(help="Batches of each kind.")] = 3,
) -> None:
    """Compare times of a batch with and without overlapping."""
    prompts = REQUESTS.read_text().splitlines()[:count]
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with TemporaryDirectory() as place:
        home = Path(place)
        os.sched_setaffinity(0, {second})
        with serving.transformers_serve(home) as url:
            os.sched_setaffinity(0, {first})
            for turn in range(times):
                took = []
                for overlap in (False, True):
                    folder = home / f"{turn}-{overlap}"
                    options = {"critic": url, "rubric": "pocket", "rounds": rounds}
                    outcome = gcr.batch(prompts, into=folder, overlap=overlap, **options)
                    draw, judge = models(outcome)
                    took.append(outcome.seconds)
                    typer.echo(
                        f"{'overlapped' if overlap else 'in turn':>10}: {outcome.seconds:.1f} s, "
                        f"{draw:.1f} of drawing and {judge:.1f} of judging"
                    )
                typer.echo(f"{'ratio':>10}: {took[1] / took[0]:.2f}")


if __name__ == "__main__":
    typer.run(main)
