"""Image files, and the texts inside them, which say how the image was made.

    gcr                  JSON: the whole story of this image
    parameters           the form that A1111, Forge and Fooocus read
    invokeai_metadata    JSON that InvokeAI reads

In a PNG they are chunks of these names; JPEG and WebP have `parameters` as EXIF's comment of the
user, where A1111 has it, and the others in further tags. Only known values are written: one that
the pipeline chose by itself is left out, because a guess in an image file cannot be corrected
later.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.core import syntax
from gcr.core.background import in_background
from gcr.files import imagefile
from gcr.settings import samplers
from gcr.settings.schema import PATHS, split_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from gcr.core.records import Attempt, Candidate, Run
    from gcr.settings.schema import Format

MOST_CHUNK_BYTES = 1 << 20  # Pillow refuses larger text chunks, here and in other readers
SCHEDULES = tuple(schedule.label for schedule in samplers.SCHEDULES.values())
INVOKEAI = {sampler.label: sampler.invokeai for sampler in samplers.SAMPLERS} | {
    "DPM++ SDE": "dpmpp_sde"
}
"""InvokeAI's names of samplers by A1111's; with Karras' schedule, they end in `_k`."""
COMMENT, EXIF = 0x9286, 0x8769  # EXIF's UserComment, and the pointer to where it stands
DESCRIPTION, SOFTWARE = 0x010E, 0x0131
"""Tags of EXIF in which JSON stands after its name, as ComfyUI has it in others: `gcr:{…}`."""
MOST_EXIF_BYTES = 65_000  # of a JPEG, which has 16 bits for their number
XMP = "XML:com.adobe.xmp"
"""The text of a PNG that holds XMP, and its name here for other files."""
QUALITY = 95
"""Of JPEG and WebP: what is lost is not seen at once, and the critic judges the image before."""
HEADER = 33  # bytes: the signature, and the chunk that every PNG begins with
COMPRESSION = 1  # zlib level: 6 makes a 1024 px file a tenth smaller and takes four times as long


def pixels(image: Image) -> bytes:
    """The image as PNG, without texts."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG with texts behind its header, where Pillow puts them; as iTXt beyond Latin-1."""
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


def encoded(image: Image, texts: Mapping[str, str], kind: str) -> bytes:
    """The image as a file of this kind (png, jpg, webp) with the texts in it.

    A JPEG has room for 64 KB of them: those that come first.
    """
    if kind == "png":
        return with_texts(pixels(image), texts)
    file = io.BytesIO()
    exif = _exif(texts, MOST_EXIF_BYTES if kind == "jpg" else 1 << 24)
    rgb = image.convert("RGB")
    if kind == "jpg":
        rgb.save(file, "JPEG", quality=QUALITY, subsampling=0, exif=exif)
    else:
        rgb.save(file, "WEBP", quality=QUALITY, exif=exif)
    return file.getvalue()


def _exif(texts: Mapping[str, str], most: int) -> bytes:
    """The texts as EXIF of so many bytes at most."""
    from PIL.Image import Exif

    made = b""
    exif = Exif()
    for key, tag in (("parameters", 0), ("gcr", DESCRIPTION), ("invokeai_metadata", SOFTWARE)):
        if key not in texts:
            continue
        if tag:  # a text of ASCII
            exif[tag] = f"{key}:{json.dumps(json.loads(texts[key]))}"
        else:
            comment = b"UNICODE\0" + texts[key].encode("utf-16-be")
            exif.get_ifd(EXIF)[COMMENT] = comment
        longer = exif.tobytes()
        if len(longer) > most:
            break
        made = longer
    return made


class Ahead:
    """Encodes images in the background, from when they are drawn until they are written.

    kind: of file. Only PNGs are, whose texts can be put in later.
    """

    def __init__(self, kind: Format = "png") -> None:
        self._kind = kind
        # With each image: an id may be given again once its object is gone.
        self._encoded: dict[int, tuple[Image, int, Callable[[], list[bytes]]]] = {}

    def begin(self, images: Sequence[Image]) -> None:
        if self._kind != "png":
            return
        encoded = in_background(lambda: [pixels(image) for image in images])
        self._encoded |= {id(image): (image, i, encoded) for i, image in enumerate(images)}

    def pixels(self, image: Image) -> bytes:
        """As `pixels`, which waits where that has been begun."""
        if id(image) not in self._encoded:
            return pixels(image)
        _, position, encoded = self._encoded.pop(id(image))
        return encoded()[position]


