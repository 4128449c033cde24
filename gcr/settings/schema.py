"""What can be set, and what folders keep of it. Each setting is declared here once: its type, its
bounds, default and option.

The command line, the settings' names in files and in the environment, and what is validated follow
from `Settings`; a test holds the keyword options of Python to it. Nothing large is imported, as
`--help` reads this; `gcr.settings.resolving` has the values validated by pydantic.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt, MinLen

from gcr.core.stopping import MOST_ROUNDS
from gcr.core.strategies import STRATEGIES
from gcr.device.memory import Residency
from gcr.files import paths

MODELS = "Models"
IMAGE = "Image (the profile's values, where none are given)"
LOOP = "Loop"
JUDGING = "Judging"
MEMORY = "Speed and memory"
OUTPUT = "Output"

DEFAULT_PROFILE = "pocket"
ENDLESS = 1_000_000_000
"""More than any run comes to, and few enough digits for every reader of its record."""

Score = Literal["reply", "soft", "checklist"]
Critiques = Literal["all", "best"]
Select = Literal["score", "pairwise"]
Verify = Literal["none", "ocr"]
Quantize = Literal["none", "nf4"]
PromptSyntax = Literal["a1111", "plain"]
Format = Literal["png", "jpg", "webp"]
NameOrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting is given on the command line.

    panel: the heading that `--help` lists it under.
    metavar: what stands for its value; empty for a switch, which takes none.
    help: what it does, and its default.
    flags: as they are typed; by default `--` and the setting's name.
    choices: what a shell is to offer, where the type does not say.
    """

    panel: str
    metavar: str
    help: str
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides what a run draws, and where it goes.

    Constructing one checks nothing: `gcr.settings.resolving` validates what others give. What is
    not said by the help of its option:

    width, height, steps, guidance: None leaves the choice to the pipeline.
    strength: of the strategies that go on from an image; None leaves the choice to each.
    max_images, max_seconds: budgets; None: no limit. With one, rounds is lifted, unless given too.
    residency, overlap: change no image; an overlap of None is for the critic's kind to decide.
    graphs: changes replies in their last bits, if at all.
    compile, step_cache: change images a little.
    spread: standard deviation of a score, as `gcr calibrate` measured it; None: unknown.
    call, dtype, draw_batch, judge_batch: as in a profile, which alone can set them.
    rewriter: whether a pipeline's own rewriter of prompts is on, as in folders of older versions;
        nobody sets it, and `call` can switch on that of a family.
    chosen: why `auto` took this profile; empty where a person chose.
    distilled: why the generator counts as distilled to few steps; empty: nothing says so, or its
        profile says what follows.
    trusted: whether the critic's server may have the user's key: see `gcr.settings.keys`.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
    }

    profile: Annotated[
        str,
        Option(
            MODELS,
            "NAME|FILE",
            "Two models and settings that suit them, as gcr profiles lists them; auto: what this "
            "machine can run (default: pocket).",
        ),
    ] = DEFAULT_PROFILE
    generator: Annotated[
        str,
        MinLen(1),
        Option(
            MODELS,
            "ID|FOLDER|FILE",
            "A diffusers pipeline, by hub id or folder; or a checkpoint in one file, such as "
            "model.safetensors (default: the profile's).",
            ("-m", "--generator"),
        ),
    ]
    config: Annotated[
        str,
        Option(
            MODELS,
            "ID|FOLDER",
            "For a checkpoint in one file: the pipeline whose configuration, tokenizers and "
            "missing parts it is loaded with (default: its family's, told from the weights).",
        ),
    ] = ""
    vae: Annotated[
        str,
        Option(
            MODELS,
            "ID|FOLDER|FILE",
            "Another VAE of the same kind (default: the generator's own).",
        ),
    ] = ""
    lora: Annotated[
        tuple[Annotated[str, MinLen(1)], ...],
        Option(
            MODELS,
            "ID|FILE[:SCALE]",
            "A LoRA for every image, such as fur.safetensors:0.8, or fur:0.8 in --lora-dir; can be "
            "given again.",
        ),
    ] = ()
    lora_dir: Annotated[
        str,
        Option(
            MODELS, "FOLDER", "The folder of LoRAs that are given by name, as <lora:fur:0.8> is."
        ),
    ] = ""
    critic: Annotated[
        str,
        MinLen(1),
        Option(
            MODELS,
            "ID|FOLDER|URL",
            "An image-text-to-text model of transformers, by hub id or folder; or of an "
            "OpenAI-compatible server, as http://host:8000/v1#model (default: the profile's).",
        ),
    ]
    rubric: Annotated[
        str,
        MinLen(1),
        Option(
            MODELS,
            "NAME|FILE",
            "What the critic is asked and how its reply is read: a rubric of gcr's, or a YAML file "
            "(default: the profile's; for a critic named by hand text-to-image; with --image "
            "editing; for RationalRewards its own).",
        ),
    ] = "text-to-image"
    seed: Annotated[
        int,
        Ge(0),
        Lt(1 << 32),
        Option(
            IMAGE,
            "N",
            "Equal seeds and settings draw equal images; give another for others (default: 0).",
            ("-s", "--seed"),
        ),
    ] = 0
    width: Annotated[
        int | None,
        Ge(8),
        Le(8192),
        Option(IMAGE, "PIXELS", "Width of each image.", ("-W", "--width")),
    ] = None
    height: Annotated[
        int | None,
        Ge(8),
        Le(8192),
        Option(IMAGE, "PIXELS", "Height of each image.", ("-H", "--height")),
    ] = None
    steps: Annotated[
        int | None,
        Ge(1),
        Le(1000),
        Option(IMAGE, "N", "Inference steps: the more, the longer it takes."),
    ] = None
    guidance: Annotated[
        float | None,
        Ge(0),
        Le(100),
        Option(IMAGE, "X", "Guidance scale: the higher, the closer to the prompt."),
    ] = None
    negative: Annotated[
        str, Option(IMAGE, "TEXT", "What must not be in the image.", ("-n", "--negative"))
    ] = ""
    scheduler: Annotated[
        str,
        Option(
            IMAGE,
            "NAME",
            "The sampler: euler, euler a, heun, dpm++ 2m, dpm++ 2m sde, ddim, unipc and others, "
            "some with karras, exponential, beta or sgm uniform after them (default: the "
            "generator's own).",
        ),
    ] = ""
    clip_skip: Annotated[
        int | None,
        Ge(1),
        Le(12),
        Option(
            IMAGE,
            "N",
            "Which of CLIP's layers is read, counted from the last, as A1111 counts (default: 1; "
            "for SDXL 2).",
        ),
    ] = None
    prompt_syntax: Annotated[
        PromptSyntax,
        Option(
            IMAGE,
            "NAME",
            "a1111: <lora:fur:0.8> loads a LoRA, and where CLIP alone reads prompts, (word:1.3) is "
            "a weight and more than 77 tokens are read; plain: all is words (default: a1111).",
        ),
    ] = "a1111"
    keep: Annotated[
        tuple[Annotated[str, MinLen(1)], ...],
        Option(
            LOOP,
            "TEXT",
            "Words of the prompt that every rewrite must hold as they are; can be given again. "
            "Quoted text and <lora:…> tags are always kept.",
        ),
    ] = ()
    strategy: Annotated[
        str,
        MinLen(1),
        Option(
            LOOP,
            "NAME",
            "What each round draws. refine: rewrites on fresh seeds; best-of-n: the prompt on "
            "fresh seeds; rewrite: rewrites on one seed; reflect: the best image, noised; evolve: "
            "its noise, varied; or one of another package (default: refine).",
            choices=tuple(STRATEGIES),
        ),
    ] = "refine"
    strength: Annotated[
        float | None,
        Gt(0),
        Le(1),
        Option(
            LOOP,
            "X",
            "For the strategies reflect and evolve: how much of the best image, or of its noise, "
            "gives way to new noise, between 0 and 1 (default: 0.8).",
        ),
    ] = None
    rounds: Annotated[
        int,
        Ge(1),
        Le(MOST_ROUNDS),
        Option(
            LOOP,
            "N",
            "Rounds at most; round 0 draws the prompt as it is (default: the profile's, else 4; "
            "with a budget alone 100).",
        ),
    ] = 4
    images: Annotated[
        int,
        Ge(1),
        Le(64),
        Option(
            LOOP,
            "N",
            "Images in each round (default: the profile's, else 2; 1 with a budget of 2 or 3).",
        ),
    ] = 2
    target: Annotated[
        float,
        Gt(0),
        Le(1),
        Option(
            LOOP,
            "X",
            "Stop at this score, between 0 and 1 (default: 1.0; 0.95 for soft, checklist, --aspect "
            "and several --judges; 0.9 for RationalRewards).",
        ),
    ] = 1.0
    patience: Annotated[
        int,
        Ge(1),
        Le(ENDLESS),
        Option(
            LOOP,
            "N",
            "Stop after this many rounds without a gain (default: the profile's, else 2).",
        ),
    ] = 2
    min_gain: Annotated[
        float,
        Ge(0),
        Le(1),
        Option(LOOP, "X", "A smaller rise of the best score is no gain (default: 0.02)."),
    ] = 0.02
    max_images: Annotated[
        int | None,
        Ge(1),
        Le(ENDLESS),
        Option(LOOP, "N", "Budget: stop when so many images are drawn."),
    ] = None
    max_seconds: Annotated[
        float | None,
        Gt(0),
        Option(LOOP, "X", "Budget: begin no round whose drawing and judging would not fit."),
    ] = None
    history: Annotated[
        bool,
        Option(
            LOOP,
            "",
            "After each round tell the critic all that was tried, and ask for one more prompt and "
            "a negative one (default: history; the embedded critic cannot be asked).",
            ("--history/--no-history",),
        ),
    ] = True
    score: Annotated[
        Score,
        Option(
            JUDGING,
            "NAME",
            "Where scores come from. reply: the numbers the critic writes; soft: the mean of all "
            "that it could have written, by their probability; checklist: its answers to yes/no "
            "questions (default: reply).",
        ),
    ] = "reply"
    judges: Annotated[
        int,
        Ge(1),
        Le(64),
        Option(
            JUDGING,
            "N",
            "Score each image by the mean of so many sampled judgements; only a gain beyond their "
            "spread then counts (default: 1).",
        ),
    ] = 1
    spread: Annotated[float | None, Ge(0), Le(1)] = None
    aspect: Annotated[
        tuple[Annotated[str, MinLen(1)], ...],
        Option(
            JUDGING,
            "TEXT",
            "An aspect of your own and its weight, such as 'mood: calm, muted:0.5': a bonus, where "
            "the whole rubric weighs 1 (default weight: 0.5); can be given again.",
        ),
    ] = ()
    verify: Annotated[
        Verify,
        Option(
            JUDGING,
            "NAME",
            "What a program checks in each image instead of the critic. ocr: whether the texts "
            "that the prompt puts in quotes can be read; none: nothing (default: none).",
        ),
    ] = "none"
    critique: Annotated[
        Critiques,
        Option(
            JUDGING,
            "NAME",
            "Which images the critic writes about. all: each; best: the highest-scored of each "
            "round, which implies --score checklist (default: all).",
        ),
    ] = "all"
    compare: Annotated[
        bool,
        Option(
            JUDGING,
            "",
            "At the end show the critic the best image beside the first, in both orders and "
            "without scores (default: compare).",
            ("--compare/--no-compare",),
        ),
    ] = True
    select: Annotated[
        Select,
        Option(
            JUDGING,
            "NAME",
            "How the best image is chosen. score: by the highest score; pairwise: by comparing the "
            "eight highest two by two at the end (default: score).",
        ),
    ] = "score"
    residency: Annotated[
        Residency,
        Option(
            MEMORY,
            "NAME",
            "What stays on a GPU. both: both models; swap: the one at work; offload: of the "
            "generator only the part at work; auto: the first of these that fits (default: auto).",
        ),
    ] = "auto"
    overlap: Annotated[
        bool | None,
        Option(
            MEMORY,
            "",
            "Draw for some prompts while images of others are judged, where the critic is on a "
            "server or the GPU has room for both models at work (default: as gcr bench found, or "
            "else where the critic is on a server).",
            ("--overlap/--no-overlap",),
        ),
    ] = None
    graphs: Annotated[
        bool,
        Option(
            MEMORY,
            "",
            "Write the critic's replies through captured CUDA graphs, where its family allows "
            "that: faster, but not yet tried on a GPU (default: no-graphs).",
            ("--graphs/--no-graphs",),
        ),
    ] = False
    compile: Annotated[
        bool,
        Option(
            MEMORY,
            "",
            "Compile the generator's blocks: the first image takes longer, the others less "
            "(default: no-compile).",
            ("--compile/--no-compile",),
        ),
    ] = False
    step_cache: Annotated[
        bool,
        Option(
            MEMORY,
            "",
            "Skip most of the generator in steps where little changes, which costs a little "
            "likeness; one image at a time (default: no-step-cache).",
            ("--step-cache/--no-step-cache",),
        ),
    ] = False
    quantize_generator: Annotated[
        Quantize,
        Option(
            MEMORY,
            "NAME",
            "Precision of the generator's large parts. none: 16 bits on a GPU; nf4: 4 bits, a "
            "third of the memory, other images; needs a GPU (default: none, or the profile's).",
        ),
    ] = "none"
    quantize_critic: Annotated[
        Quantize,
        Option(
            MEMORY,
            "NAME",
            "Precision of a critic on this machine. nf4: 4 bits; none: 16 bits on a GPU, about 3 "
            "times the memory (default: nf4).",
        ),
    ] = "nf4"
    output: Annotated[
        Path,
        Option(
            OUTPUT,
            "FOLDER",
            "Where folders of runs are made (default: outputs).",
            ("-o", "--output"),
        ),
    ] = Path("outputs")
    format: Annotated[
        Format,
        Option(OUTPUT, "NAME", "What images are saved as: png, jpg or webp (default: png)."),
    ] = "png"
    metadata: Annotated[
        bool,
        Option(
            OUTPUT,
            "",
            "Write into each image how it was made, for gcr info, A1111, InvokeAI and others "
            "(default: metadata).",
            ("--metadata/--no-metadata",),
        ),
    ] = True
    call: dict[str, object] = field(default_factory=dict)
    dtype: str = "auto"
    draw_batch: int = 1
    judge_batch: int = 2
    rewriter: bool = False
    chosen: str = ""
    distilled: str = ""
    trusted: bool = False

    @property
    def generator_measured(self) -> str:
        """The generator as measurements name it: in 4 bits it needs other memory and time."""
        kind = "" if self.quantize_generator == "none" else f" in {self.quantize_generator}"
        return f"{self.generator}{kind}"

    @property
    def critic_measured(self) -> str:
        """The critic as measurements name it, for the same reason."""
        return f"{self.critic}{'' if self.quantize_critic == 'nf4' else ' unquantized'}"

    @property
    def critic_timed(self) -> str:
        """As `critic_measured`, where it is for time: captured graphs change that, and no score."""
        return f"{self.critic_measured} through graphs" if self.graphs else self.critic_measured

    def as_json(self) -> dict[str, object]:
        """The settings as JSON values, without why they are so: `chosen`, `distilled` and
        `trusted`.
        """
        values: dict[str, object] = {}
        for name in FIELDS:
            value = getattr(self, name)
            if isinstance(value, tuple):
                value = list(value)
            values[name] = str(value) if isinstance(value, Path) else value
        del values["chosen"], values["distilled"], values["trusted"]
        return values

    def decisive(self) -> dict[str, object]:
        """The settings that change images and results, as JSON values.

        Those of `LATER` are only there if they are not as by default: a run without goes on from
        one that began before there was such a thing.
        """
        left_out = {"output", *OF_THE_MACHINE}
        left_out |= {name for name in LATER if getattr(self, name) == DEFAULTS[name]}
        return {name: value for name, value in self.as_json().items() if name not in left_out}


