"""Settings as folders keep them, and how they are taken up again."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.settings.schema import Settings

MEASURED = ("spread", "draw_batch", "judge_batch")
"""Settings that gcr bench and gcr calibrate find, and nobody gives by hand."""
UNRECORDED = {"history": False}
"""What older versions did, and did not record: settings of folders that say nothing of them."""


def recorded(settings: Settings, rubric_sha256: str) -> dict[str, object]:
    """What a folder keeps of settings, as JSON values. rubric_sha256: of the rubric they name."""
    return {**lasting(settings.recorded()), "rubric_sha256": rubric_sha256}


def as_begun(settings: Settings, before: Mapping[str, object]) -> Settings:
    """Settings with what was measured when a folder was begun: what was since is for other runs.

    before: what the folder keeps.
    """
    measured: dict[str, Any] = {key: before[key] for key in MEASURED if key in before}
    return replace(settings, **measured)


def lasting(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings in which models and rubric that are files are named from the root, so that a run can
    be gone on with from any working folder.
    """
    named = dict(settings)
    for key in ("generator", "critic", "rubric"):
        name = named.get(key)
        if isinstance(name, str) and (key != "rubric" or is_rubric_path(name)):
            path = Path(name).expanduser()
            named[key] = str(path.absolute()) if os.path.exists(path) else name  # noqa: PTH110 - never raises
    return named


def is_rubric_path(text: str) -> bool:
    """Whether a rubric is given by the path of its file, and not by its name."""
    return re.search(r"[/\\]|\.ya?ml$", text) is not None
