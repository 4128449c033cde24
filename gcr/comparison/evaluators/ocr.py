"""ocr and ocr-exact: whether what a request puts in quotes can be read in its image.

`gcr.critic.ocr` does the reading. A request without quoted text has no score: there is nothing to
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from gcr.core.records import Evaluator, Sample, Task
from gcr.critic import ocr
from gcr.errors import UsageError
from gcr.files import imagefile


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
