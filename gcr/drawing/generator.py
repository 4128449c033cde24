"""Draws candidates with any text-to-image or editing pipeline of diffusers.

Every image is drawn from its own seed, in batches; an image that is blank or not finite is marked
so. What differs between pipelines is in `pipelines`; what concerns only edits, mutated noise and
drawing from an image is in `editing`, `noise` and `image_to_image`.
"""

from __future__ import annotations

import copy
import itertools
import logging
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.device.loading import loading
from gcr.device.out_of_memory import Ladder
from gcr.device.threads import Stopwatch, at_most
from gcr.device.weights import Weights, part_from_layers
from gcr.drawing import acceleration, editing, image_to_image, noise, pipelines
from gcr.drawing.adapters import Adapters, check_fits, check_takes
from gcr.drawing.pipelines import Sampling
from gcr.drawing.pixels import drawing
from gcr.drawing.reading import Reader
from gcr.errors import ModelError, UsageError
from gcr.hub import checkpoints, processors, vetting, weightfiles
from gcr.hub.vetting import PIPELINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from gcr.core.records import Candidate, Drawing, ProgressCallback
    from gcr.device.memory import SharedDevice
    from gcr.drawing.adapters import Active
    from gcr.hub.weightfiles import LoraFile, SingleFile
    from gcr.settings.schema import Quantize

__all__ = ["DiffusersGenerator", "Sampling", "load"]

logger = logging.getLogger(__name__)

NOT_QUANTIZED = ("Autoencoder", "VQ", "CLIP", "StableDiffusionSafetyChecker")
"""How the names of classes begin whose weights keep their precision."""


class Files(NamedTuple):
    """What a generator is made of besides its own folder.

    Attributes:
        checkpoint: the one file that its weights are in, if they are.
        vae: folder, hub id or file of another VAE; empty for its own.
        always: LoRAs for every image.
        named: LoRAs for images whose prompts name them.
    """

    checkpoint: SingleFile | None = None
    vae: str = ""
    always: tuple[LoraFile, ...] = ()
    named: tuple[LoraFile, ...] = ()


class Inputs(NamedTuple):
    """What an image is drawn from.

    Attributes:
        candidate: prompt, seed and the like.
        start: the image to start from, if any.
        source: the image to edit, if any.
    """

    candidate: Candidate
    start: Image | None
    source: Image | None


def load(  # noqa: PLR0913 - each for itself
    model: str,
    sampling: Sampling,
    device: SharedDevice,
    progress: ProgressCallback | None = None,
    *,
    edit: bool = False,
    files: Files | None = None,
) -> DiffusersGenerator:
    """Load a pipeline from a hub id, folder or file, or `pocket:generator`; check the settings.

    Only safetensors are read, and no code of the checkpoint is run. Weights in 4 bits are made
    anew at each load: that takes as long as reading them.

    Arguments:
        model: as `gcr.hub.checkpoints.locate` takes it; or a file, as `files` has it.
        sampling: how to draw.
        device: where to draw.
        progress: called at each inference step.
        edit: whether to edit images, rather than to draw from text alone.
        files: what belongs to it besides.

    Raises ModelError for a checkpoint that cannot be loaded or is of the other kind, UsageError for
    settings that the pipeline does not take.
    """
    files = files or Files()
    place, threads = check(model, edit=edit, sampling=sampling, files=files), None
    if files.checkpoint is None:
        threads = checkpoints.threads(model)
    import torch
    from diffusers import DiffusionPipeline

    with checkpoints.named_errors(model):
        # Before `loading`, which makes others wait.
        folder = _fetched(place, files)
        vae = None
        if files.vae and not weightfiles.is_file(files.vae):
            vae = checkpoints.fetch(checkpoints.locate(files.vae))
        how: dict[str, Any] = {}
        dtype = device.dtype(sampling.dtype)
        with loading(), at_most(threads), ExitStack() as stack:
            if sampling.quantize != "none":
                device.clear()  # diffusers quantizes there, on what is torch's current GPU
                if device.limited:
                    stack.enter_context(torch.cuda.device(device.name))
                how["quantization_config"] = _in_4bit(folder, dtype)
            parts = _parts_of_file(files, folder, dtype)
            if files.vae:
                parts["vae"] = _other_vae(files.vae, vae, folder, dtype)
            pipeline = DiffusionPipeline.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                **_processors(folder, model),
                **parts,
                **how,
            )
            if files.checkpoint is not None:
                _predict_as_trained(pipeline, files.checkpoint)
            adapters = Adapters(pipeline, files.always, files.named)
            for part in pipelines.modules(pipeline):
                part_from_layers(part)
        return DiffusersGenerator(
            pipeline,
            sampling,
            device,
            progress,
            edit=edit,
            threads=threads,
            adapters=adapters,
        )


