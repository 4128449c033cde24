"""Settings as folders keep them, and how they are taken up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.store import lasting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.rubric import Rubric
    from gcr.settings import Settings

MEASURED = ("spread", "draw_batch", "judge_batch")
"""Settings that gcr bench and gcr calibrate find, and nobody gives by hand."""


def recorded(settings: Settings, questions: Rubric) -> dict[str, object]:
    """What a folder keeps of settings and their rubric, as JSON values."""
    return {**lasting(settings.recorded()), "rubric_sha256": questions.sha256}


def as_begun(settings: Settings, before: Mapping[str, object]) -> Settings:
    """Settings with what was measured when a folder was begun: what was since is for other runs.

    before: what the folder keeps.
    """
    return settings.model_copy(update={key: before[key] for key in MEASURED if key in before})
