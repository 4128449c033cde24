"""`--dry-run`: what would be done, on stdout, with nothing loaded and nothing written."""

import json
from typing import TYPE_CHECKING

import typer

from gcr.cli import config, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.engine.forecast import Estimate, Forecast
    from gcr.settings.resolving import Resolved


def show(resolved: "Resolved", prompts: "Sequence[str]", *, as_json: bool) -> None:
    """Print what runs of these prompts under these settings would do."""
    from gcr.engine.forecast import forecast
    from gcr.engine.parts import with_rubric
    from gcr.settings.schema import recorded

    settings, questions = with_rubric(resolved.settings)
    found = forecast(
        resolved._replace(settings=settings), recorded(settings, questions.sha256), prompts
    )
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    table.show(config.HEADINGS, _settings(found))
    typer.echo()
    table.show(("plan", ""), _plan(found))


def _settings(found: "Forecast") -> list[tuple[str, str, str]]:
    """All that somebody decided, and the defaults that do something."""
    values = found.settings.as_json()
    return [
        row
        for row in config.rows(found.settings, found.origins)
        if row[2] != "default" or values[row[0]] not in (None, "", [], {})
    ]


def _plan(found: "Forecast") -> list[tuple[str, str]]:
    return [
        ("prompts", str(found.prompts)),
        *(("files", file) for file in found.files),
        ("memory", found.memory.said),
        ("images", _images(found.estimate)),
        ("time", _time(found.estimate)),
    ]


def _images(estimate: "Estimate") -> str:
    most = f"{estimate.most_images} at most"
    return most if estimate.images is None else f"about {estimate.images:.1f}, {most}"


def _time(estimate: "Estimate") -> str:
    from gcr.core.phrases import count, duration

    if estimate.most_seconds is None:
        return "unknown: no earlier run of these models and settings is here"
    most = f"{duration(estimate.most_seconds)} at most"
    about = "" if estimate.seconds is None else f"about {duration(estimate.seconds)}, "
    by = f" (by {count(estimate.runs, 'earlier run')} here)" if estimate.runs else " (the budget)"
    return f"{about}{most}{by}, without loading the models"