def _fetched(place: str, files: Files) -> Path:
    """The folder of a pipeline; around a checkpoint in one file that of what is not in the file."""
    if files.checkpoint is None:
        return checkpoints.fetch(place, is_pipeline=True)
    return checkpoints.fetch_around(place, files.checkpoint.keys)


def _parts_of_file(files: Files, folder: Path, dtype: Any) -> dict[str, Any]:
    """The parts of a pipeline that are in a checkpoint of one file, loaded from it.

    folder: of the pipeline, with the configuration of each part.
    """
    if files.checkpoint is None:
        return {}
    from diffusers import DiffusionPipeline
    from diffusers import pipelines as families
    from diffusers.loaders.single_file import load_single_file_sub_model
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    index = DiffusionPipeline.load_config(folder)
    held = weightfiles.parts_held(files.checkpoint.keys, index)
    weights = load_single_file_checkpoint(str(files.checkpoint.path), local_files_only=True)
    parts: dict[str, Any] = {}
    for part, kind in index.items():
        if not isinstance(kind, list) or part not in held:
            continue
        if kind[0] is None or part not in weightfiles.OF_FILES:
            parts[part] = None
            continue
        parts[part] = load_single_file_sub_model(
            *kind,
            part,
            dict(weights),  # what reads it takes weights out
            families,
            is_pipeline_module=hasattr(families, kind[0]),
            cached_model_config_path=str(folder),
            local_files_only=True,
            torch_dtype=dtype,
        )
    if "safety_checker" in index:
        parts["requires_safety_checker"] = False
    return parts


def _other_vae(vae: str, place: Path | None, folder: Path, dtype: Any) -> Any:
    """Another VAE, of the class of the pipeline's own.

    place: its folder; None: it is a file. folder: of the pipeline.
    """
    import diffusers
    from diffusers import DiffusionPipeline

    vae_class = getattr(diffusers, DiffusionPipeline.load_config(folder)["vae"][1])
    if place is not None:
        return vae_class.from_pretrained(place, dtype=dtype, use_safetensors=True)
    return vae_class.from_single_file(
        str(weightfiles.check(vae, "the VAE")),
        config=str(folder),
        subfolder="vae",
        dtype=dtype,
        local_files_only=True,
    )


def _predict_as_trained(pipeline: Any, checkpoint: SingleFile) -> None:
    """Set what some checkpoints of one file say by a weight of that name: that they predict
    velocity, and that their noise ends at none of the signal.
    """
    if "v_pred" in checkpoint.keys:
        scheduler = pipeline.scheduler
        zero = (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
            if "ztsnr" in checkpoint.keys
            else {}
        )
        pipeline.scheduler = type(scheduler).from_config(
            scheduler.config, prediction_type="v_prediction", **zero
        )


def _processors(folder: Path, model: str) -> dict[str, Any]:
    """The parts of a pipeline that read text and images, without their half for videos where that
    cannot be had. Their chat templates are kept within bounds from the start: some pipelines run
    them while they are made.
    """
    import transformers
    from diffusers import DiffusionPipeline

    parts = {}
    for part, kind in DiffusionPipeline.load_config(folder).items():
        name = str(kind[1]) if isinstance(kind, list) and kind[:1] == ["transformers"] else ""
        if not name.endswith("Processor"):
            continue  # and nothing of transformers is imported that the pipeline would not use
        processor_class: Any = getattr(transformers, name, object)
        if not issubclass(processor_class, transformers.ProcessorMixin):
            continue  # of images alone
        if processors.takes_videos(processor_class) and not processors.torchvision_imports():
            processor = processors.videoless(folder / part, processor_class)
        else:
            processor = processor_class.from_pretrained(folder / part, trust_remote_code=False)
        if processor.chat_template:
            processors.check_template(processor.chat_template, model)
        processor.apply_chat_template = processors.bounded()(processor.apply_chat_template)
        parts[part] = processor
    return parts