def read(path: Path) -> dict[str, str]:
    """The texts inside an image file, by the names that they have in a PNG."""
    with imagefile.opened(path) as image:
        image.load()  # a text chunk may stand behind the pixels
        return texts_of(image)


def texts_of(image: Image) -> dict[str, str]:
    """The texts of a file that was loaded, by the names that they have in a PNG."""
    texts = {str(key): _repaired(text) for key, text in getattr(image, "text", {}).items()}
    if isinstance(xmp := image.info.get("xmp"), bytes):
        texts.setdefault(XMP, xmp.decode(errors="replace"))
    exif = image.getexif()
    for value in (exif.get(COMMENT), exif.get_ifd(EXIF).get(COMMENT)):
        if value and "parameters" not in texts:
            texts["parameters"] = _comment(value)
    for value in exif.values():  # as ComfyUI has them in WebP: `prompt:{…}`
        key, _, text = value.partition(":") if isinstance(value, str) else ("", "", "")
        if key.casefold() in ("prompt", "workflow", "gcr", "invokeai_metadata"):
            texts.setdefault(key.casefold(), text)
    return texts


def _repaired(text: str) -> str:
    """A text of a PNG: some programs write UTF-8 where its letters are to be Latin-1."""
    from PIL.PngImagePlugin import iTXt

    try:
        return str(text) if isinstance(text, iTXt) else text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _comment(value: object) -> str:
    """The text of EXIF's UserComment, whose first eight bytes name its encoding."""
    if not isinstance(value, bytes):
        return str(value)
    code, content = value[:8], value[8:]
    if code != b"UNICODE\0":
        known = code in (b"ASCII\0\0\0", bytes(8))
        return (content if known else value).decode(errors="replace").strip("\0")
    # The order of bytes is not said; of the usual letters the upper byte is 0.
    little = content[1::2].count(0) > content[::2].count(0)
    return content.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0\ufeff")


Hashes = Mapping[str, str | None]
"""What models are, by the role they play, as run.json has it in `revisions`."""


def texts(
    run: Run,
    round_index: int,
    attempt: Attempt,
    size: tuple[int, int],
    hashes: Hashes | None = None,
) -> dict[str, str]:
    """The three texts of one attempt; none where the run is to write none.

    Arguments:
        run: with its request and settings.
        round_index: of the attempt's round.
        attempt: what was drawn and judged.
        size: (width, height) of the image in pixels.
        hashes: of models that are files.
    """
    if run.settings.get("metadata") is False:
        return {}
    known = _Models(run.settings, attempt.candidate, hashes or {})
    written = {
        "parameters": parameters(run, attempt, size, known),
        "invokeai_metadata": _json(_invokeai(run, attempt, size, known)),
        "gcr": _json(_story(run, round_index, attempt)),
    }
    return {key: text for key, text in written.items() if len(text.encode()) < MOST_CHUNK_BYTES}


class _Models:
    """What an image was drawn with, by the names and hashes of A1111.

    loras: name, scale and hash of each, those of the prompt included.
    tags: of those that the prompt does not name.
    """

    def __init__(
        self, settings: Mapping[str, object], candidate: Candidate, hashes: Hashes
    ) -> None:
        self._hashes = hashes
        generator, vae = str(settings.get("generator") or ""), str(settings.get("vae") or "")
        self.hash, self.vae_hash = self._sha("generator")[:10], self._sha("vae")[:10]
        name = str(_shared(settings).get("generator") or "")
        self.name = Path(generator).stem if self.hash else name
        self.vae = Path(vae).stem if self.vae_hash else str(_shared(settings).get("vae") or "")
        listed = settings.get("lora")
        always = [split_scale(str(each)) for each in (listed if isinstance(listed, list) else ())]
        given = [(Path(path).stem, float(scale.removeprefix(":") or 1)) for path, scale in always]
        marked = settings.get("prompt_syntax") == "a1111"
        named = syntax.loras(candidate.prompt) if marked else ()
        self.loras = [
            (name, scale, self._sha(f"lora {name}")[:12]) for name, scale in (*given, *named)
        ]
        self.tags = "".join(f" <lora:{name}:{scale:g}>" for name, scale in given)

    def _sha(self, role: str) -> str:
        """The sha256 of a file; empty for what is none."""
        kind, _, digest = (self._hashes.get(role) or "").partition(" ")
        return digest if kind == "sha256" else ""


