"""The evaluators that come with gcr, but for `detect`, which has a file of its own.

truth: whether an image shows what was asked, read from its pixels; for the embedded world.

vqascore: how likely a vision-language model says that an image shows a prompt, after Lin et al.,
2024, "Evaluating text-to-visual generation with image-to-text generation". Use another model than
the critic: a critic finds in the results what it asked for.

clipscore: the cosine between an image and a prompt, as a CLIP or SigLIP sees both. After Hessel et
al., 2021, without their factor and clipping. A CLIP reads the first 77 tokens of a prompt, a SigLIP
64.

ocr, ocr-exact: whether what a request puts in quotes can be read in its image. `gcr.critic.ocr`
does the reading. A request without quoted text has no score: there is nothing to read.

command: the user's own program. It gets a line of JSON with id, prompt and image (a path) for each
image on its stdin, and prints for each a number, in the same order, or a line of JSON with id and
score, in any order.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import IO, TYPE_CHECKING, Any

from gcr.core.phrases import count
from gcr.core.records import Evaluator, Sample, Task
from gcr.critic import ocr
from gcr.critic.loading import load as load_model
from gcr.critic.local import LocalSpeaker
from gcr.device.loading import loading, working
from gcr.device.memory import SharedDevice, default_device
from gcr.errors import GcrError, ModelError, UsageError
from gcr.files import imagefile, structured
from gcr.hub import checkpoints
from gcr.hub.checkpoints import named_errors

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

logger = logging.getLogger(__name__)


def picture(sample: Sample) -> Image:
    """What is to be measured, in RGB."""
    with imagefile.opened(sample.image) as image:
        return image.convert("RGB")


class Truth(Evaluator):
    """1 for an image that shows all that was asked and nothing else, 0 for any other."""

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:  # noqa: ARG003 - it has none
        """Raise UsageError unless each prompt is in the language of the embedded world."""
        from gcr.pocket.language import not_understood

        troubles = [(task.prompt, why) for task in tasks if (why := not_understood(task.prompt))]
        if troubles:
            prompt, why = troubles[0]
            more = f" (and so with {len(troubles) - 1} more)" if len(troubles) > 1 else ""
            raise UsageError(
                f"truth cannot tell what {prompt!r} asks for: {why}{more}",
                "leave such prompts out, or name another --evaluator",
            )

    @classmethod
    def load(cls, argument: str) -> Truth:  # noqa: ARG003 - it has none
        return cls()

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        """Raises GcrError for an image that is no picture of the embedded world."""
        from gcr.pocket import truth
        from gcr.pocket.language import parse

        for sample in samples:
            spec = parse(sample.prompt)
            with imagefile.opened(sample.image) as image:
                try:
                    right = truth.shows(image, spec)
                except ValueError as error:
                    hint = "name another --evaluator"
                    raise GcrError(f"{sample.image}: {error}", hint) from error
            yield sample.id, float(right)


QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
VQA_BATCH = 4


class VqaScore(Evaluator):
    """The probability of "yes" against "no", 0-1."""

    takes = "MODEL"

    @classmethod
    def models(cls, argument: str) -> Sequence[str]:
        return (argument,)

    @classmethod
    def load(cls, argument: str) -> VqaScore:
        """An image-text-to-text model, in 4 bits. Raises ModelError."""
        device = SharedDevice(default_device())
        return cls(LocalSpeaker(*load_model(argument, device), device, batch=VQA_BATCH))

    def __init__(self, speaker: LocalSpeaker) -> None:
        self._speaker = speaker

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        for start in range(0, len(samples), VQA_BATCH):
            batch = samples[start : start + VQA_BATCH]
            chances = self._speaker.yes([_chat(sample) for sample in batch])
            yield from ((sample.id, p) for sample, p in zip(batch, chances, strict=True))


def _chat(sample: Sample) -> list[dict[str, object]]:
    shown = {"type": "image", "image": picture(sample)}
    asked = {"type": "text", "text": QUESTION.format(sample.prompt)}
    return [{"role": "user", "content": [shown, asked]}]


CLIP_BATCH = 16


def load_whole(model: str, kind: str) -> tuple[Any, Path]:
    """A model of transformers that lacks none of its weights, on the usual device, and its folder.

    kind: the class of transformers that loads such models. Raises ModelError.
    """
    checkpoints.quiet_libraries()
    with named_errors(model):
        folder = checkpoints.fetch(checkpoints.locate(model))
        with loading():
            import transformers

            loaded, report = getattr(transformers, kind).from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
            if missing := sorted(report["missing_keys"]):
                raise ModelError(
                    f"{model} lacks {len(missing)} of its weights, such as {missing[0]}",
                    "download it again",
                )
            return loaded.eval().to(default_device()), folder


class ClipScore(Evaluator):
    """The cosine, from -1 to 1."""

    takes = "MODEL"

    def __init__(self, model: Any, tokenizer: Any, images: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._images = images
        self._limit = model.config.text_config.max_position_embeddings

    @classmethod
    def models(cls, argument: str) -> Sequence[str]:
        return (argument,)

    @classmethod
    def load(cls, argument: str) -> ClipScore:
        """A model of transformers that embeds images and texts alike. Raises ModelError."""
        model, folder = load_whole(argument, "AutoModel")
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise ModelError(
                f"{argument} does not put images and texts into one space",
                "give a CLIP or SigLIP, such as openai/clip-vit-large-patch14",
            )
        with named_errors(argument), loading():
            from transformers import AutoImageProcessor, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            images = AutoImageProcessor.from_pretrained(
                folder, backend="pil", trust_remote_code=False
            )
        return cls(model, tokenizer, images)

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        self._warn_of_length([sample.prompt for sample in samples])
        for start in range(0, len(samples), CLIP_BATCH):
            batch = samples[start : start + CLIP_BATCH]
            cosines = self._cosines(batch)
            yield from ((sample.id, c) for sample, c in zip(batch, cosines, strict=True))

    def _cosines(self, samples: Sequence[Sample]) -> list[float]:
        import torch

        shown = [picture(sample) for sample in samples]
        seen, read = self.embedded(shown, [sample.prompt for sample in samples])
        return [float(cosine) for cosine in torch.cosine_similarity(seen, read)]

    def embedded(self, images: Sequence[Image], texts: Sequence[str]) -> tuple[Any, Any]:
        """Images in RGB and texts in the space they share: two tensors, (number, dimensions)."""
        import torch

        pixels = self._images(images=list(images), return_tensors="pt")
        # SigLIP was trained on texts that are padded to their full length.
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            max_length=self._limit,
            truncation=True,
            return_tensors="pt",
        )
        device = self._model.device
        with working(), torch.inference_mode():
            seen = self._model(**pixels.to(device), **tokens.to(device))
        return seen.image_embeds, seen.text_embeds

    def _warn_of_length(self, prompts: Sequence[str]) -> None:
        read = self._tokenizer(list(dict.fromkeys(prompts))).input_ids
        if over := sum(len(tokens) > self._limit for tokens in read):
            told = count(over, "prompt")
            logger.warning("%s measured to token %d only", told, self._limit)


class Ocr(Evaluator):
    """How near what is read comes to each quoted text, on average, 0-1."""

    verifier = ocr.NAME

    def __init__(self, reader: ocr.Reader) -> None:
        self._reader = reader

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:  # noqa: ARG003 - it has none
        """Raise UsageError without RapidOCR, or where no request has text in quotes."""
        ocr.check()
        if not any(ocr.wanted(task.prompt) for task in tasks):
            raise UsageError(
                "no prompt has text in quotes, and nothing else is measured by OCR",
                "name another --evaluator",
            )

    @classmethod
    def load(cls, argument: str) -> Ocr:  # noqa: ARG003 - it has none
        """Raises UsageError without RapidOCR."""
        return cls(ocr.load())

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float | None]]:
        for sample in samples:
            if not ocr.wanted(sample.prompt):
                yield sample.id, None
                continue
            with imagefile.opened(sample.image) as image:
                facts = ocr.facts(sample.prompt, image, self._reader)
            yield sample.id, self._of([fact.nearness for fact in facts])

    def _of(self, nearness: Sequence[float]) -> float:
        return fmean(nearness)


class OcrExact(Ocr):
    """1 where every quoted text is read to the letter, else 0."""

    def _of(self, nearness: Sequence[float]) -> float:
        return float(min(nearness) == 1)


HINT = "it is to print a number, or a line of JSON with id and score, for each line that it reads"


class Command(Evaluator):
    """A command line of the shell, run once for all images."""

    takes = "LINE"

    @classmethod
    def load(cls, argument: str) -> Command:
        return cls(argument)

    def __init__(self, line: str) -> None:
        self._line = line

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        """Raises GcrError for a program that fails, or that prints other than a score for each."""
        with tempfile.TemporaryFile() as complaints:
            # A shell, because the line is the user's own, as they would type it.
            process = subprocess.Popen(  # noqa: S602
                self._line,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,  # what the shell starts is ended with it
            )
            # From a thread: a program that prints while it reads would otherwise wait for us to
            # read while we wait for it to.
            teller = threading.Thread(target=_tell, args=(process.stdin, samples), daemon=True)
            with process:
                try:
                    teller.start()
                    yield from self._scores(process, samples, complaints)
                finally:
                    _end(process)
                    teller.join()  # it closes the pipe, which fails where nobody reads

    def _scores(
        self, process: subprocess.Popen[bytes], samples: Sequence[Sample], complaints: IO[bytes]
    ) -> Iterator[tuple[str, float]]:
        waiting = {sample.id: None for sample in samples}
        for line in process.stdout or ():
            if line.strip():
                id_, score = self._read(line.decode(errors="replace").strip(), waiting)
                del waiting[id_]
                yield id_, score
        if code := process.wait():
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()
            last = f": {said[-1]}" if said else ""
            raise GcrError(f"the evaluator ended with exit code {code}{last}", self._line)
        if waiting:
            scored = f"{len(samples) - len(waiting)} of {len(samples)}"
            raise GcrError(f"the evaluator scored {scored} images", HINT)

    def _read(self, line: str, waiting: Iterable[str]) -> tuple[str, float]:
        """The id and score of a line. waiting: ids of the images without a score, in order."""
        expected = next(iter(waiting), None)
        if expected is None:
            raise GcrError(f"the evaluator printed more than a score for each: {line!r}", HINT)
        try:
            return expected, float(line)
        except ValueError:
            pass  # not a number alone, so it has to be an object
        try:
            found: Any = structured.parse_json(line)
            id_, score = str(found["id"]), float(found["score"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise GcrError(f"the evaluator printed what is no score: {line!r}", HINT) from error
        if id_ not in waiting:
            raise GcrError(f"the evaluator scored {id_!r}, which is not asked for (any more)", HINT)
        return id_, score


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended


def _tell(stdin: IO[bytes], samples: Sequence[Sample]) -> None:
    """Write a line for each image."""
    try:
        with stdin:
            for sample in samples:
                told = {
                    "id": sample.id,
                    "prompt": sample.prompt,
                    "image": str(sample.image.resolve()),
                }
                stdin.write(json.dumps(told).encode() + b"\n")
    except BrokenPipeError:
        # It reads no more. Whether that is a failure, its exit code and its lines say.
        return