def check_precision(quantize: Quantize, *, has_gpu: bool) -> None:
    """Raise UsageError for 4-bit weights where diffusers makes none."""
    if quantize != "none" and not has_gpu:
        raise UsageError(
            "--quantize-generator nf4 needs a GPU: diffusers quantizes on no other device",
            "leave it out; on a CPU the embedded pair, or a small pipeline, is the quicker way",
        )


def _in_4bit(folder: Path, dtype: Any) -> Any:
    """Diffusers' configuration for the large parts of a pipeline in NF4 with double quantization.

    Left as they are: VAEs, which are convolutions, and CLIP text encoders, which are small and
    whose errors every step would see.
    """
    import diffusers
    import transformers
    from diffusers import DiffusionPipeline, PipelineQuantizationConfig

    nf4 = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype,
    }
    mapping = {}
    for part, kind in DiffusionPipeline.load_config(folder).items():
        if not isinstance(kind, list) or kind[:1] not in (["diffusers"], ["transformers"]):
            continue
        library: Any = diffusers if kind[0] == "diffusers" else transformers
        bases = (diffusers.ModelMixin, transformers.PreTrainedModel)
        model_class = getattr(library, str(kind[1]), object)
        is_model = isinstance(model_class, type) and issubclass(model_class, bases)
        if is_model and not str(kind[1]).startswith(NOT_QUANTIZED):
            mapping[part] = library.BitsAndBytesConfig(**nf4)
    return PipelineQuantizationConfig(quant_mapping=mapping)


def check(
    model: str,
    *,
    edit: bool = False,
    sampling: Sampling | None = None,
    files: Files | None = None,
) -> str:
    """Raise ModelError unless this is a pipeline of the right kind; returns its place.

    Reads no weights, so this can be called before another model is loaded for nothing. What is
    known of sampling and files before that is checked, too: see `load`.
    """
    files = files or Files()
    if files.checkpoint is not None and sampling is not None and sampling.quantize != "none":
        raise UsageError(
            f"--quantize-generator {sampling.quantize} does not go with a checkpoint in one file: "
            "diffusers loads none of them so",
            "leave it out, or take the model as a folder, as save_pretrained writes it",
        )
    place = checkpoints.locate(files.checkpoint.config if files.checkpoint else model)
    checkpoints.quiet_libraries()
    with loading():
        import diffusers
        from diffusers import DiffusionPipeline

    with checkpoints.named_errors(model):
        folder = checkpoints.fetch_file(place, PIPELINE)
        index = DiffusionPipeline.load_config(folder)
        pipelines.check_kind(model, index, edit=edit)
        pipeline_class = getattr(diffusers, str(index["_class_name"]))
        loras = (*files.always, *files.named)
        if loras:
            check_takes(pipeline_class)
        if sampling is not None and sampling.scheduler:
            kind = index.get("scheduler")
            name = str(kind[1]) if isinstance(kind, list) else ""
            config = _config(place, "scheduler", "scheduler_config.json")
            pipelines.check_scheduler(sampling.scheduler, model, name, config)
        if files.vae and "vae" not in index:
            raise UsageError(f"{model} has no VAE that could be another one", "leave --vae out")
        if files.vae:
            _check_vae(files.vae, _config(place, "vae", "config.json"), model)
        denoiser = next((part for part in weightfiles.DENOISERS if part in index), "")
        for lora in loras if denoiser else ():
            kind = str(index[denoiser][1])
            config = _config(place, denoiser, "config.json")
            check_fits(lora, pipeline_class, denoiser, kind, config)
    return place


