"""ocr and ocr-exact: whether what a request puts in quotes can be read in its image.

An OCR model (PP-OCR, by RapidOCR, whose package holds it) reads the image on the CPU. Each quoted
text is held against the run of read words that is nearest to it. Letters are compared whatever
their case, typography and spaces: OCR is not sure of any of them. What else stands in the image
does not count against it.

A request without quoted text has no score: there is nothing to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from gcr.core import guards
from gcr.core.records import Evaluator, Sample, Task
from gcr.errors import UsageError
from gcr.files import imagefile

if TYPE_CHECKING:
    from PIL.Image import Image

Reader = Callable[["Image"], Sequence[str]]
"""Reads an image in RGB: its lines, from the top down and from the left."""

# A word; of Chinese and Japanese, which put no space between words, a single character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


class Ocr(Evaluator):
    """How near what is read comes to each quoted text, on average: 1 less the edit distance, as a
    share of the longer of the two (Levenshtein, normalised), 0-1.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:  # noqa: ARG003 - it has none
        """Raise UsageError without RapidOCR, or where no request has text in quotes."""
        _import()
        if not any(wanted(task.prompt) for task in tasks):
            raise UsageError(
                "no prompt has text in quotes, and nothing else is measured by OCR",
                "name another --evaluator",
            )

    @classmethod
    def load(cls, argument: str) -> Ocr:  # noqa: ARG003 - it has none
        """Raises UsageError without RapidOCR."""
        _import()
        import numpy as np
        from rapidocr import RapidOCR

        engine = RapidOCR(params={"Global.log_level": "error"})

        def read(image: Image) -> Sequence[str]:
            bgr = np.asarray(image)[:, :, ::-1]  # (height, width, 3), uint8, as OpenCV has it
            return engine(bgr).txts or ()

        return cls(read)

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float | None]]:
        for sample in samples:
            texts = wanted(sample.prompt)
            if not texts:
                yield sample.id, None
                continue
            with imagefile.opened(sample.image) as image:
                read = self._reader(image.convert("RGB"))
            yield sample.id, self._of([closeness(text, read) for text in texts])

    def _of(self, closest: Sequence[float]) -> float:
        return fmean(closest)


class OcrExact(Ocr):
    """1 where every quoted text is read to the letter, else 0."""

    def _of(self, closest: Sequence[float]) -> float:
        return float(min(closest) == 1)


def wanted(prompt: str) -> list[str]:
    """The texts that a request puts in quotes, each once, without their quotes."""
    # "OPEN," has its comma from the sentence around it, as American print has it.
    texts = (text.strip().removesuffix(",") for text in guards.quoted(prompt))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def closeness(text: str, lines: Sequence[str]) -> float:
    """How near the nearest run of read words comes to a text: 1 for equal, 0 for nothing in common.

    Words of several lines in a row are one run, too: writing may be drawn in two lines.
    """
    from rapidfuzz.distance import Levenshtein

    plain = "".join(_words(text))
    words = _words(" ".join(lines))
    best = 0.0
    for start in range(len(words)):
        run = ""
        for word in words[start:]:
            run += word
            best = max(best, Levenshtein.normalized_similarity(plain, run, score_cutoff=best))
            if len(run) > 2 * len(plain):
                break  # what is twice as long comes no nearer
    return best


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", guards.folded(text)).casefold())


def _import() -> None:
    """Raise UsageError unless all that OCR needs is installed."""
    try:
        import onnxruntime  # noqa: F401
        import rapidfuzz  # noqa: F401
        import rapidocr  # noqa: F401
    except ImportError as error:
        message = f"no {error.name} to read text in images with"
        raise UsageError(message, "pip install 'gcr[ocr]'") from error