FIELDS = tuple(setting.name for setting in fields(Settings))
DEFAULTS = {setting.name: setting.default for setting in fields(Settings)}
LATER = (
    *("graphs", "compile", "step_cache", "select", "quantize_generator", "quantize_critic"),
    *("verify", "critique", "config", "vae", "lora", "lora_dir", "scheduler", "clip_skip"),
    *("format", "metadata", "aspect"),
)
"""Settings that folders of older versions do not hold."""
OF_THE_MACHINE = ("residency", "overlap")
"""Settings that no folder records: they are for the machine at hand to say."""
TYPES: Mapping[str, type] = get_type_hints(Settings, include_extras=True)
OPTIONS: Mapping[str, Option] = {
    name: metadata
    for name in FIELDS
    for metadata in getattr(TYPES[name], "__metadata__", ())
    if isinstance(metadata, Option)
}
"""The options of the settings that have one: those that users can set, everywhere."""
LISTS = tuple(name for name in OPTIONS if get_origin(get_args(TYPES[name])[0]) is tuple)
"""Settings of several values. A text alone stands for one; in the environment a JSON list may."""


LABELS = {
    "negative": "negative prompt",
    "clip_skip": "CLIP skip",
    "vae": "VAE",
    "lora": "LoRA",
    "lora_dir": "LoRA folder",
}