def _config(place: str, part: str, name: str) -> dict[str, Any]:
    """The configuration of one part of a pipeline."""
    folder = checkpoints.fetch_file(place, PIPELINE, f"{part}/{name}")
    return vetting.read_config(folder / part / name)


def _check_vae(vae: str, ours: Mapping[str, Any], model: str) -> None:
    """Raise UsageError for a VAE that does not fit a pipeline, as far as its config says so.

    ours: the configuration of the pipeline's own VAE.
    """
    if weightfiles.is_file(vae):
        weightfiles.header(weightfiles.check(vae, "the VAE"), "the VAE")
        return
    place = checkpoints.locate(vae)
    if Path(place).is_dir() and not Path(place, "config.json").is_file():
        raise UsageError(
            f"the folder {vae} is no VAE: it has no config.json",
            "name the folder vae of a pipeline, or a .safetensors file",
        )
    folder = checkpoints.fetch_file(place, "config.json")
    theirs = vetting.read_config(folder / "config.json")
    for name in ("_class_name", "latent_channels"):
        if theirs.get(name) != ours.get(name):
            raise UsageError(
                f"the VAE {vae} does not fit {model}: its {name.strip('_')} is {theirs.get(name)}, "
                f"and the generator's {ours.get(name)}",
                "take one that was made for this family",
            )