def parameters(
    run: Run, attempt: Attempt, size: tuple[int, int], known: _Models | None = None
) -> str:
    """A1111's form: the prompt, the negative prompt if there is one, then a line of settings.

    A1111 has no names for mutated noise, but without it the seed would be that of another image.
    """
    candidate = attempt.candidate
    known = known or _Models(run.settings, candidate, {})
    lines = [candidate.prompt + known.tags]
    if candidate.negative:
        lines.append(f"Negative prompt: {candidate.negative}")
    hashes = ", ".join(f"{name}: {digest}" for name, _, digest in known.loras if digest)
    values = {
        "Steps": run.settings.get("steps"),
        **_sampler(attempt.sampler),
        "CFG scale": run.settings.get("guidance"),
        "Seed": candidate.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": known.hash or None,
        "Model": known.name or None,
        "VAE hash": known.vae_hash or None,
        "VAE": known.vae or None,
        "Denoising strength": candidate.strength if candidate.start else None,
        "Clip skip": run.settings.get("clip_skip"),
        "Start image": candidate.start or None,
        "Mutation seeds": " ".join(map(str, candidate.mutations)) or None,
        "Mutation strength": candidate.strength if candidate.mutations else None,
        "Lora hashes": hashes or None,
    }
    lines.append(
        ", ".join(f"{key}: {_value(value)}" for key, value in values.items() if value is not None)
    )
    return "\n".join(lines)


def _sampler(name: str) -> dict[str, str | None]:
    """A sampler and its schedule, as newer versions of A1111 name them."""
    for schedule in SCHEDULES:
        if name.endswith(f" {schedule}"):
            return {"Sampler": name.removesuffix(schedule).strip(), "Schedule type": schedule}
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


def _invokeai(
    run: Run, attempt: Attempt, size: tuple[int, int], known: _Models
) -> dict[str, object]:
    skip = run.settings.get("clip_skip")
    values: dict[str, object] = {
        "positive_prompt": syntax.without_loras(attempt.candidate.prompt)
        if known.loras
        else attempt.candidate.prompt,
        "negative_prompt": attempt.candidate.negative,
        "width": size[0],
        "height": size[1],
        "seed": attempt.candidate.seed,
        "steps": run.settings.get("steps"),
        "cfg_scale": run.settings.get("guidance"),
        "scheduler": _scheduler(attempt.sampler),
        "strength": attempt.candidate.strength if attempt.candidate.start else None,
        "clip_skip": skip - 1 if isinstance(skip, int) else None,  # it counts what is left out
        "model": _identified(known.name, known.hash, "main") if known.hash else None,
        "vae": _identified(known.vae, known.vae_hash, "vae") if known.vae else None,
        "loras": [
            {"model": _identified(name, digest, "lora"), "weight": scale}
            for name, scale, digest in known.loras
        ]
        or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _identified(name: str, digest: str, kind: str) -> dict[str, str]:
    """A model as InvokeAI identifies it; without a key of its own it goes by the name."""
    return {"key": "", "hash": digest, "name": name, "base": "any", "type": kind}


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
    values = {
        key: _without_folder(value) if key in (*PATHS, "rubric") else value
        for key, value in settings.items()
    }
    if isinstance(listed := values.get("lora"), list):
        values["lora"] = list(map(_without_folder, listed))
    return values


def _without_folder(value: object) -> object:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _shown(candidate: Candidate) -> dict[str, object]:
    """A candidate; what it starts from or edits only where there is that."""
    optional = ("start", "mutations", "strength", "edits")
    values = asdict(candidate)
    return {key: value for key, value in values.items() if value or key not in optional}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