def label(name: str) -> str:
    """A setting as people call it."""
    return LABELS.get(name, name.replace("_", " "))


def spelt(options: Mapping[str, object]) -> list[str]:
    """Options as words of a command line. options: by the names of their settings."""
    words: list[str] = []
    for name, value in options.items():
        flag = (OPTIONS[name].flags or (f"--{name.replace('_', '-')}",))[-1]
        if isinstance(value, bool):
            words.append(flag.split("/")[not value])
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            text = str(each)
            # What begins with a dash would be read as another option.
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return words


def declared(name: str) -> Any:
    """The type of a setting, without None."""
    whole = get_args(TYPES[name])[0]
    kinds = [kind for kind in get_args(whole) if kind is not NoneType]
    return whole if len(kinds) == len(get_args(whole)) else kinds[0]


# Settings as folders of runs, batches and comparisons keep them

MEASURED = ("spread", "draw_batch", "judge_batch")
"""Settings that gcr bench and gcr calibrate measure, and nobody gives by hand."""
PATHS = ("generator", "critic", "config", "vae", "lora_dir")
"""Settings that may be paths of files or folders on this machine; and so may be those of lora."""
UNRECORDED = {"history": False, "rewriter": True, "prompt_syntax": "plain"}
"""How older versions ran without recording it: settings for folders that lack them."""


