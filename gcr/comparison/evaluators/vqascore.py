"""VQAScore: how likely a vision-language model says that an image shows a prompt.

After Lin et al., 2024, "Evaluating text-to-visual generation with image-to-text generation". Use
another model than the critic: a critic finds in the results what it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gcr.core.records import Evaluator, Sample
from gcr.critic.loading import load as load_model
from gcr.critic.local import LocalSpeaker
from gcr.device.memory import SharedDevice, default_device
from gcr.files import imagefile

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
BATCH = 4


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
        return cls(LocalSpeaker(*load_model(argument, device), device, batch=BATCH))

    def __init__(self, speaker: LocalSpeaker) -> None:
        self._speaker = speaker

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            chances = self._speaker.yes([_chat(sample) for sample in batch])
            yield from ((sample.id, p) for sample, p in zip(batch, chances, strict=True))


def _chat(sample: Sample) -> list[dict[str, object]]:
    with imagefile.opened(sample.image) as image:
        shown = {"type": "image", "image": image.convert("RGB")}
    asked = {"type": "text", "text": QUESTION.format(sample.prompt)}
    return [{"role": "user", "content": [shown, asked]}]
