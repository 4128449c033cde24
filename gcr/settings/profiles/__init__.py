"""Profiles: named pairs of generator and critic, with the settings that suit them.

Each is a YAML file: in this folder, in `profiles` of the user's config folder, or wherever its path
says. `auto` is the largest of those in this folder that the machine has room for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gcr.core.phrases import nearest
from gcr.errors import UsageError
from gcr.files import paths, structured
from gcr.files.structured import first_problem
from gcr.settings.schema import DEFAULT_PROFILE, Quantize, Settings

AUTO = "auto"
EMBEDDED = DEFAULT_PROFILE
ENDINGS = (".yaml", ".yml")

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class Profile(BaseModel):
    """A pair of models and how to run them.

    generator, critic: hub ids, folders, or `pocket:generator` and `pocket:critic`.
    generator_licence, critic_licence: of their weights, as their model cards name them.
    gated: whether the hub wants terms accepted before it delivers; None: unknown.
    width, height: pixels; steps, guidance: None leaves each to the pipeline.
    prompt_limit: tokens that the generator reads of a prompt; None: unknown.
    call: further arguments of the generator's pipeline.
    dtype: of the generator's weights on a GPU.
    quantize_generator: `nf4` for 4-bit weights of its large parts; `none` as they are.
    vram_gb: free GPU memory in GiB that the larger of the two needs to work, with its parts taking
        turns if need be; 0: needs no GPU.
    download_gb: of both models in GB, which is also the room on the disk that they take; None:
        unknown.
    ram_gb: memory of the machine in GiB in which both models wait; None: unknown.
    draw_batch, judge_batch: images drawn and judged at once, at most.
    images, rounds, patience: images of each round, rounds at most, and rounds without a gain after
        which a run stops; None: as without a profile.
    judges: sampled judgements of each image; None: as without a profile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Text
    description: Text
    generator: Text
    generator_licence: Text = "unknown"
    critic: Text
    critic_licence: Text = "unknown"
    gated: bool | None = None
    rubric: Text
    width: Count
    height: Count
    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None
    prompt_limit: Count | None = None
    call: dict[str, JsonValue] = Field(default_factory=dict)
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    quantize_generator: Quantize = "none"
    vram_gb: Annotated[float, Field(ge=0)]
    download_gb: Annotated[float, Field(ge=0)] | None = None
    ram_gb: Annotated[float, Field(ge=0)] | None = None
    draw_batch: Count = 1
    judge_batch: Count = 1
    images: Count | None = None
    rounds: Count | None = None
    patience: Count | None = None
    judges: Count | None = None

    def is_for(self, settings: Settings) -> bool:
        """Whether what this says of memory holds for these settings' models."""
        names = ("generator", "critic", "quantize_generator")
        return settings.quantize_critic == "nf4" and all(
            getattr(self, name) == getattr(settings, name) for name in names
        )


class Choice(NamedTuple):
    """What `auto` chose, and why, in words for the user."""

    profile: Profile
    reason: str


