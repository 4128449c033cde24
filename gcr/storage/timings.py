"""What earlier runs on this machine say of how long a run takes, and how many images it draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from gcr.files import structured

MOST = 200
"""Runs that are looked at, the latest first."""

FOR_SECONDS = (
    *("generator", "critic", "rubric_sha256", "width", "height", "steps", "guidance", "call"),
    *("score", "judges", "dtype", "draw_batch", "judge_batch"),
    *("history", "compile", "step_cache"),
)
"""Settings on which the time for one image depends."""

FOR_IMAGES = (
    *FOR_SECONDS,
    *("strategy", "rounds", "images", "target", "patience", "min_gain"),
    *("max_images", "max_seconds"),
)
"""Settings on which it depends how many images a run draws."""

UNENDED = {None, "interrupted", "failed", "chosen"}
"""Why a run stopped that says nothing of how long it would have been."""


class History(NamedTuple):
    """draw, judge: seconds for one image; judging holds its share of what it took to word prompts
    with all in view. images: of a run that came to its end.

    runs: that the seconds were measured in. None: no run like this one was found.
    """

    draw: float | None = None
    judge: float | None = None
    images: float | None = None
    runs: int = 0


def look(output: Path, settings: Mapping[str, object]) -> History:
    """What the runs and batches below a folder took that had the same models and settings.

    settings: as a run folder records them. Damaged records are passed over: they are no evidence.
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
        if story.get("stop") not in UNENDED and not _differ(before, settings, FOR_IMAGES):
            counts.append(len(attempts))
    if not seconds:
        return History()
    draw, judge = (mean(column) for column in zip(*seconds, strict=True))
    return History(draw, judge, mean(counts) if counts else None, runs)


def _differ(before: Mapping[str, object], now: Mapping[str, object], keys: tuple[str, ...]) -> bool:
    return any(before.get(key) != now.get(key) for key in keys)


def _runs(output: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Of each run what run.json holds, and its attempts: runs alone, of batches, of comparisons."""
    places = ("*/*/run.json", "*/*/runs/*/run.json", "*/*/*/runs/*/run.json")
    found = [path for place in places for path in output.glob(place)]
    for path in sorted(found, reverse=True)[:MOST]:
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
