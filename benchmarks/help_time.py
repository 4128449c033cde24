"""How long `gcr --help` takes against importing its two libraries."""

import resource
import subprocess
import sys
import time

TIMES = 9


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


if __name__ == "__main__":
    wall, processor = ratios()
    sys.stdout.write(
        f"gcr --help / import typer, rich: {wall:.2f} wall, {processor:.2f} processor\n"
    )
