"""Checkpoints that attack, each run by the real command in a process of its own.

They are made by `tests/support/hostile.py`, from a tiny pipeline and a tiny critic.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import hostile

from benchmarks.reliability import Tally

MODELS = 100


def run(place: Path, seed: int, scale: float, tally: Tally) -> None:
    names = [*hostile.CASES]
    random.Random(f"{seed} models").shuffle(names)
    names = names[: max(1, round(MODELS * scale))]
    made = hostile.warmed_up(names, place / "bases")
    for number, name in enumerate(names):
        if time.monotonic() > tally.until:
            break
        ended = hostile.run(name, made[name], place / f"case{number}")
        kind, _, _ = name.partition(":")
        tally.note(kind, *_judged(name, ended))
    tally.figures["kinds of harm known to the suite"] = len(hostile.CASES)


def _judged(name: str, ended: dict[str, Any]) -> tuple[str, str]:
    code, err = ended["code"], ended["err"]
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    wrong = [
        ended["canary"] and "it ran code, opened a connection or wrote outside",
        code not in (0, 1, 2) and f"exit code {code}",
        any(word in err for word in ("defect of gcr", "Traceback", "RAW")) and err[-400:],
        code and not _is_clear(lines) and f"no error and hint: {err[-400:]}",
        code and ended["out"] and f"stdout: {ended['out'][:200]}",
        not code and not ended["images"] and "no image",
    ]
    failure = "; ".join(str(words) for words in wrong if words)
    outcome = "refused, with a hint" if code else "harmless: it drew and judged"
    return outcome, f"{name}: {failure}" if failure else ""


def _is_clear(lines: list[str]) -> bool:
    return len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint:  ")
