"""What a run or a batch would do, as far as it can be known without loading anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gcr.device import memory
from gcr.device.memory import GIB, MODES
from gcr.engine import models
from gcr.errors import UsageError
from gcr.settings.address import is_address
from gcr.settings.measurements import SPEEDS, on_device
from gcr.storage import timings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.settings.resolving import Resolved
    from gcr.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Memory:
    """device: the GPU's name, or `cpu`. free_gib, needs_gib: None: unknown, or no GPU.

    residency: what would stay on the GPU; empty where that is decided when models are loaded.
    said: all of it in words.
    """

    device: str
    free_gib: float | None
    needs_gib: float | None
    residency: str
    said: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """For all prompts together. Loading and the comparison at the end are not counted.

    most_images, most_seconds: at most. images, seconds: as in `runs` earlier runs of the same
        models and settings. None: unknown.
    """

    most_images: int
    most_seconds: float | None
    images: float | None
    seconds: float | None
    runs: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """prompts: how many. origins: where each setting came from. files: that are drawn with."""

    prompts: int
    settings: Settings
    origins: Mapping[str, str]
    memory: Memory
    estimate: Estimate
    files: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        values = self.settings.as_json()
        return {
            "prompts": self.prompts,
            "settings": {
                key: {"value": value, "origin": self.origins[key]} for key, value in values.items()
            },
            "files": list(self.files),
            "memory": asdict(self.memory),
            "estimate": asdict(self.estimate),
        }


def forecast(
    resolved: Resolved, recorded: Mapping[str, object], prompts: Sequence[str]
) -> Forecast:
    """recorded: the settings as a run folder would record them.

    Raises UsageError and ModelError for files that a run could not draw with.
    """
    return Forecast(
        len(prompts),
        resolved.settings,
        resolved.origins,
        _memory(resolved),
        _estimate(resolved.settings, recorded, len(prompts)),
        _files(resolved.settings, prompts),
    )


def _files(settings: Settings, prompts: Sequence[str]) -> tuple[str, ...]:
    """What is drawn with besides the models, each in words."""
    files = models.files_of(settings, prompts)
    if settings.scheduler and (reason := models.unfit(settings, "scheduler", settings.scheduler)):
        raise UsageError(reason, "leave --scheduler out")
    shown = []
    if (file := files.checkpoint) is not None:
        about = f", {file.family}; what it lacks comes from {file.config}" if file.family else ""
        shown.append(f"{file.path.name}{about}")
    if files.vae:
        shown.append(f"VAE {files.vae}")
    loras = (*files.always, *files.named)
    shown += [f"LoRA {lora.name} ({lora.path.name})" for lora in loras]
    return tuple(shown)


def _memory(resolved: Resolved) -> Memory:
    """What is measured is planned with; else only the profile's own word is known."""
    import torch

    settings, profile = resolved.settings, resolved.profile
    device = memory.device_name()
    alone = is_address(settings.critic)  # a server takes nothing here
    if not torch.cuda.is_available():
        stay = "the generator stays" if alone else "both models stay"
        said = f"no GPU: {stay} in the machine's memory"
        if profile.vram_gb and profile.is_for(settings):
            said += f"; profile {profile.name} is for a GPU with {profile.vram_gb:g} GiB"
        if settings.quantize_generator != "none":
            said += f"; {settings.quantize_generator} weights need one"
        return Memory(device, None, None, "", said)
    free = torch.cuda.mem_get_info()[0]
    size = (settings.width, settings.height)
    speeds = SPEEDS.read(os.environ)
    found = [on_device(speeds, "draw", settings.generator_measured, size, memory.device_name)]
    if not alone:
        found.append(on_device(speeds, "judge", settings.critic_timed, size, memory.device_name))
    footprints = [print_ for one in found if one and (print_ := one.footprint())]
    if len(footprints) == len(found):
        modes = MODES if settings.residency == "auto" else (settings.residency,)
        plan = memory.plan(modes, footprints, free)
        return Memory(device, free / GIB, plan.needs / GIB, plan.mode, f"{plan} (by gcr bench)")
    said = f"{device}: {free / GIB:.1f} GiB free; "
    if profile.is_for(settings):
        said += f"profile {profile.name} needs {profile.vram_gb:g} (estimated)"
        return Memory(device, free / GIB, profile.vram_gb, "", said)
    return Memory(device, free / GIB, None, "", said + "gcr bench measures what these models need")


def _estimate(settings: Settings, recorded: Mapping[str, object], prompts: int) -> Estimate:
    each = settings.rounds * settings.images
    if settings.max_images is not None:
        each = min(each, settings.max_images)
    past = timings.past_runs(settings.output, recorded)
    one = None if past.draw is None or past.judge is None else past.draw + past.judge
    most = None if one is None else each * one
    if settings.max_seconds is not None:
        most = settings.max_seconds if most is None else min(most, settings.max_seconds)
    return Estimate(
        most_images=each * prompts,
        most_seconds=None if most is None else most * prompts,
        images=None if past.images is None else past.images * prompts,
        seconds=None if past.images is None or one is None else past.images * one * prompts,
        runs=past.runs,
    )
