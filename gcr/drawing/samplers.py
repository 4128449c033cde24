"""What a pipeline's scheduler is called by those who read image files."""

from __future__ import annotations

from typing import Any

NAMES = {
    "DDIMScheduler": "DDIM",
    "DDPMScheduler": "DDPM",
    "DEISMultistepScheduler": "DEIS",
    "DPMSolverSDEScheduler": "DPM++ SDE",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "EulerDiscreteScheduler": "Euler",
    "FlowMatchEulerDiscreteScheduler": "Euler",
    "FlowMatchHeunDiscreteScheduler": "Heun",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "KDPM2DiscreteScheduler": "DPM2",
    "LCMScheduler": "LCM",
    "LMSDiscreteScheduler": "LMS",
    "PNDMScheduler": "PLMS",
    "UniPCMultistepScheduler": "UniPC",
}
"""A1111's names of what diffusers has."""

MULTISTEP: dict[tuple[object, object], str] = {
    ("dpmsolver++", 2): "DPM++ 2M",
    ("sde-dpmsolver++", 2): "DPM++ 2M SDE",
    ("sde-dpmsolver++", 3): "DPM++ 3M SDE",
}
"""The same of DPMSolverMultistepScheduler, by its algorithm and order."""

SCHEDULES = {
    "use_karras_sigmas": "Karras",
    "use_exponential_sigmas": "Exponential",
    "use_beta_sigmas": "Beta",
}
"""A1111's names of schedules, by the setting that chooses them."""


def name(pipeline: Any) -> str:
    """A1111's name of a pipeline's sampler, with its schedule where that is not the usual one:
    `DPM++ 2M Karras`. That of diffusers where A1111 has none; empty where there is no scheduler.
    """
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None:
        return ""
    kind = type(scheduler).__name__
    config = getattr(scheduler, "config", {})
    known = NAMES.get(kind, kind.removesuffix("Scheduler"))
    if kind == "DPMSolverMultistepScheduler":
        known = MULTISTEP.get((config.get("algorithm_type"), config.get("solver_order")), known)
    schedule = next((word for key, word in SCHEDULES.items() if config.get(key)), "")
    return f"{known} {schedule}".strip()
