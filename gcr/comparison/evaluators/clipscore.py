"""CLIPScore: the cosine between an image and a prompt, as a CLIP or SigLIP sees both.

After Hessel et al., 2021, without their factor and clipping. A CLIP reads the first 77 tokens of a
prompt, a SigLIP 64.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gcr.core.phrases import count
from gcr.core.records import Evaluator, Sample
from gcr.device.loading import loading, working
from gcr.device.memory import default_device
from gcr.errors import ModelError
from gcr.files import imagefile
from gcr.hub import checkpoints
from gcr.hub.checkpoints import named_errors

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

logger = logging.getLogger(__name__)

BATCH = 16


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
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            cosines = self._cosines(batch)
            yield from ((sample.id, c) for sample, c in zip(batch, cosines, strict=True))

    def _cosines(self, samples: Sequence[Sample]) -> list[float]:
        import torch

        shown = []
        for sample in samples:
            with imagefile.opened(sample.image) as image:
                shown.append(image.convert("RGB"))
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
