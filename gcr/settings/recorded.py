"""Settings as folders of runs, batches and comparisons keep them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gcr.files import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.settings.schema import Settings

MEASURED = ("spread", "draw_batch", "judge_batch")
"""Settings that gcr bench and gcr calibrate measure, and nobody gives by hand."""
UNRECORDED = {"history": False, "rewriter": True}
"""How older versions ran without recording it: settings for folders that lack them."""


def recorded(settings: Settings, rubric_sha256: str) -> dict[str, object]:
    """What a folder keeps of settings, as JSON values. rubric_sha256: of the rubric they name."""
    return {**lasting(settings.recorded()), "rubric_sha256": rubric_sha256}


def as_begun(settings: Settings, before: Mapping[str, object]) -> Settings:
    """Settings with what had been measured when a folder was begun, whatever was measured since,
    and with what nobody can set as it was then.

    before: the settings that the folder keeps.
    """
    values: dict[str, Any] = {**UNRECORDED, **before}
    return replace(
        settings, **{key: values[key] for key in (*MEASURED, "rewriter") if key in values}
    )


def lasting(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings with absolute paths of models and rubric, where these are files: a run can then be
    resumed from any working folder.
    """
    values = dict(settings)
    for key in ("generator", "critic", "rubric"):
        name = values.get(key)
        if isinstance(name, str) and (key != "rubric" or is_rubric_path(name)):
            path = paths.expanded(name)
            values[key] = str(path.absolute()) if paths.exists(path) else name
    return values


def is_rubric_path(text: str) -> bool:
    """Whether a rubric is given by the path of its file, and not by its name."""
    return re.search(r"[/\\]|\.ya?ml$", text) is not None
