"""Profiles: named pairs of generator and critic, with the settings that suit them.

Each is a YAML file in this folder. `auto` is the largest that the machine has room for.
"""

from __future__ import annotations

import difflib
from importlib import resources
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gcr.errors import UsageError

AUTO = "auto"
EMBEDDED = "pocket"

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class Profile(BaseModel):
    """A pair of models and how to run them.

    generator, critic: hub ids, folders, or `pocket:generator` and `pocket:critic`.
    width, height: pixels; steps, guidance: None leaves each to the pipeline.
    call: further arguments of the generator's pipeline.
    dtype: of the generator's weights on a GPU.
    vram_gb: free GPU memory in GiB that the larger of the two needs to work; 0: needs no GPU.
    draw_batch, judge_batch: images drawn and judged at once, at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Text
    description: Text
    generator: Text
    critic: Text
    rubric: Text
    width: Count
    height: Count
    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None
    call: dict[str, JsonValue] = Field(default_factory=dict)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    vram_gb: Annotated[float, Field(ge=0)]
    draw_batch: Count = 1
    judge_batch: Count = 1


class Choice(NamedTuple):
    """What `auto` chose, and why, in words for the user."""

    profile: Profile
    reason: str


def known() -> list[str]:
    """The names of all profiles."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load(name: str) -> Profile:
    """Load a profile by its name. Raises UsageError when there is none, naming the nearest."""
    names = known()
    if name not in names:
        choices = f"known profiles: {', '.join([*names, AUTO])}"
        nearest = difflib.get_close_matches(name, [*names, AUTO], n=1)
        hint = f"did you mean {nearest[0]!r}? {choices}" if nearest else choices
        raise UsageError(f"no profile named {name!r}", hint)
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return parse(name, text)


def parse(name: str, text: str) -> Profile:
    """A profile from the text of its file. Raises UsageError for what a profile cannot hold."""
    import yaml

    try:
        return Profile.model_validate({"name": name, **yaml.safe_load(text)})
    except (TypeError, yaml.YAMLError) as error:
        raise UsageError(f"profile {name} is not a mapping of YAML", "see gcr/profiles/") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        keys = list(Profile.model_fields)
        nearest = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"its keys: {', '.join(keys)}"
        raise UsageError(f"profile {name}: {key}: {problem['msg']}", hint) from error


def automatic(free_gb: float | None = None) -> Choice:
    """The largest profile that the GPU has room for; the embedded pair where there is no GPU.

    free_gb: free GPU memory in GiB; by default the GPU is asked.
    """
    free = _free_gb() if free_gb is None else free_gb
    if not free:
        return Choice(load(EMBEDDED), "no GPU here, so the embedded pair, which runs on a CPU")
    profiles = sorted((load(name) for name in known()), key=lambda profile: profile.vram_gb)
    best = [profile for profile in profiles if profile.vram_gb <= free][-1]
    if best.name == EMBEDDED:
        smallest = next(profile for profile in profiles if profile.vram_gb)
        return Choice(
            best,
            f"{free:.1f} GiB of the GPU's memory are free and the smallest larger profile, "
            f"{smallest.name}, needs {smallest.vram_gb:g}, so the embedded pair",
        )
    return Choice(best, f"the largest that fits in the {free:.1f} GiB that the GPU has free")


def _free_gb() -> float:
    """Free memory of the GPU in GiB; 0 where there is none."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    free, _ = torch.cuda.mem_get_info()
    return free / 1024**3
