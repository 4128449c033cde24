"""What a pipeline of diffusers takes, as the signature of its `__call__` says.

New classes of diffusers are read the same way: what depends on names is listed above the code. An
argument that a pipeline does not take is an error before anything is drawn.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from gcr.core.phrases import nearest
from gcr.drawing import editing
from gcr.errors import ModelError, UsageError
from gcr.hub import processors
from gcr.hub.vetting import modular, needs_code
from gcr.settings import samplers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gcr.core.records import ProgressCallback
    from gcr.settings.schema import PromptSyntax, Quantize

Parameters = Mapping[str, inspect.Parameter]

CLIP_TOKENS = 77
ROUNDED_TO = {"GlmImagePipeline": 32, "QwenImage21Pipeline": 32}
"""What width and height are rounded to by pipelines of which no part says so."""

MOST_TOKENS = 1_000_000
"""Beyond this a tokenizer has no limit: transformers then gives it a number of 30 digits."""

NO_REWRITER: Mapping[str, object] = {
    "enable_prompt_rewrite": False,  # LongCat-Image
    "use_pe": False,  # ERNIE-Image
    "complex_human_instruction": None,  # Sana
}
"""Arguments that switch a pipeline's own rewriter of prompts off. It would change what the critic
wrote, after the critic's rewrite was checked and recorded."""

OTHER_TEXTS = frozenset(
    {
        ("ErnieImagePipeline", "pe_tokenizer"),  # of its rewriter
        ("LongCatImagePipeline", "text_processor"),  # of its rewriter
        ("GlmImagePipeline", "tokenizer"),  # reads what the prompt quotes
        ("HunyuanImagePipeline", "tokenizer_2"),  # reads what the prompt quotes
    }
)
"""Tokenizers that do not read the prompt itself, by pipeline and part."""

