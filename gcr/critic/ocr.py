"""Reads the writing in images: what a request puts in quotes against what an OCR model reads.

The model (PP-OCR, by RapidOCR, whose package holds it) runs on the CPU. Each quoted text is held
against the run of read words that is nearest to it. Letters are compared whatever their case,
typography and spaces: OCR is not sure of any of them. What else stands in the image does not count
against it.

This checks critiques where `--verify ocr` asks for that, and measures what a loop drew that was not
so checked (the evaluator `ocr`); never both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gcr.core import guards
from gcr.core.records import Fact
from gcr.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "ocr"

Reader = Callable[["Image"], Sequence[str]]
"""Reads an image: its lines, from the top down and from the left."""

# A word; of Chinese and Japanese, which put no space between words, a single character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def check() -> None:
    """Raise UsageError unless all that OCR needs is installed."""
    try:
        import onnxruntime  # noqa: F401
        import rapidfuzz  # noqa: F401
        import rapidocr  # noqa: F401
    except ImportError as error:
        message = f"no {error.name} to read text in images with"
        raise UsageError(message, "pip install 'gcr[ocr]'") from error


def load() -> Reader:
    """The reader. Raises UsageError as `check`."""
    check()
    import numpy as np
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "error"})

    def read(image: Image) -> Sequence[str]:
        bgr = np.asarray(image.convert("RGB"))[:, :, ::-1]  # (height, width, 3), uint8, as OpenCV
        return engine(bgr).txts or ()

    return read


def wanted(prompt: str) -> list[str]:
    """The texts that a request puts in quotes, each once, without their quotes."""
    # "OPEN," has its comma from the sentence around it, as American print has it.
    texts = (text.strip().removesuffix(",") for text in guards.quoted(prompt))
    return list(dict.fromkeys(text for text in texts if text.strip()))


def facts(prompt: str, image: Image, reader: Reader) -> tuple[Fact, ...]:
    """What can be read of each text that a request puts in quotes; nothing is read for none."""
    texts = wanted(prompt)
    lines = reader(image) if texts else ()
    return tuple(nearest(text, lines) for text in texts)


def nearest(text: str, lines: Sequence[str]) -> Fact:
    """What comes nearest to a text in the lines of an image.

    The nearness is 1 less the edit distance, as a share of the longer of the two (Levenshtein,
    normalised). Words of several lines in a row are one run, too: writing may be in two lines.
    """
    from rapidfuzz.distance import Levenshtein

    plain = "".join(_WORD.findall(_folded(text)))
    read = _folded(" ".join(lines))
    words = list(_WORD.finditer(read))
    best, seen = 0.0, ""
    for start in range(len(words)):
        run = ""
        for word in words[start:]:
            run += word[0]
            near = Levenshtein.normalized_similarity(plain.casefold(), run.casefold())
            if near > best:
                best, seen = near, read[words[start].start() : word.end()]
            if len(run) > 2 * len(plain):
                break  # what is twice as long comes no nearer
    return Fact(text, seen, best, NAME)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", guards.folded(text))