class DiffusersGenerator:
    """A pipeline with its settings. Its weights wait in the machine's memory until it draws.

    Arguments:
        pipeline: of diffusers.
        sampling: how to draw.
        device: where to draw.
        progress: called at each inference step.
        edit: whether it edits images.
        threads: of torch on a CPU; None: torch's default.
        adapters: the LoRAs that were loaded beside its weights.

    Attributes:
        inside: how long the pipeline was at work.
        weights: of the pipeline.
        ladder: how many images are drawn in a call.
    """

    def __init__(  # noqa: PLR0913 - each for itself
        self,
        pipeline: Any,
        sampling: Sampling,
        device: SharedDevice,
        progress: ProgressCallback | None = None,
        *,
        edit: bool = False,
        threads: int | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self._pipeline = pipeline
        self.device = device
        self._threads = threads
        self._adapters = adapters or Adapters(pipeline, (), ())
        self._reader = Reader(
            pipeline, marked=sampling.prompt_syntax == "a1111", clip_skip=sampling.clip_skip
        )
        if sampling.scheduler:
            pipelines.set_scheduler(pipeline, sampling.scheduler)
        self._steps = pipelines.Steps(progress)
        self.inside = Stopwatch()
        self.weights = Weights(pipelines.modules(pipeline))
        # Neither ladder nor pipeline refers to this object: a cycle would keep its memory.
        relieve = partial(_relieve, pipeline, device, self.weights)
        self.ladder = Ladder(sampling.batch, "images drawn", relieve, device.hint)
        self._parameters = pipelines.parameters_of(type(pipeline))
        self._edit = edit
        self._has_warned = False
        self.adopt(sampling)
        # Every pipeline reports its steps to its progress bar; not all of them take a callback.
        pipeline.progress_bar = self._steps.bar
        active = self._adapters
        self._encode_once = partial(
            acceleration.encode_once, reader=self._reader, active=lambda: active.active
        )
        self._encode_once(pipeline)
        self._reuses = sampling.step_cache and acceleration.reuse_steps(pipeline)
        self._singly = noise.sample_tokens_from_seeds(pipeline) or self._reuses
        if sampling.compile:
            acceleration.compile_blocks(pipeline)
        if sampling.quantize != "none":
            self.weights.release()  # from the device that they were quantized on
        device.join(self.weights)

    def adopt(self, sampling: Sampling) -> None:
        """Draw by these settings from here on. What shapes the weights must be as it was.

        Raises UsageError for settings that the pipeline does not take.
        """
        pipeline = self._pipeline
        arguments = pipelines.arguments(pipeline, sampling, edit=self._edit)
        self._sampling = sampling
        self._arguments = arguments
        # Once: to ask the pipeline sets attributes of it, which a call in another thread would see.
        self._is_unguided = pipelines.is_unguided(pipeline, self._arguments)
        self._editor = editing.Editor(
            self._name, self._parameters, (sampling.width, sampling.height)
        )
        # Copies: a tokenizer serves one thread at a time, and the guards may measure prompts in
        # another thread than the one that draws.
        self._tokenizers = copy.deepcopy(pipelines.reading_limits(pipeline, sampling.call))
        self._start: image_to_image.Start | None = None  # made when it is first needed

    @property
    def takes_negative(self) -> bool:
        """Whether the pipeline takes a negative prompt."""
        return "negative_prompt" in self._parameters

    @property
    def heeds_negative(self) -> bool:
        """Whether a negative prompt has an effect, which it has not without guidance."""
        return self.takes_negative and not self._is_unguided

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        """Draw each candidate from its own seed: an image does not depend on its batch.

        Arguments:
            candidates: what to draw.
            starts: for each candidate the image that it starts from, if any.
            sources: for each candidate the image that it edits, if any.

        Raises UsageError when a candidate has a negative prompt and the pipeline takes none, or
        is of a kind that it cannot draw; ModelError when the pipeline fails.
        """
        if any(candidate.negative for candidate in candidates):
            self.check_negative()
        if obstacle := next(filter(None, map(self.obstacle, candidates)), ""):
            raise UsageError(obstacle, "take another strategy")
        self._warn_of_weights(candidates)
        none = [None] * len(candidates)
        parts = zip(candidates, starts or none, sources or none, strict=True)
        inputs = [Inputs(*part) for part in parts]
        if any(bool(i.candidate.start) != (i.start is not None) for i in inputs):
            raise ValueError("a candidate that starts from an image needs it, and no other does")
        drawings: list[Drawing] = []

        def work(batch: Sequence[Inputs]) -> list[Drawing]:
            self._steps.now = (len(drawings), len(batch), len(inputs))
            with at_most(self._threads):
                return self.device.run(self.weights, partial(self._draw_batch, batch))

        # An image could depend on what else is in a mixed batch.
        for _, group in itertools.groupby(inputs, key=self._likeness):
            alike = list(group)
            most = 1 if self._singly else self._editor.most(alike[0].source, len(alike))
            is_single_step = self._arguments.get("num_inference_steps") == 1  # PixArt needs two
            hint = (
                "take more steps"
                if is_single_step
                else "check the size, the steps and the guidance"
            )
            with checkpoints.reworded(f"{self._name} cannot draw this", hint):
                for drawn in self.ladder.each(alike, work, most):
                    drawings += drawn
            self._editor.check_shape(alike[0].source, drawings[-1].image)
        return drawings

    def obstacle(self, candidate: Candidate) -> str:
        """Why no candidate of this kind can be drawn; empty if it can.

        Raises UsageError where it could be drawn with other settings.
        """
        if candidate.start and self._edit:
            return "an edit starts from its source, and from no other image"
        if candidate.start and self._reuses:
            raise UsageError(
                "--step-cache serves no drawing that starts from an image",
                "leave it out, or take another strategy",
            )
        if candidate.start:
            if candidate.mutations:
                return "noise is not mutated where an image is started from"
            try:
                self._start = self._start or image_to_image.load(
                    self._pipeline, self._sampling, self._encode_once
                )
            except ModelError as error:
                return error.message
            image_to_image.check_strength(candidate.strength, self._start.steps)
        return noise.obstacle(self._pipeline) if candidate.mutations else ""

    @property
    def limit(self) -> int | None:
        """How many tokens of a prompt the pipeline reads, by its shortest tokenizer; None: all."""
        if self._reader.by_chunks:
            return None
        limits = [limit for _, _, limit in self._tokenizers]
        return min(limits, default=None)

    def excess(self, prompt: str) -> str:
        """Which tokenizer a prompt is too long for, and by how much; empty if there is none.

        Words beyond the limit would be cut off, and not drawn.
        """
        if self._reader.by_chunks:
            return ""
        text = self._reader.text(prompt)
        for name, tokenizer, limit in self._tokenizers:
            tokens = len(tokenizer(text, truncation=False).input_ids)
            if tokens > limit:
                return f"it has {tokens} tokens, and the pipeline's {name} reads {limit}"
        return ""

    def check_negative(self) -> None:
        """Raise UsageError when the pipeline takes no negative prompt."""
        if not self.takes_negative:
            raise UsageError(
                f"{self._name} takes no negative prompt",
                "leave it out, or say in the prompt what to draw instead",
            )
        if not self.heeds_negative:
            logger.warning("%s without guidance: the negative prompt does nothing", self._name)

    def _warn_of_weights(self, candidates: Sequence[Candidate]) -> None:
        """Warn, once, of weights that have no effect, and of what A1111 would read otherwise."""
        texts = [text for c in candidates for text in (c.prompt, c.negative)]
        if self._has_warned:
            return
        if any(map(self._reader.unread, texts)):
            self._has_warned = True
            logger.warning(
                "A1111's [from:to:0.5], [this|that] and AND are read as words, and not as it does"
            )
        if any(map(self._reader.ignores, texts)):
            self._has_warned = True
            logger.warning(
                "%s heeds no weights: (word:1.3) is drawn as word, and without BREAK; only where "
                "CLIP alone reads the prompt have they an effect",
                self._name,
            )

    def _active(self, candidate: Candidate) -> Active:
        """The LoRAs that a candidate is drawn with."""
        return self._adapters.chosen(self._reader.loras(candidate.prompt))

    def _likeness(self, inputs: Inputs) -> tuple[object, ...]:
        """What all images of a batch must share: whether there is a negative prompt, because some
        pipelines treat an empty one and none differently; the source; strength and size of a start;
        the LoRAs; and how much of a prompt CLIP reads at once.
        """
        candidate, start, source = inputs
        return (
            bool(candidate.negative),
            id(source),
            start and (start.size, candidate.strength),
            self._active(candidate),
            self._reader.chunks(self._pipeline, candidate.prompt, candidate.negative),
        )

    def _draw_batch(self, batch: Sequence[Inputs]) -> list[Drawing]:
        candidates = [inputs.candidate for inputs in batch]
        if self._reuses:
            acceleration.forget_steps(self._pipeline)
        self._adapters.switch(self._pipeline, self._active(candidates[0]))
        call = {
            "prompt": [self._reader.text(candidate.prompt) for candidate in candidates],
            "generator": [noise.seeded(candidate.seed) for candidate in candidates],
            **self._negative(candidates),
            **self._editor.arguments(batch[0].source, len(batch)),
            # Not as an image, whose 8 bits cannot show that a pixel was NaN.
            "output_type": "np",
        }
        images = [inputs.start for inputs in batch if inputs.start is not None]
        if self._start is not None and images:
            with self.inside:
                output = self._start(images, candidates[0].strength, **call)
        else:
            with noise.mutated(self._pipeline, candidates), self.inside:
                output = self._pipeline(**self._arguments, **call)
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            logger.warning("the safety checker of %s blacked out an image", self._name)
        # Kandinsky has another name for them.
        images = output.images if hasattr(output, "images") else output.image
        sampler = pipelines.sampler_name(self._pipeline)
        return [replace(drawing(pixels, len(batch)), sampler=sampler) for pixels in images]

    def _negative(self, batch: Sequence[Candidate]) -> dict[str, list[str]]:
        if any(candidate.negative for candidate in batch):
            return {"negative_prompt": [self._reader.text(c.negative) for c in batch]}
        if pipelines.guidance_name(self._parameters) == "true_cfg_scale" and self.heeds_negative:
            # Only a negative prompt that is not empty switches this guidance on.
            return {"negative_prompt": [" "] * len(batch)}
        return {}

    @property
    def _name(self) -> str:
        return type(self._pipeline).__name__


def _relieve(pipeline: Any, device: SharedDevice, weights: Weights) -> str:
    """Make a single image need less memory; returns how, empty where there is no way left."""
    vae: Any = getattr(pipeline, "vae", None)
    if hasattr(vae, "enable_tiling") and not getattr(vae, "use_tiling", False):
        vae.enable_tiling()
        return "images are decoded in tiles, whose seams may show,"
    return device.tighten(weights)
