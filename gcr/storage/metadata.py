"""The text chunks inside a PNG, which say how the image was made.

    gcr                  JSON: the whole story of this image
    parameters           the form that A1111, Forge and Fooocus read
    invokeai_metadata    JSON that InvokeAI reads

Only known values are written: one that the pipeline chose by itself is left out, because a guess in
an image file cannot be corrected later.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core.background import in_background
from gcr.files import imagefile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL.Image import Image

    from gcr.core.records import Attempt, Candidate, Run

MOST_CHUNK_BYTES = 1 << 20  # Pillow refuses larger text chunks, here and in other readers
SCHEDULES = ("Karras", "Exponential", "Beta")
INVOKEAI = {
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "DEIS": "deis",
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ SDE": "dpmpp_sde",
    "DPM2": "kdpm_2",
    "DPM2 a": "kdpm_2_a",
    "Euler": "euler",
    "Euler a": "euler_a",
    "Heun": "heun",
    "LCM": "lcm",
    "LMS": "lms",
    "PLMS": "pndm",
    "UniPC": "unipc",
}
"""InvokeAI's names of samplers by A1111's; with Karras' schedule, they end in `_k`."""
HEADER = 33  # bytes: the signature, and the chunk that every PNG begins with
COMPRESSION = 1  # zlib level: 6 makes a 1024 px file a tenth smaller and takes four times as long


def png(image: Image, texts: Mapping[str, str]) -> bytes:
    """The image as PNG with the texts in it. Text outside Latin-1 is stored as iTXt."""
    return with_texts(pixels(image), texts)


def pixels(image: Image) -> bytes:
    """The image as PNG, without texts."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG with texts behind its header, where Pillow puts them."""
    from PIL.PngImagePlugin import PngInfo, putchunk

    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = io.BytesIO()
    file.write(png[:HEADER])
    for kind, content, _ in info.chunks:
        putchunk(file, kind, content)
    file.write(png[HEADER:])
    return file.getvalue()


class Ahead:
    """Encodes images in the background, from when they are drawn until they are written."""

    def __init__(self) -> None:
        # With each image: an id may be given again once its object is gone.
        self._encoded: dict[int, tuple[Image, int, Callable[[], list[bytes]]]] = {}

    def begin(self, images: Sequence[Image]) -> None:
        encoded = in_background(lambda: [pixels(image) for image in images])
        self._encoded |= {id(image): (image, i, encoded) for i, image in enumerate(images)}

    def pixels(self, image: Image) -> bytes:
        """As `pixels`, which waits where that has been begun."""
        if id(image) not in self._encoded:
            return pixels(image)
        _, position, encoded = self._encoded.pop(id(image))
        return encoded()[position]


def read(path: Path) -> dict[str, str]:
    """The texts inside a PNG file."""
    with imagefile.opened(path) as image:
        image.load()  # a text chunk may stand behind the pixels
        texts = getattr(image, "text", {})
        return {str(key): str(text) for key, text in texts.items()}


def texts(run: Run, round_index: int, attempt: Attempt, size: tuple[int, int]) -> dict[str, str]:
    """The three texts of one attempt.

    Arguments:
        run: with its request and settings.
        round_index: of the attempt's round.
        attempt: what was drawn and judged.
        size: (width, height) of the image in pixels.
    """
    written = {
        "parameters": parameters(run, attempt, size),
        "invokeai_metadata": _json(_invokeai(run, attempt, size)),
        "gcr": _json(_story(run, round_index, attempt)),
    }
    return {key: text for key, text in written.items() if len(text.encode()) < MOST_CHUNK_BYTES}


def parameters(run: Run, attempt: Attempt, size: tuple[int, int]) -> str:
    """A1111's form: the prompt, the negative prompt if there is one, then a line of settings.

    A1111 has no names for mutated noise, but without it the seed would be that of another image.
    """
    candidate = attempt.candidate
    lines = [candidate.prompt]
    if candidate.negative:
        lines.append(f"Negative prompt: {candidate.negative}")
    values = {
        "Steps": run.settings.get("steps"),
        **_sampler(attempt.sampler),
        "CFG scale": run.settings.get("guidance"),
        "Seed": candidate.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": _shared(run.settings).get("generator"),
        "Denoising strength": candidate.strength if candidate.start else None,
        "Start image": candidate.start or None,
        "Mutation seeds": " ".join(map(str, candidate.mutations)) or None,
        "Mutation strength": candidate.strength if candidate.mutations else None,
    }
    lines.append(
        ", ".join(f"{key}: {_value(value)}" for key, value in values.items() if value is not None)
    )
    return "\n".join(lines)


def _sampler(name: str) -> dict[str, str | None]:
    """A sampler and its schedule, as newer versions of A1111 name them."""
    words, _, last = name.rpartition(" ")
    if last in SCHEDULES:
        return {"Sampler": words, "Schedule type": last}
    return {"Sampler": name or None}


def _scheduler(name: str) -> str | None:
    """The same as InvokeAI's name, if it has one."""
    sampler = name.removesuffix(" Karras")
    if sampler not in INVOKEAI:
        return name or None
    return INVOKEAI[sampler] + ("_k" if sampler != name else "")


def _value(value: object) -> str:
    """A value of A1111's settings line, in quotes where a comma or a colon would end it."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",:\n") else text


def _invokeai(run: Run, attempt: Attempt, size: tuple[int, int]) -> dict[str, object]:
    values: dict[str, object] = {
        "positive_prompt": attempt.candidate.prompt,
        "negative_prompt": attempt.candidate.negative,
        "width": size[0],
        "height": size[1],
        "seed": attempt.candidate.seed,
        "steps": run.settings.get("steps"),
        "cfg_scale": run.settings.get("guidance"),
        "scheduler": _scheduler(attempt.sampler),
        "strength": attempt.candidate.strength if attempt.candidate.start else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _story(run: Run, round_index: int, attempt: Attempt) -> dict[str, object]:
    """All that made this image, and its critique.

    Times and the run's id are left out, so that equal settings give equal files, and a resumed run
    the same files as an uninterrupted one.
    """
    critique = asdict(attempt.critique)
    del critique["raw"]  # it is in rounds.jsonl
    return {
        "request": asdict(run.request),
        "round": round_index,
        "image": attempt.image,
        "candidate": _shown(attempt.candidate),
        "score": attempt.score,
        "critique": critique,
        "settings": _shared(run.settings),
    }


def _shared(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings without the folders of this machine, which are private."""
    names = ("generator", "critic", "rubric")
    return {
        key: Path(value).name
        if key in names and isinstance(value, str) and Path(value).is_absolute()
        else value
        for key, value in settings.items()
    }


def _shown(candidate: Candidate) -> dict[str, object]:
    """A candidate; a start image and mutations only where it has them."""
    optional = ("start", "mutations", "strength")
    values = asdict(candidate)
    return {key: value for key, value in values.items() if value or key not in optional}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
