"""How long earlier runs on this machine took, and how many images they drew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from gcr.files import structured

MOST_RUNS = 200
"""Runs that are looked at, the latest first."""

FOR_SECONDS = (
    *("generator", "critic", "rubric_sha256", "width", "height", "steps", "guidance", "call"),
    *("score", "judges", "dtype", "draw_batch", "judge_batch"),
    *("history", "graphs", "compile", "step_cache", "quantize_generator", "quantize_critic"),
    "verify",
)
"""Settings on which the time for one image depends."""

FOR_IMAGES = (
    *FOR_SECONDS,
    *("strategy", "rounds", "images", "target", "patience", "min_gain"),
    *("max_images", "max_seconds"),
)
"""Settings on which it depends how many images a run draws."""

CUT_SHORT = {None, "interrupted", "failed", "chosen"}
"""Stop reasons of runs that did not go on as long as their settings let them."""


class History(NamedTuple):
    """Means over earlier runs; None: there was no run with these settings.

    Attributes:
        draw: seconds for one image.
        judge: seconds for one image, with its share of writing the next prompt.
        images: drawn in a run that came to its end.
        runs: how many runs the seconds are from.
    """

    draw: float | None = None
    judge: float | None = None
    images: float | None = None
    runs: int = 0


def past_runs(output: Path, settings: Mapping[str, object]) -> History:
    """The means of the runs below a folder that had the same models and settings.

    Arguments:
        output: the folder of all runs, batches and comparisons.
        settings: as a run folder records them.

    Damaged records are passed over.
    """
    seconds: list[tuple[float, float]] = []
    counts: list[int] = []
    runs = 0
    for story, attempts in _runs(output):
        before = story.get("settings", {})
        if not attempts or _differ(before, settings, FOR_SECONDS):
            continue
        runs += 1
        seconds += [(a["draw_seconds"], a["judge_seconds"]) for a in attempts]
        ended = story.get("stop") not in CUT_SHORT and not story.get("extensions")
        if ended and not _differ(before, settings, FOR_IMAGES):
            counts.append(len(attempts))
    if not seconds:
        return History()
    draw, judge = (mean(column) for column in zip(*seconds, strict=True))
    return History(draw, judge, mean(counts) if counts else None, runs)


def _differ(before: Mapping[str, object], now: Mapping[str, object], keys: tuple[str, ...]) -> bool:
    return any(before.get(key) != now.get(key) for key in keys)


def _runs(output: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What run.json holds, and the attempts, of runs alone, in batches and in comparisons."""
    places = ("*/*/run.json", "*/*/runs/*/run.json", "*/*/*/runs/*/run.json")
    paths = [path for place in places for path in output.glob(place)]
    for path in sorted(paths, reverse=True)[:MOST_RUNS]:
        try:
            story = structured.record(path)
            rounds = structured.content(path.with_name("rounds.jsonl"), structured.RECORD_BYTES)
            lines = rounds.splitlines()
            yield dict(story), _attempts([structured.parse_record(line) for line in lines])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _attempts(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    attempts = [attempt for round_ in rounds for attempt in round_["attempts"]]
    wording = sum((round_.get("wording") or {"seconds": 0})["seconds"] for round_ in rounds)
    return [
        {**attempt, "judge_seconds": attempt["judge_seconds"] + wording / len(attempts)}
        for attempt in attempts
    ]
