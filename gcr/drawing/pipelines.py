"""What a pipeline of diffusers takes, as its `__call__` signature says.

Nothing here is about one pipeline by name: a class that diffusers gets tomorrow is read the same
way. What a pipeline does not take is an error before anything is drawn.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from gcr.core.phrases import nearest
from gcr.drawing import editing
from gcr.errors import ModelError, UsageError
from gcr.hub import templates
from gcr.hub.vetting import needs_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gcr.core.records import Progress

Takes = Mapping[str, inspect.Parameter]

CLIP_TOKENS = 77
OURS = frozenset(
    {
        "self",
        "kwargs",
        "prompt",
        "negative_prompt",
        "height",
        "width",
        "num_inference_steps",
        "generator",
        "num_images_per_prompt",
        "output_type",
        "return_dict",
        "image",
    }
)
"""What is passed to a pipeline by `gcr.drawing.generator`, so `Sampling.call` must not name it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw.

    width, height: pixels; steps, guidance: None leaves each to the pipeline.
    call: further arguments of the pipeline's `__call__`.
    batch: images drawn in one call, at most.
    dtype: of the weights, as torch spells it; `auto` is bfloat16 on a GPU. A CPU computes in
        float32 whatever is asked for: half precision is slower there, where it works at all.
    compile: the denoiser's blocks. step_cache: reuse what little changes between steps.
    """

    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    call: Mapping[str, object] = field(default_factory=dict)
    batch: int = 4
    dtype: str = "auto"
    compile: bool = False
    step_cache: bool = False


def takes(pipeline_class: Any) -> Takes:
    return inspect.signature(pipeline_class.__call__).parameters


def check_kind(model: str, config: Mapping[str, object], *, edit: bool = False) -> None:
    """Raise ModelError unless the pipeline class that a checkpoint names draws from text alone,
    or, to edit, from an image and text.
    """
    import diffusers

    name = config.get("_class_name")
    if not isinstance(name, str):
        raise needs_code(model, "it names no pipeline of diffusers")
    pipeline_class = getattr(diffusers, name, None)
    if pipeline_class is None:
        raise ModelError(
            f"{model} is a {name}, which diffusers {diffusers.__version__} does not have",
            "install a newer diffusers",
        )
    if getattr(pipeline_class, "_load_connected_pipes", False):
        # Which would be fetched and loaded unseen, from wherever its README.md says.
        raise ModelError(
            f"{model} is a {name}, which is made of two checkpoints",
            "take a pipeline that is in one folder",
        )
    taken = takes(pipeline_class)
    edits = editing.edits(name, taken)
    if edit and not edits:
        raise ModelError(
            f"{model} is a {name}, which does not edit images",
            "give an editing pipeline with -m, such as FLUX.1-Kontext or Qwen-Image-Edit",
        )
    if edit:
        return
    # A pipeline that can also take an image is welcome; one that has to is not.
    needs_image = editing.needs_image(name, taken) or ("image" in taken and "controlnet" in config)
    if "prompt" not in taken or "num_frames" in taken or needs_image:
        raise ModelError(
            f"{model} is a {name}, which does not draw an image from text alone",
            "give it an image to edit with --image" if edits else "give a text-to-image pipeline",
        )


def modules(pipeline: Any) -> list[Any]:
    """The parts of a pipeline that have weights."""
    import torch

    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def guidance_name(taken: Takes) -> str:
    """The argument that sets the guidance: Qwen-Image's `guidance_scale` does nothing."""
    inert = "guidance_scale" in taken and taken["guidance_scale"].default is None
    return "true_cfg_scale" if inert and "true_cfg_scale" in taken else "guidance_scale"


def is_unguided(taken: Takes, given: Mapping[str, object]) -> bool:
    """Whether a scale of at most 1 switches the guidance off, so that negative prompts are mute."""
    name = "true_cfg_scale" if "true_cfg_scale" in taken else "guidance_scale"
    scale = given.get(name, taken[name].default)
    return isinstance(scale, int | float) and scale <= 1


