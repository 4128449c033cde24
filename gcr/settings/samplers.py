"""Samplers by the names that people know: A1111's, InvokeAI's, ComfyUI's and those of diffusers.

A name is a sampler and, where it is not the usual one, a noise schedule: `dpm++ 2m karras`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gcr.core.phrases import nearest
from gcr.errors import UsageError


class Sampler(NamedTuple):
    """One way from noise to an image.

    Attributes:
        label: A1111's name.
        invokeai: InvokeAI's.
        scheduler: the class of diffusers.
        config: what makes it this sampler, of that class's settings.
        aliases: other names, such as ComfyUI's.
    """

    label: str
    invokeai: str
    scheduler: str
    config: Mapping[str, object] = {}
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As --scheduler has it."""
        return self.label.casefold()


def _multistep(algorithm: str, order: int) -> dict[str, object]:
    return {"algorithm_type": algorithm, "solver_order": order}


_MULTISTEP = "DPMSolverMultistepScheduler"
SAMPLERS = (
    Sampler("Euler", "euler", "EulerDiscreteScheduler"),
    Sampler(
        "Euler a",
        "euler_a",
        "EulerAncestralDiscreteScheduler",
        {},
        ("euler_ancestral",),
    ),
    Sampler("Heun", "heun", "HeunDiscreteScheduler"),
    Sampler("DPM2", "kdpm_2", "KDPM2DiscreteScheduler", {}, ("dpm_2",)),
    Sampler("DPM2 a", "kdpm_2_a", "KDPM2AncestralDiscreteScheduler", {}, ("dpm_2_ancestral",)),
    Sampler("DPM++ 2M", "dpmpp_2m", _MULTISTEP, _multistep("dpmsolver++", 2)),
    Sampler("DPM++ 2M SDE", "dpmpp_2m_sde", _MULTISTEP, _multistep("sde-dpmsolver++", 2)),
    Sampler("DPM++ 3M SDE", "dpmpp_3m_sde", _MULTISTEP, _multistep("sde-dpmsolver++", 3)),
    Sampler("LMS", "lms", "LMSDiscreteScheduler"),
    Sampler("DDIM", "ddim", "DDIMScheduler"),
    Sampler("DDPM", "ddpm", "DDPMScheduler"),
    Sampler("PLMS", "pndm", "PNDMScheduler"),
    Sampler("DEIS", "deis", "DEISMultistepScheduler"),
    Sampler("UniPC", "unipc", "UniPCMultistepScheduler", {}, ("uni_pc", "uni_pc_bh2")),
    Sampler("LCM", "lcm", "LCMScheduler"),
    Sampler("TCD", "tcd", "TCDScheduler"),
)
"""Each draws an image from its seed alone. diffusers' DPM++ SDE does not, so it is not among them:
its noise has one seed for a whole batch."""


class Schedule(NamedTuple):
    """How noise is spread over the steps.

    Attributes:
        label: A1111's name.
        key: of the setting of diffusers that chooses it.
        value: of that setting.
        alias: another name.
    """

    label: str
    key: str
    value: object = True
    alias: str = ""


SCHEDULES = {
    "karras": Schedule("Karras", "use_karras_sigmas"),
    "exponential": Schedule("Exponential", "use_exponential_sigmas"),
    "beta": Schedule("Beta", "use_beta_sigmas", alias="betas"),
    "sgm uniform": Schedule("SGM Uniform", "timestep_spacing", "trailing", "trailing"),
}
"""Noise schedules, as --scheduler has them behind a sampler."""
USUAL = ("normal", "simple", "uniform", "discrete", "ddim_uniform", "ddim")
"""What others call the schedule that is none of these: the model's own."""
NO_SCHEDULES = (
    *("polyexponential", "kl optimal", "align your steps", "ays", "turbo", "linear quadratic"),
    *("beta57", "bong tangent"),
)
"""Schedules of A1111's and ComfyUI's that are not to be had with diffusers."""
NO_SAMPLERS = (
    *("dpm++ 2s", "dpm++ 3m", "dpm fast", "dpm adaptive", "heunpp2", "restart", "ipndm", "er sde"),
    *("res multistep", "res 2", "res 3", "gradient estimation", "seeds 2", "seeds 3", "sa solver"),
    *("euler cfg++", "euler a cfg++", "euler ancestral cfg++", "dpm++ 2m cfg++", "dpm++ sde"),
)
"""How samplers of theirs begin that are not to be had with diffusers."""
AUTOMATIC = {
    **dict.fromkeys(("DPM2", "DPM2 a", "DPM++ 2M"), "karras"),
    **dict.fromkeys(("DPM++ 2M SDE", "DPM++ 3M SDE"), "exponential"),
}
"""What A1111 means by `Automatic`, where that is not the usual one."""
OTHERS = {
    "DPMSolverSDE": "DPM++ SDE",
    "FlowMatchEulerDiscrete": "Euler",
    "FlowMatchHeunDiscrete": "Heun",
}
"""A1111's names of further schedulers of diffusers."""


