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
PATHS = ("generator", "critic", "config", "vae", "lora_dir")
"""Settings that may be paths of files or folders on this machine; and so may be those of lora."""
UNRECORDED = {"history": False, "rewriter": True, "prompt_syntax": "plain"}
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
    for key in (*PATHS, "rubric"):
        name = values.get(key)
        if isinstance(name, str) and name and (key != "rubric" or is_rubric_path(name)):
            values[key] = _absolute(name)
    loras = values.get("lora")
    if isinstance(loras, list | tuple):
        parts = (split_scale(str(lora)) for lora in loras)
        values["lora"] = [_absolute(name) + scale for name, scale in parts]
    return values


def _absolute(name: str) -> str:
    path = paths.expanded(name)
    return str(path.absolute()) if paths.exists(path) else name


def split_scale(lora: str) -> tuple[str, str]:
    """A LoRA as --lora has it: its name, and its scale with the colon, or nothing."""
    match = re.fullmatch(r"(.+?)(:\s*[+-]?(?:\d+\.?\d*|\.\d+))?", lora.strip(), re.DOTALL)
    return (match[1], match[2] or "") if match else (lora, "")


def is_rubric_path(text: str) -> bool:
    """Whether a rubric is given by the path of its file, and not by its name."""
    return re.search(r"[/\\]|\.ya?ml$", text) is not None