def arguments(pipeline: Any, sampling: Sampling, *, edit: bool = False) -> dict[str, object]:
    """What every call of the pipeline is given; what is edited is not among it.

    Raises UsageError for what the pipeline does not take, and for a size it cannot draw.
    """
    name, taken = type(pipeline).__name__, takes(type(pipeline))
    _check_size(pipeline, sampling)
    known = [argument for argument in taken if argument not in OURS]
    for argument in sampling.call:
        if argument not in known:
            near = nearest(argument, known)
            raise UsageError(
                f"{name} takes no argument {argument!r}",
                f"did you mean {near!r}?" if near else f"it takes {', '.join(known)}",
            )
    wanted = {
        "height": sampling.height,
        "width": sampling.width,
        "num_inference_steps": sampling.steps,
        guidance_name(taken): sampling.guidance,
    }
    if edit and "height" not in taken:
        wanted |= {"height": None, "width": None}  # `gcr.drawing.editing` sizes the source instead
    given = {argument: value for argument, value in wanted.items() if value is not None}
    for argument in given:
        if argument not in taken:
            raise UsageError(f"{name} takes no {argument}", "leave it to the pipeline")
    if "max_area" in taken and sampling.width and sampling.height:
        # Of a size, Kontext would only take the shape.
        given["max_area"] = sampling.width * sampling.height
    return {**given, **sampling.call}


def reading_limits(pipeline: Any, call: Mapping[str, object]) -> list[tuple[str, Any, int]]:
    """Every tokenizer that reads the prompt: its name in the pipeline, itself, and its limit.

    The limit is the tokenizer's own or the pipeline's `max_sequence_length`, whichever is less;
    the latter does not reach a CLIP, whose 77 tokens are its architecture.
    """
    from transformers import PreTrainedTokenizerBase

    parameter = takes(type(pipeline)).get("max_sequence_length")
    most = call.get("max_sequence_length", parameter.default if parameter else None)
    found = []
    for name, part in pipeline.components.items():
        if isinstance(part, PreTrainedTokenizerBase):
            if template := getattr(part, "chat_template", None):
                templates.check(template, type(pipeline).__name__)
            limit = part.model_max_length
            if isinstance(most, int) and limit > CLIP_TOKENS:
                limit = min(limit, most)
            found.append((name, part, limit))
    return found


def _check_size(pipeline: Any, sampling: Sampling) -> None:
    factor = size_factor(pipeline)
    for side in ("width", "height"):
        pixels = getattr(sampling, side)
        if pixels is not None and (pixels % factor or pixels <= 0):
            lower = max(pixels // factor, 1) * factor
            raise UsageError(
                f"{side} {pixels} is not a multiple of {factor}, which this pipeline needs",
                f"the nearest are {lower} and {lower + factor}",
            )


def size_factor(pipeline: Any) -> int:
    """What width and height must be a multiple of: the VAE's factor times the patch size."""
    vae = int(getattr(pipeline, "vae_scale_factor", 1))
    transformer = getattr(pipeline, "transformer", None)
    patch = getattr(getattr(transformer, "config", None), "patch_size", 1)
    processor = getattr(pipeline, "image_processor", None)
    # Pipelines that pack latents themselves tell the whole factor to their image processor.
    packed = getattr(getattr(processor, "config", None), "vae_scale_factor", 1)
    return math.lcm(vae * (patch if isinstance(patch, int) else 1), int(packed))


@contextmanager
def standing_in(owner: Any, name: str, value: object) -> Iterator[None]:
    """Give an object another attribute of this name, for as long as this lasts."""
    own = vars(owner)
    missing = object()
    before = own.get(name, missing)
    own[name] = value
    try:
        yield
    finally:
        if before is missing:
            del own[name]
        else:
            own[name] = before


class Steps:
    """Gives a pipeline progress bars, and tells how far it is with all images.

    now: images that are drawn, being drawn, and to draw in all.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.now = (0, 1, 1)

    def bar(self, iterable: Sequence[object] = (), total: int | None = None) -> StepBar:
        steps = len(iterable) if total is None else total
        drawn, drawing, to_draw = self.now

        def tell(done: int) -> None:
            if self._progress is not None:
                self._progress("draw", drawn * steps + drawing * done, to_draw * steps)

        return StepBar(tell, iterable)


class StepBar:
    """Stands where a pipeline expects its progress bar, and passes each step on."""

    def __init__(self, tell: Callable[[int], None], iterable: Sequence[object]) -> None:
        self._tell = tell
        self._iterable = iterable
        self._done = 0

    def __enter__(self) -> Self:
        self._tell(0)
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __iter__(self) -> Iterator[object]:
        for step in self._iterable:
            yield step
            self.update()

    def update(self, steps: int = 1) -> None:
        self._done += steps
        self._tell(self._done)