FLOW = "FlowMatchEulerDiscreteScheduler"
"""The scheduler of most families that are trained by flow matching."""

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
"""Arguments that `gcr.drawing.generator` passes itself, so `Sampling.call` must not name them."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw. None leaves a value to the pipeline.

    Attributes:
        width: in pixels.
        height: in pixels.
        steps: inference steps.
        guidance: guidance scale.
        call: further arguments of the pipeline's `__call__`.
        batch: images drawn in one call, at most.
        dtype: of the weights, as torch spells it; `auto` is bfloat16 on a GPU. A CPU computes in
            float32 in any case: half precision is slower there, where it works at all.
        compile: compile the denoiser's blocks.
        step_cache: skip steps in which little changes.
        rewriter: let the pipeline rewrite prompts, where its family does so by itself.
        quantize: `nf4` for 4-bit weights of the large parts; `none` as they are.
        scheduler: a name of `gcr.settings.samplers`; empty: the checkpoint's own.
        clip_skip: the layer of CLIP that is read, from the last; None: the family's own.
        prompt_syntax: whether prompts name LoRAs and have weights, or are words alone.
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
    rewriter: bool = False
    quantize: Quantize = "none"
    scheduler: str = ""
    clip_skip: int | None = None
    prompt_syntax: PromptSyntax = "a1111"


def parameters_of(pipeline_class: Any) -> Parameters:
    """The parameters of its `__call__`."""
    return inspect.signature(pipeline_class.__call__).parameters


def check_kind(model: str, config: Mapping[str, object], *, edit: bool = False) -> None:
    """Raise ModelError unless the pipeline class that a checkpoint names is of the right kind.

    Arguments:
        model: its name, for messages.
        config: its model_index.json.
        edit: whether it has to edit an image, rather than draw from text alone.
    """
    import diffusers

    name = config.get("_class_name")
    if not isinstance(name, str):
        raise needs_code(model, "it names no pipeline of diffusers")
    if name.endswith("ModularPipeline"):
        raise modular(model, name)
    pipeline_class = getattr(diffusers, name, None)
    if pipeline_class is None:
        raise ModelError(
            f"{model} is a {name}, which diffusers {diffusers.__version__} does not have",
            "install a newer diffusers",
        )
    if getattr(pipeline_class, "_load_connected_pipes", False):
        # The other one would be fetched and loaded unchecked, from wherever its README.md says.
        raise ModelError(
            f"{model} is a {name}, which is made of two checkpoints",
            "take a pipeline that is in one folder",
        )
    parameters = parameters_of(pipeline_class)
    edits = editing.edits(name, parameters)
    if edit and not edits:
        raise ModelError(
            f"{model} is a {name}, which does not edit images",
            "give an editing pipeline with -m, such as FLUX.1-Kontext or Qwen-Image-Edit",
        )
    if edit:
        return
    # A pipeline may take an image, but must not need one.
    needs_image = editing.needs_image(name, parameters) or (
        "image" in parameters and "controlnet" in config
    )
    if "prompt" not in parameters or "num_frames" in parameters or needs_image:
        raise ModelError(
            f"{model} is a {name}, which does not draw an image from text alone",
            "give it an image to edit with --image" if edits else "give a text-to-image pipeline",
        )


def modules(pipeline: Any) -> list[Any]:
    """The parts of a pipeline that have weights."""
    import torch

    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def guidance_name(parameters: Parameters) -> str:
    """The argument that sets the guidance: Qwen-Image's `guidance_scale` does nothing, and
    Qwen-Image-2.1 has none.
    """
    scale = parameters.get("guidance_scale")
    inert = scale is None or scale.default is None
    return "true_cfg_scale" if inert and "true_cfg_scale" in parameters else "guidance_scale"


def is_unguided(pipeline: Any, call: Mapping[str, object]) -> bool:
    """Whether guidance is off in such a call of the pipeline, and negative prompts with it.

    Most pipelines have a property that says so of the scales of a call: for some guidance begins
    above 1, for Z-Image and Krea 2 above 0, and for distilled ones never. The others begin above 1.
    """
    parameters = parameters_of(type(pipeline))
    scales = {
        name: call.get(name, parameter.default)
        for name, parameter in parameters.items()
        if name.endswith(("guidance_scale", "cfg_scale"))
    }
    if "true_cfg_scale" not in scales and hasattr(type(pipeline), "do_classifier_free_guidance"):
        with ExitStack() as stack:
            for name, scale in scales.items():
                stack.enter_context(replaced(pipeline, f"_{name}", scale))
            return not pipeline.do_classifier_free_guidance
    scale = scales.get("true_cfg_scale", scales.get("guidance_scale"))
    return isinstance(scale, int | float) and scale <= 1


def arguments(pipeline: Any, sampling: Sampling, *, edit: bool = False) -> dict[str, object]:
    """The arguments of every call of the pipeline, but for the image to edit.

    A pipeline's rewriter of prompts is switched off, unless the sampling says otherwise.

    Raises UsageError for what the pipeline does not take, and for a size it cannot draw.
    """
    name, parameters = type(pipeline).__name__, parameters_of(type(pipeline))
    _check_size(pipeline, sampling)
    allowed = [argument for argument in parameters if argument not in OURS]
    for argument in sampling.call:
        if argument not in allowed:
            similar = nearest(argument, allowed)
            raise UsageError(
                f"{name} takes no argument {argument!r}",
                f"did you mean {similar!r}?" if similar else f"it takes {', '.join(allowed)}",
            )
    settings: dict[str, object] = {
        "height": sampling.height,
        "width": sampling.width,
        "num_inference_steps": sampling.steps,
        guidance_name(parameters): sampling.guidance,
    }
    if edit and "height" not in parameters:
        settings |= {"height": None, "width": None}  # `gcr.drawing.editing` resizes the source
    call = {argument: value for argument, value in settings.items() if value is not None}
    for argument in call:
        if argument not in parameters:
            raise UsageError(f"{name} takes no {argument}", "leave it to the pipeline")
    if "max_area" in parameters and sampling.width and sampling.height:
        # Of width and height alone Kontext would only take the shape.
        call["max_area"] = sampling.width * sampling.height
    if sampling.steps and getattr(getattr(pipeline, "config", None), "sample_sigmas", None):
        # Of Qwen-Image-2.1, whose checkpoint's own schedule would have its own number of steps.
        call["sigmas"] = [1 - step / sampling.steps for step in range(sampling.steps)]
    off = {name: value for name, value in NO_REWRITER.items() if name in parameters}
    return {**({} if sampling.rewriter else off), **call, **sampling.call}


def reading_limits(pipeline: Any, call: Mapping[str, object]) -> list[tuple[str, Any, int]]:
    """Every tokenizer that reads the prompt: its name in the pipeline, itself, and its token limit.

    The limit is the tokenizer's own or the pipeline's `max_sequence_length`, whichever is less.
    The latter does not reach a CLIP, whose 77 tokens are its architecture, nor a tokenizer inside
    a processor, whose texts the pipelines do not cut.
    """
    from transformers import PreTrainedTokenizerBase

    pipeline_name = type(pipeline).__name__
    parameter = parameters_of(type(pipeline)).get("max_sequence_length")
    default = parameter.default if parameter else getattr(pipeline, "tokenizer_max_length", None)
    most = call.get("max_sequence_length", default)
    limits = []
    for name, part in pipeline.components.items():
        tokenizer = getattr(part, "tokenizer", part)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            continue
        for template in (getattr(part, "chat_template", None), tokenizer.chat_template):
            if template:
                processors.check_template(template, pipeline_name)
        if (pipeline_name, name) in OTHER_TEXTS:
            continue
        limit = tokenizer.model_max_length
        if isinstance(most, int) and limit > CLIP_TOKENS and tokenizer is part:
            limit = min(limit, most)
        if limit <= MOST_TOKENS:
            limits.append((name, tokenizer, limit))
    return limits


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
    """What width and height must be a multiple of: the VAE's factor times the patch size, as far as
    a pipeline's parts say, or what it rounds to.
    """
    vae = int(getattr(pipeline, "vae_scale_factor", 1))
    transformer = getattr(pipeline, "transformer", None)
    patch = getattr(getattr(transformer, "config", None), "patch_size", 1)
    processor = getattr(pipeline, "image_processor", None)
    # Pipelines that pack latents themselves give the whole factor to their image processor.
    packed = getattr(getattr(processor, "config", None), "vae_scale_factor", 1)
    rounded = ROUNDED_TO.get(type(pipeline).__name__, 1)
    return math.lcm(vae * (patch if isinstance(patch, int) else 1), int(packed), rounded)


def sampler_name(pipeline: Any) -> str:
    """A1111's name of a pipeline's sampler, as in `DPM++ 2M Karras`; empty where it has none."""
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None:
        return ""
    named = samplers.described(type(scheduler).__name__, getattr(scheduler, "config", {}))
    return " ".join(filter(None, named))


def schedulers(kind: str, config: Mapping[str, object]) -> list[str]:
    """Names of --scheduler for a pipeline with such a scheduler: those whose images it can draw.

    kind: its class. config: its settings.
    """
    import diffusers

    if kind == FLOW:
        return ["euler", *(f"euler {schedule}" for schedule in samplers.SCHEDULES)]
    is_flow = config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas")
    exchangeable = bool(getattr(getattr(diffusers, kind, None), "_compatibles", ()))
    names = []
    for sampler in samplers.SAMPLERS if exchangeable else ():
        takes = inspect.signature(getattr(diffusers, sampler.scheduler).__init__).parameters
        if is_flow and "use_flow_sigmas" not in takes:
            continue
        names.append(sampler.name)
        if not is_flow:
            words = samplers.SCHEDULES.items()
            names += [f"{sampler.name} {word}" for word, each in words if each.key in takes]
    return names


def check_scheduler(name: str, model: str, kind: str, config: Mapping[str, object]) -> None:
    """Raise UsageError for a sampler that a pipeline cannot draw with.

    model: its name, for messages. kind, config: as `schedulers` takes them.
    """
    fitting = schedulers(kind, config)
    if name not in fitting:
        listed = f"those that do: {', '.join(fitting)}"
        raise UsageError(
            f"the scheduler {name} does not fit {model}, whose own is a {kind}",
            listed if fitting else "leave --scheduler out: this model draws with its own alone",
        )


def set_scheduler(pipeline: Any, name: str) -> None:
    """Give a pipeline the sampler of this name, for what its own was trained for."""
    import diffusers

    choice, before = samplers.parse(name), pipeline.scheduler
    kind = type(before).__name__
    check_scheduler(name, type(pipeline).__name__, kind, before.config)
    scheduler_class = getattr(diffusers, FLOW if kind == FLOW else choice.sampler.scheduler)
    takes = inspect.signature(scheduler_class.__init__).parameters
    schedules = {word: each for word, each in samplers.SCHEDULES.items() if each.key in takes}
    settings: dict[str, object] = {
        each.key: False for each in schedules.values() if each.value is True
    }
    if chosen := schedules.get(choice.schedule):  # where noise flows, SGM's is the usual one
        settings[chosen.key] = chosen.value
    pipeline.scheduler = scheduler_class.from_config(
        before.config, **choice.sampler.config, **settings
    )


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Replace an attribute of an object inside this block."""
    attributes = vars(owner)
    missing = object()
    before = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if before is missing:
            del attributes[name]
        else:
            attributes[name] = before


class Steps:
    """Makes a pipeline's progress bars, and reports the progress of all images.

    Attributes:
        now: how many images are drawn, being drawn, and to draw in all.
    """

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self.now = (0, 1, 1)

    def bar(self, iterable: Sequence[object] = (), total: int | None = None) -> StepBar:
        """A pipeline's `progress_bar`."""
        steps = len(iterable) if total is None else total
        drawn, drawing, to_draw = self.now

        def report(done: int) -> None:
            if self._progress is not None:
                self._progress("draw", drawn * steps + drawing * done, to_draw * steps)

        return StepBar(report, iterable)


class StepBar:
    """Takes the place of a pipeline's progress bar, and reports each step."""

    def __init__(self, report: Callable[[int], None], iterable: Sequence[object]) -> None:
        self._report = report
        self._iterable = iterable
        self._done = 0

    def __enter__(self) -> Self:
        self._report(0)
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __iter__(self) -> Iterator[object]:
        for step in self._iterable:
            yield step
            self.update()

    def update(self, steps: int = 1) -> None:
        self._done += steps
        self._report(self._done)