def known() -> list[str]:
    """The names of the profiles that come with gcr, in the order of the cards that they are for."""
    files = resources.files(__package__).iterdir()
    names = [file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")]
    return sorted(names, key=lambda name: int("".join(filter(str.isdigit, name)) or 0))


def load_all(
    environ: Mapping[str, str] | None = None,
) -> tuple[list[Profile], list[UsageError]]:
    """All profiles, the least demanding first, and what is wrong with some of the user's own."""
    loaded, errors = [_shipped(name) for name in known()], []
    try:
        files = _files(os.environ if environ is None else environ)
    except UsageError as error:
        files, errors = {}, [error]
    for path in files.values():
        try:
            loaded.append(_read(path))
        except UsageError as error:
            errors.append(error)
    return sorted(loaded, key=lambda profile: (profile.vram_gb, profile.name)), errors


def load(name: str, environ: Mapping[str, str] | None = None) -> Profile:
    """Load a profile by its name, in capitals or not, or by the path of its file.

    Raises UsageError when there is none, naming the nearest.
    """
    if is_file(name):
        return _read(paths.expanded(name))
    files = _files(os.environ if environ is None else environ)
    names = [*known(), *files]
    if name not in names:
        folded = {each.casefold(): each for each in names}
        if name.casefold() not in folded:
            near = nearest(name, [*names, AUTO])
            choices = f"known profiles: {', '.join([*names, AUTO])}"
            hint = f"did you mean {near!r}? {choices}" if near else choices
            raise UsageError(f"no profile named {name!r}", hint)
        name = folded[name.casefold()]
    return _read(files[name]) if name in files else _shipped(name)


def is_file(name: str) -> bool:
    """Whether a profile is given by the path of its file, which anybody may have written."""
    return Path(name).suffix in ENDINGS


def _files(environ: Mapping[str, str]) -> dict[str, Path]:
    """The files of the user's own profiles, by name.

    Raises UsageError for one that has the name of a profile that comes with gcr.
    """
    folder = paths.config_folder(environ) / "profiles"
    inside = folder.iterdir() if folder.is_dir() else ()
    files = {path.stem: path for path in sorted(inside) if path.suffix in ENDINGS}
    for name in {*known(), AUTO} & files.keys():
        raise UsageError(f"{files[name]} has the name of a profile of gcr's own", "rename it")
    return files


def _shipped(name: str) -> Profile:
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return parse(name, text)


def _read(path: Path) -> Profile:
    with structured.readable(f"the profile {path}", "gcr profiles lists those there are"):
        text = structured.text(path)
    return parse(path.stem, text, str(path))


def parse(name: str, text: str, place: str = "") -> Profile:
    """A profile from the text of its file. place: the file, for messages.

    Raises UsageError for what a profile cannot hold.
    """
    where = f"the profile {place or name}"
    with structured.readable(where, "gcr profiles --json shows some that are whole"):
        values = structured.parse_yaml(text)
    try:
        return Profile.model_validate({"name": name, **values})
    except TypeError as error:
        hint = "gcr profiles --json shows some that are"
        raise UsageError(f"{where} is not a mapping of YAML", hint) from error
    except ValidationError as error:
        raise _mistake(where, error) from error


def _mistake(where: str, error: ValidationError) -> UsageError:
    problem = first_problem(error)
    key = problem.key
    keys = [name for name in Profile.model_fields if name != "name"]
    hint = f"its keys: {', '.join(keys)}"
    if problem.kind == "unknown":
        near = nearest(key, keys)
        hint = f"did you mean {near!r}? {hint}" if near else hint
        return UsageError(f"{where} has a key {key!r}, which there is not", hint)
    if problem.kind == "missing":
        return UsageError(f"{where} lacks {key}", hint)
    hint = "gcr profiles --json shows values that are right"
    return UsageError(f"{where}: {problem.of(key)}", hint)


def largest(free_gib: float) -> Choice:
    """The largest profile for so much free GPU memory; the embedded pair where there is none."""
    if not free_gib:
        return Choice(_shipped(EMBEDDED), "no GPU here, so the embedded pair, which runs on a CPU")
    by_size = sorted(map(_shipped, known()), key=lambda profile: profile.vram_gb)
    best = [profile for profile in by_size if profile.vram_gb <= free_gib][-1]
    if best.name == EMBEDDED:
        smallest = next(profile for profile in by_size if profile.vram_gb)
        return Choice(
            best,
            f"{free_gib:.1f} GiB of the GPU's memory are free and the smallest larger profile, "
            f"{smallest.name}, needs {smallest.vram_gb:g}, so the embedded pair",
        )
    return Choice(best, f"the largest that fits in the {free_gib:.1f} GiB that the GPU has free")


def advice(free_gib: float) -> str:
    """A hint at the largest profile for so much free GPU memory; empty if that needs no GPU."""
    profile = largest(free_gib).profile
    return f"--profile {profile.name} needs {profile.vram_gb:g} GiB" if profile.vram_gb else ""
