"""Draws candidates with any text-to-image or editing pipeline of diffusers.

Every image is drawn from its own seed, in batches; one that shows nothing, or is not even made of
numbers, is marked so. What differs between pipelines is in `pipelines`; what is edited in
`editing`, how noise is mutated in `noise`, how an image is started from in `starting`.
"""

from __future__ import annotations

import copy
import itertools
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.device.loading import loading
from gcr.device.out_of_memory import Ladder
from gcr.device.stopwatch import Stopwatch
from gcr.device.threads import at_most
from gcr.device.weights import Weights
from gcr.drawing import editing, faster, noise, pipelines, samplers, starting
from gcr.drawing.pipelines import Sampling
from gcr.drawing.pixels import drawing
from gcr.errors import ModelError, UsageError
from gcr.hub import checkpoints
from gcr.hub.vetting import PIPELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Candidate, Drawing, Progress
    from gcr.device.memory import SharedDevice

__all__ = ["DiffusersGenerator", "Sampling", "load"]

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A candidate, the image it starts from and the image it edits, if any."""

    candidate: Candidate
    start: Image | None
    source: Image | None


def load(
    model: str,
    sampling: Sampling,
    device: SharedDevice,
    progress: Progress | None = None,
    *,
    edit: bool = False,
) -> DiffusersGenerator:
    """Load a pipeline from a hub id, a folder or `pocket:generator`, and check the settings.

    Only safetensors are read, and no code of the checkpoint is run.
    edit: whether it is to edit images, rather than to draw from text alone.
    Raises ModelError for what cannot be loaded or is of the other kind, UsageError for settings
    that the pipeline does not take.
    """
    place, threads = check(model, edit=edit), checkpoints.threads(model)
    from diffusers import DiffusionPipeline

    with checkpoints.named_errors(model):
        folder = checkpoints.fetch(place, is_pipeline=True)  # before: it should keep nobody waiting
        with loading(), at_most(threads):
            pipeline = DiffusionPipeline.from_pretrained(
                folder,
                dtype=device.dtype(sampling.dtype),
                use_safetensors=True,
                trust_remote_code=False,
            )
        return DiffusersGenerator(pipeline, sampling, device, progress, edit=edit, threads=threads)


def check(model: str, *, edit: bool = False) -> str:
    """Raise ModelError unless this is a pipeline of the kind that is needed; returns its place.

    Reads no weights: what would be in vain is best found before the other model is loaded.
    """
    place = checkpoints.locate(model)
    checkpoints.quiet_libraries()
    with loading():
        from diffusers import DiffusionPipeline

    with checkpoints.named_errors(model):
        folder = checkpoints.outlined(place, PIPELINE)
        pipelines.check_kind(model, DiffusionPipeline.load_config(folder), edit=edit)
    return place


class DiffusersGenerator:
    """A pipeline with its settings. Its weights wait in the machine's memory until it draws.

    threads: of torch on a CPU; None: as many as torch takes.
    """

    def __init__(  # noqa: PLR0913 - each for itself
        self,
        pipeline: Any,
        sampling: Sampling,
        device: SharedDevice,
        progress: Progress | None = None,
        *,
        edit: bool = False,
        threads: int | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._sampling = sampling
        self.device = device
        self._threads = threads
        self._steps = pipelines.Steps(progress)
        self.inside = Stopwatch()  # the pipeline
        self.weights = Weights(pipelines.modules(pipeline))
        # Neither ladder nor pipeline knows this object: in a circle its memory would outlive it.
        relieve = partial(_relieve, pipeline, device, self.weights)
        self.ladder = Ladder(sampling.batch, "images drawn", relieve, device.hint)
        self._takes = pipelines.takes(type(pipeline))
        self._arguments = pipelines.arguments(pipeline, sampling, edit=edit)
        self._editor = editing.Editor(self._name, self._takes, (sampling.width, sampling.height))
        # Copies: while one thread draws, the guards may measure prompts in another, and a tokenizer
        # can be asked by one at a time.
        self._readers = copy.deepcopy(pipelines.reading_limits(pipeline, sampling.call))
        self._edit = edit
        self._start: starting.Start | None = None  # made when it is needed first
        # Every pipeline tells its steps to its progress bar; not all of them take a callback.
        pipeline.progress_bar = self._steps.bar
        faster.encode_once(pipeline)
        self._reuses = sampling.step_cache and faster.reuse_steps(pipeline)
        if sampling.compile:
            faster.compile_blocks(pipeline)
        device.join(self.weights)

    @property
    def takes_negative(self) -> bool:
        return "negative_prompt" in self._takes

    @property
    def heeds_negative(self) -> bool:  # and not without guidance
        return self.takes_negative and not pipelines.is_unguided(self._takes, self._arguments)

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        """Draw each candidate from its own seed: an image does not depend on its batch.

        Raises UsageError when a candidate has a negative prompt and the pipeline takes none, or
        is of a kind that it cannot draw; ModelError when the pipeline fails.
        """
        if any(candidate.negative for candidate in candidates):
            self.check_negative()
        if obstacle := next(filter(None, map(self.obstacle, candidates)), ""):
            raise UsageError(obstacle, "take another strategy")
        none = [None] * len(candidates)
        parts = zip(candidates, starts or none, sources or none, strict=True)
        asked = [Asked(*part) for part in parts]
        if any(bool(a.candidate.start) != (a.start is not None) for a in asked):
            raise ValueError("a candidate that starts from an image needs it, and no other does")
        drawings: list[Drawing] = []

        def work(batch: Sequence[Asked]) -> list[Drawing]:
            self._steps.now = (len(drawings), len(batch), len(asked))
            with at_most(self._threads):
                return self.device.run(self.weights, partial(self._draw_batch, batch))

        # What a batch mixes could make an image depend on it.
        for _, group in itertools.groupby(asked, key=_likeness):
            alike = list(group)
            most = 1 if self._reuses else self._editor.most(alike[0].source, len(alike))
            few = self._arguments.get("num_inference_steps") == 1  # PixArt cannot do with one
            hint = "take more steps" if few else "check the size, the steps and the guidance"
            with checkpoints.reworded(f"{self._name} cannot draw this", hint):
                for drawn in self.ladder.each(alike, work, most):
                    drawings += drawn
            self._editor.check_shape(alike[0].source, drawings[-1].image)
        return drawings

    def obstacle(self, candidate: Candidate) -> str:
        """Why no candidate of this kind can be drawn; empty if it can.

        Raises UsageError where it could with other settings.
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
                self._start = self._start or starting.load(self._pipeline, self._sampling)
            except ModelError as error:
                return error.message
            starting.check_strength(candidate.strength, self._start.steps)
        return noise.obstacle(self._pipeline) if candidate.mutations else ""

    @property
    def limit(self) -> int | None:
        """Tokens that the pipeline reads of a prompt, by the least of its tokenizers."""
        limits = [limit for _, _, limit in self._readers]
        return min(limits, default=None)

    def excess(self, prompt: str) -> str:
        """Which tokenizer a prompt is too long for, and by how much; empty if all read all of it.

        What is over the limit would be cut off, and not drawn.
        """
        for name, tokenizer, limit in self._readers:
            tokens = len(tokenizer(prompt, truncation=False).input_ids)
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

    def _draw_batch(self, batch: Sequence[Asked]) -> list[Drawing]:
        candidates = [asked.candidate for asked in batch]
        if self._reuses:
            faster.forget_steps(self._pipeline)
        call = {
            "prompt": [candidate.prompt for candidate in candidates],
            "generator": [noise.seeded(candidate.seed) for candidate in candidates],
            **self._negative(candidates),
            **self._editor.arguments(batch[0].source, len(batch)),
            # Not as an image: one of 8 bits cannot show that a pixel was NaN.
            "output_type": "np",
        }
        images = [asked.start for asked in batch if asked.start is not None]
        if self._start is not None and images:
            with self.inside:
                output = self._start(images, candidates[0].strength, **call)
        else:
            with noise.mutated(self._pipeline, candidates), self.inside:
                output = self._pipeline(**self._arguments, **call)
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            logger.warning("the safety checker of %s blacked out an image", self._name)
        # Kandinsky's output has another name for them.
        images = output.images if hasattr(output, "images") else output.image
        sampler = samplers.name(self._pipeline)
        return [replace(drawing(pixels, len(batch)), sampler=sampler) for pixels in images]

    def _negative(self, batch: Sequence[Candidate]) -> dict[str, list[str]]:
        if any(candidate.negative for candidate in batch):
            return {"negative_prompt": [candidate.negative for candidate in batch]}
        if pipelines.guidance_name(self._takes) == "true_cfg_scale":
            # This guidance is only switched on by a negative prompt, and an empty one is none.
            return {"negative_prompt": [" "] * len(batch)}
        return {}

    @property
    def _name(self) -> str:
        return type(self._pipeline).__name__


def _relieve(pipeline: Any, device: SharedDevice, weights: Weights) -> str:
    """Have a single image need less memory; says how, or nothing where there is no way left."""
    vae: Any = getattr(pipeline, "vae", None)
    if hasattr(vae, "enable_tiling") and not getattr(vae, "use_tiling", False):
        vae.enable_tiling()
        return "images are decoded in tiles, whose seams may show,"
    return device.tighten(weights)


def _likeness(asked: Asked) -> tuple[object, ...]:
    """What all of a batch must share: whether there is a negative prompt, for some pipelines treat
    an empty one and none differently; the image that is edited; and what is started from.
    """
    candidate, start, source = asked
    return bool(candidate.negative), id(source), start and (start.size, candidate.strength)