def recorded(settings: Settings, rubric_sha256: str) -> dict[str, object]:
    """What a folder keeps of settings, as JSON values. rubric_sha256: of the rubric they name."""
    return {**lasting(settings.decisive()), "rubric_sha256": rubric_sha256}


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


# The keyword options of Python


class CriticOptions(TypedDict, total=False):
    """Keyword options of what only judges. None: not given."""

    profile: NameOrPath | None
    critic: NameOrPath | None
    rubric: NameOrPath | None
    score: Score | None
    judges: int | None
    verify: Verify | None
    quantize_critic: Quantize | None
    aspect: Sequence[str] | None
    trust_endpoint: bool


class CritiqueOptions(CriticOptions, total=False):
    """Keyword options of judging pictures against one prompt."""

    negative: str | None


class ComparisonOptions(CriticOptions, total=False):
    """Keyword options of comparisons, which have several strategies."""

    generator: NameOrPath | None
    seed: int | None
    width: int | None
    height: int | None
    steps: int | None
    guidance: float | None
    negative: str | None
    keep: Sequence[str] | None
    strength: float | None
    rounds: int | None
    images: int | None
    target: float | None
    patience: int | None
    min_gain: float | None
    max_images: int | None
    max_seconds: float | None
    history: bool | None
    critique: Critiques | None
    select: Select | None
    residency: Residency | None
    overlap: bool | None
    graphs: bool | None
    compile: bool | None
    step_cache: bool | None
    quantize_generator: Quantize | None
    config: NameOrPath | None
    vae: NameOrPath | None
    lora: Sequence[NameOrPath] | None
    lora_dir: NameOrPath | None
    scheduler: str | None
    clip_skip: int | None
    prompt_syntax: PromptSyntax | None
    metadata: bool | None
    output: NameOrPath | None


class RunOptions(ComparisonOptions, total=False):
    """Keyword options of runs and batches: every setting, and `trust_endpoint`."""

    strategy: str | None
    compare: bool | None
    format: Format | None


class ResumeOptions(TypedDict, total=False):
    """Keyword options of what goes on with a folder: what it does not record."""

    residency: Residency | None
    overlap: bool | None
    trust_endpoint: bool
