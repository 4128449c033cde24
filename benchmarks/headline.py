"""The figures of README.md: `make headline` runs the comparison, and writes them down.

    gcr compare examples/held-out.txt      the command, under nobody's own settings
    docs/headline.json                     what came of it: figures, versions, machine, seed
    README.md, docs/comparing.md           their marked parts, written anew from that file

A test holds the pages to docs/headline.json, and that to the weights that are shipped. Requests
that nobody trained on are run once for each set of weights, and never to choose between sets.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.refinement import FULL
from gcr.comparison import cost
from gcr.comparison.arms import Arm
from gcr.comparison.evaluators.builtin import Truth
from gcr.comparison.measuring import pixels
from gcr.core.records import Sample
from gcr.files import structured
from gcr.files.atomic import write, write_json
from gcr.pocket import WEIGHTS
from gcr.storage import runfolder

ROOT = Path(__file__).parents[1]
REQUESTS = ROOT / "examples" / "held-out.txt"
RECORD = ROOT / "docs" / "headline.json"
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "comparing.md")
BUDGET = 8
OPTIONS = ("--max-images", str(BUDGET), "--profile", "pocket", "--evaluator", "truth")


def weights() -> str:
    """sha256 of the embedded pair's weights, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(WEIGHTS.rglob("*.safetensors")):
        digest.update(path.relative_to(WEIGHTS).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def compare(count: int, into: Path) -> list[str]:
    """Compare in a folder, or go on with what is there; returns what stderr said at the end."""
    into.mkdir(parents=True, exist_ok=True)
    requests = REQUESTS.read_text().splitlines()[:count]
    write(into / "requests.txt", "".join(f"{request}\n" for request in requests).encode())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GCR_")}
    clean |= {"XDG_CONFIG_HOME": str(into.absolute()), "PYTHONPATH": str(ROOT)}
    begun = (into / "c" / "arms.json").exists()
    words = ["resume", "c"] if begun else ["compare", "requests.txt", "--into", "c", *OPTIONS]
    command = [sys.executable, "-m", "gcr", *words]
    lines = []
    with subprocess.Popen(
        command, cwd=into, env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            typer.echo(lines[-1], err=True)
    if process.returncode:
        raise typer.Exit(process.returncode)
    return lines[next(i for i, line in enumerate(lines) if line.startswith("arm ")) :]


def shortened(lines: Sequence[str]) -> list[str]:
    """The arms without their seconds, which say as much of the machine and of what else it was at;
    and what may be said of refining against the others.
    """
    at = lines[0].index("  seconds")
    table = [line[:at] + line[at + len("  seconds") :] for line in lines[: lines.index("")]]
    numbered = [i for i, line in enumerate(lines[1:]) if line.startswith("  ")]
    of_raw, of_others = (i for i in numbered if re.search(r"\brefine\b", lines[i]))
    return [*table, "", *lines[of_raw : of_raw + 2], lines[of_others]]


def perfect_scores(folder: Path) -> dict[str, int]:
    """How many images of all arms the critic gave the full score, and how many of them truth calls
    wrong.
    """
    judge = Truth.load("")
    images = {"images": 0, "wrong": 0}
    seen = set()
    for name in ("best-of-n", "refine"):
        arm = Arm.read(name, folder / name)
        for result in arm.results.values():
            path = arm.batch.path / result.folder
            run = runfolder.load_run(path)
            for attempt in run.attempts:
                if (attempt.score or 0.0) < FULL:
                    continue
                picture = result.id, pixels(path / attempt.image)
                if picture in seen:  # the arms have their first images in common
                    continue
                seen.add(picture)
                sample = Sample(attempt.image, run.request.prompt, path / attempt.image)
                ((_, right),) = judge.score([sample])
                images["images"] += 1
                images["wrong"] += not right
    return images


def drawing_seconds(folder: Path) -> float:
    """What it took to draw and judge all of it, in one call or several."""
    logs = [path.read_text().splitlines() for path in sorted(folder.glob(f"*/{cost.NAME}"))]
    return round(sum(float(json.loads(line)["seconds"]) for log in logs for line in log), 1)


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[0],  # of one minute, at the end: what else was running
    }


def rendered(record: Mapping[str, Any]) -> dict[str, str]:
    """The parts of `PAGES` that the figures are in, by the name of each part's mark."""
    arms = {arm["name"]: arm for arm in record["arms"]}
    share = {name: f"{100 * arm['mean']:.1f}%" for name, arm in arms.items()}
    sample = "\n".join(shortened(record["lines"]))
    perfect = record["perfect_scores"]
    wrong = f"{100 * perfect['wrong'] / max(1, perfect['images']):.1f}%"
    count, most = record["requests"], record["budget"]
    used = {name: f"{arm['images']:.1f} on average" for name, arm in arms.items()}
    return {
        "tables": _tables(record),
        "comparison": f"```text\n{sample}\n```",
        "figures": f"""\
On {count} requests of `examples/held-out.txt`, each with a colour–shape pair that neither embedded
model was trained on (`make headline`; all of it is in [headline.json](docs/headline.json)):

| | right |
|---|---|
| the request as it is, one image | {share["raw"]} |
| the critic's choice of at most {most} such images ({used["best-of-n"]}) | {share["best-of-n"]} |
| refined, at most {most} images ({used["refine"]}) | {share["refine"]} |

- A critic errs. Of the embedded critic's perfect scores, {wrong} are for wrong pictures. That is
  why `gcr compare` never asks it, and lists prompts where it and the evaluator disagree.""",
    }


def _tables(record: Mapping[str, Any]) -> str:
    """The arms, each against each, and where the critic was pleased and truth was not."""
    rows = ["| arm | right | critic's mean | images | tokens in | tokens out |", "|---" * 6 + "|"]
    for arm in record["arms"]:
        cost = arm["cost"]
        rows.append(
            f"| `{arm['name']}` | {100 * arm['mean']:.1f}% | {arm['critic_mean']:.2f} "
            f"| {arm['images']:.1f} | {cost['tokens_read']:.0f} | {cost['tokens_written']:.0f} |"
        )
    rows += ["", "| | difference | 95% interval | won, tied, lost | p |", "|---" * 5 + "|"]
    for pair in record["pairs"]:
        interval = "{:+.1f} to {:+.1f}".format(*(100 * e for e in pair["interval"] or (0, 0)))
        p = pair["p"] if pair["adjusted"] is None else pair["adjusted"]
        cells = (
            f"`{pair['arm']}` against `{pair['against']}`",
            f"{100 * pair['difference']:+.1f} points",
            interval if pair["interval"] else "–",
            f"{pair['wins']}, {pair['ties']}, {pair['losses']}",
            "< .001" if p < 0.001 else f"{p:.3f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    rows.append("")
    rows += [
        f"On {one['suspects']} of {one['prompts']} prompts the critic prefers `{one['arm']}` to "
        f"`{one['against']}` and truth does not; the other way round on {one['opposite']}."
        for one in record["suspicions"]
    ]
    return "\n".join(rows)


def rewritten(page: str, record: Mapping[str, Any]) -> str:
    """A page with its marked parts as a record has them. Raises ValueError without any mark."""
    parts = rendered(record)
    mark = re.compile(r"(<!-- headline: (\w+) -->\n).*?(<!-- /headline -->)", re.DOTALL)
    text, count = mark.subn(lambda part: f"{part[1]}{parts[part[2]]}\n{part[3]}", page)
    if not count:
        raise ValueError("the page has no part between <!-- headline: NAME --> and its end")
    return text


def main(
    requests: Annotated[int, typer.Option(help="How many, from the first on.")] = 200,
    into: Annotated[
        Path, typer.Option(help="Where to draw; what is there already is gone on with.")
    ] = Path("build/headline"),
) -> None:
    """Run the comparison of README.md, and write its figures there and into docs/."""
    lines = compare(requests, into)
    folder = into / "c"
    compared = structured.record(folder / "compare.json")
    record = {
        "command": f"gcr compare {REQUESTS.relative_to(ROOT)} {' '.join(OPTIONS)}",
        "requests": len(compared["prompts"]),
        "seed": compared["settings"]["seed"],
        "budget": BUDGET,
        "started": compared["started"],
        "seconds": drawing_seconds(folder),
        "machine": machine(),
        "versions": compared["versions"],
        "weights_sha256": weights(),
        "arms": compared["arms"],
        "pairs": compared["pairs"],
        "suspicions": compared["suspicions"],
        "at_equal_seconds": compared["curves"]["at_equal_seconds"],
        "equal_seconds": compared["curves"]["equal_seconds"],
        "perfect_scores": perfect_scores(folder),
        "lines": lines,
    }
    write_json(RECORD, record, indent=1)
    for page in PAGES:
        write(page, rewritten(page.read_text(), record).encode())


if __name__ == "__main__":
    typer.run(main)
