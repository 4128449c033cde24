"""How much sooner a batch is done that draws while a server judges: `make overlap-time`.

The embedded critic runs behind `transformers serve` on one core, and gcr draws on another. The same
prompts go through with and without `--overlap`, in turn.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import serving

GCR = Path(sys.executable).with_name("gcr")
PROMPTS = 16
TIMES = 3


def batch(prompts, critic, into, overlap):
    """Seconds of a batch, by its own account: loading is left out of it on both sides."""
    command = [GCR, "batch", prompts, "--critic", critic, "--rubric", "pocket", "--into", into]
    command += ["--rounds", "3", "--target", "1", "--json", "--quiet", overlap]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    subprocess.run(["taskset", "-c", "0", *command], env=environment, check=True, stdout=-3)
    return time.monotonic() - started


def models(folder):
    """Seconds of drawing, and of the critic."""
    rounds = [
        json.loads(line)
        for path in folder.glob("runs/*/rounds.jsonl")
        for line in path.read_text().splitlines()
    ]
    tried = [attempt for one in rounds for attempt in one["attempts"]]
    return [sum(attempt[name] for attempt in tried) for name in ("draw_seconds", "judge_seconds")]


def main():
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        prompts = home / "prompts.txt"
        given = (Path(__file__).parent.parent / "examples" / "held-out.txt").read_text()
        prompts.write_text("\n".join(given.splitlines()[:PROMPTS]))
        with serving.transformers_serve(home, before=("taskset", "-c", "1")) as url:
            for turn in range(TIMES):
                took = {}
                for overlap in ("--no-overlap", "--overlap"):
                    folder = home / f"{turn}{overlap}"
                    took[overlap] = batch(prompts, url, folder, overlap)
                    draw, judge = models(folder)
                    print(
                        f"{overlap:12} {took[overlap]:5.1f} s: drawing {draw:.1f}, judging {judge:.1f}"
                    )
                print(f"ratio {took['--overlap'] / took['--no-overlap']:.2f}")


if __name__ == "__main__":
    main()