class Choice(NamedTuple):
    """A sampler with a schedule; an empty one is the model's own."""

    sampler: Sampler
    schedule: str = ""

    @property
    def name(self) -> str:
        """As --scheduler has it, such as `dpm++ 2m karras`."""
        return f"{self.sampler.name} {self.schedule}".strip()


def _plain(name: str) -> str:
    """A name as names are compared: `DPM++ 2M Karras` and `dpmpp_2m_karras` are one."""
    text = name.casefold().replace("++", "pp").removesuffix("scheduler")
    return re.sub(r"[^a-z0-9]+", "", re.sub(r"^(sample_|k_)", "", text))


def _names() -> dict[str, Choice]:
    names: dict[str, Choice] = {}
    for sampler in SAMPLERS:
        spellings = {_plain(s) for s in (sampler.label, sampler.invokeai, *sampler.aliases)}
        if sampler.scheduler != _MULTISTEP:
            spellings.add(_plain(sampler.scheduler))
        # ComfyUI's samplers whose noise is made on the GPU.
        spellings |= {f"{spelling}gpu" for spelling in spellings if spelling.endswith("sde")}
        for spelling in spellings:
            names |= {spelling + _plain(word): Choice(sampler) for word in ("", *USUAL)}
            for word, schedule in SCHEDULES.items():
                for ending in filter(None, (_plain(word), schedule.alias)):
                    names[spelling + ending] = Choice(sampler, word)
            names[f"{spelling}automatic"] = Choice(sampler, AUTOMATIC.get(sampler.label, ""))
            names[f"{spelling}k"] = Choice(sampler, "karras")  # InvokeAI's
    return names


_NAMES = _names()


def find(name: str) -> Choice | None:
    """The sampler of a name, however it is written; None for a name of none of them."""
    return _NAMES.get(_plain(name))


def parse(name: str) -> Choice:
    """As `find`. Raises UsageError, with the nearest name, for a name of none of them."""
    choice = find(name)
    if choice is not None:
        return choice
    listed = [sampler.name for sampler in SAMPLERS]
    similar = nearest(name.casefold(), listed)
    known = f"known: {', '.join(listed)}; each may have {', '.join(SCHEDULES)} after it"
    plain = _plain(name)
    for word in NO_SCHEDULES:
        without = _NAMES.get(plain.removesuffix(_plain(word)))
        if without and plain.endswith(_plain(word)):
            raise UsageError(
                f"diffusers has no noise schedule {word!r}",
                f"--scheduler {without.name!r} is that sampler with the model's own schedule",
            )
    if plain.startswith(tuple(map(_plain, NO_SAMPLERS))):
        reason = f"diffusers has no sampler {name!r} that draws each image from its own seed"
        raise UsageError(reason, known)
    raise UsageError(
        f"there is no scheduler {name!r}",
        f"did you mean {similar!r}? {known}" if similar else known,
    )


def described(scheduler: str, config: Mapping[str, object]) -> tuple[str, str]:
    """A1111's name for a scheduler of diffusers, and for its schedule; that is empty where it is
    the usual one. Where A1111 has no name it is diffusers' own.

    scheduler: the name of its class. config: its settings.
    """
    kind, settings = scheduler.removesuffix("Scheduler"), {**config}
    alike = (
        sampler.label
        for sampler in SAMPLERS
        if sampler.scheduler == scheduler and sampler.config.items() <= settings.items()
    )
    chosen = (each.label for each in SCHEDULES.values() if config.get(each.key) == each.value)
    return next(alike, OTHERS.get(kind, kind)), next(chosen, "")
