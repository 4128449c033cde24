"""Image files that nobody should open, opened by all that opens image files.

Files of every format that is read, with what five programs write into them, are bent: bytes
flipped, pieces cut, repeated and swapped, chunks of a PNG changed with their checksums made right
again; beside them stand files that are made to do harm.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import struct
import zlib
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.reliability import Limits, Result, Tally, in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL.Image import Image

FILES = 4000
MOST_PIXELS = 2048 * 2048
PNG = b"\x89PNG\r\n\x1a\n"
A1111 = (
    "a red circle <lora:detail:0.8>\nNegative prompt: a blue star\n"
    'Steps: 20, Sampler: Euler, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 64x64, "K": "x"'
)
INVOKEAI = {
    "positive_prompt": "a red circle",
    "negative_prompt": "",
    "seed": 5,
    "steps": 20,
    "cfg_scale": 7.5,
    "width": 64,
    "height": 64,
    "model": {"name": "m"},
    "loras": [{"model": {"name": "l"}, "weight": 0.5}],
    "generation_mode": "txt2img",
}
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 20,
            "cfg": 7,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red circle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
}
OURS = {
    "request": {"prompt": "a red circle", "negative": ""},
    "round": 0,
    "candidate": {"prompt": "a red circle", "negative": "", "seed": 5},
    "score": 0.5,
    "critique": {"summary": "fine"},
    "settings": {"steps": 14, "guidance": 2.0, "width": 64, "height": 64, "generator": "pocket"},
}
FOOOCUS = {"prompt": "a red circle", "resolution": "(64, 64)", "loras": [["l", 0.5]], "seed": "5"}
OLD_INVOKEAI = {"image": {"prompt": [{"prompt": "a red circle [blue]"}], "seed": 5, "steps": 20}}
ODD = (
    *(None, True, -1, 10**30, 1e308, float("nan"), float("inf"), "", "x" * 5000, [], {}, [[]], 0),
    *("\x1b[31mred\x1b]0;title\x07", "<script>alert(1)</script>", "\u202eder", "\ud800", "\0"),
    *([{"prompt": ["x"]}], {"a": {"b": {}}}, "9" * 5000, "1e999", "-0", "--help", "a\nSeed: 1"),
)
SIZES = ((64, 64), (16, 40), (33, 17), (1, 1), (64, 1), (300, 8))
LINKS = ("model", "positive", "negative", "latent_image")
FORMATS = {
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "GIF": ("P", "L", "RGB"),
    "TIFF": ("RGB", "RGBA", "L", "P", "1", "CMYK", "I", "F", "I;16", "LAB", "YCbCr"),
    "BMP": ("RGB", "L", "P", "1"),
    "PPM": ("RGB", "L", "1", "I;16"),
    "TGA": ("RGB", "RGBA", "L", "P"),
    "QOI": ("RGB", "RGBA"),
    "ICO": ("RGBA",),
    "PCX": ("RGB", "L", "P", "1"),
    "SGI": ("RGB", "RGBA", "L"),
    "JPEG2000": ("RGB", "RGBA", "L"),
}


def texts(rng: random.Random, *, bent: bool) -> dict[str, str]:
    """What programs write into images; bent: with values of the wrong kind."""
    forms: dict[str, object] = {
        "parameters": rng.choice([A1111, FOOOCUS]),
        "invokeai_metadata": INVOKEAI,
        "gcr": OURS,
        "prompt": GRAPH,
        "workflow": GRAPH,
        "sd-metadata": OLD_INVOKEAI,
    }
    chosen = rng.sample(sorted(forms), k=rng.randrange(1, 4))
    written = {}
    for key in chosen:
        form = forms[key]
        if bent and not isinstance(form, str):
            for _ in range(rng.randrange(1, 5)):
                form = _with_odd_value(form, rng)
        text = form if isinstance(form, str) else json.dumps(form)
        text = _bent_text(text, rng) if bent and rng.random() < 0.5 else text
        written[key] = text.encode(errors="replace").decode()
    return written


def _with_odd_value(value: object, rng: random.Random) -> object:
    """A copy of a JSON value in which one value, somewhere, is another."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: _with_odd_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], _with_odd_value(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


def _bent_text(text: str, rng: random.Random) -> str:
    a, b = sorted(rng.choices(range(len(text) + 1), k=2))
    odd = rng.choice([value for value in ODD if isinstance(value, str)])
    return rng.choice(
        [
            text[:a],
            text[:a] + odd + text[b:],
            text[:a] + text[a:b] * rng.randrange(300) + text[b:],
            text.replace(rng.choice([":", ",", '"', "\n", " "]), odd),
            "[" * 20_000 + text,
            text + "\n" + text,
        ]
    )


def _painted(mode: str, size: tuple[int, int], rng: random.Random) -> Image:
    from PIL import Image

    base = Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1]))
    if mode == "I;16":
        return Image.frombytes("I;16", size, rng.randbytes(2 * size[0] * size[1]))
    if mode == "LA":
        return base.convert("RGBA").convert("LA")
    if mode == "LAB":
        return Image.frombytes("LAB", size, rng.randbytes(3 * size[0] * size[1]))
    return base.convert(mode)


def whole(rng: random.Random, *, bent: bool = False) -> tuple[str, bytes]:
    """A file of any format that is as it should be; bent: but for what its texts say."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    # Half of them PNG, JPEG and WebP: they are what people have, and what carries texts.
    common = ("PNG", "JPEG", "WEBP", "PNG")
    kind = rng.choice(common if bent else [*FORMATS, *common * 3])
    size = rng.choice(SIZES[:3] if kind == "ICO" else SIZES)
    image, options = _painted(rng.choice(FORMATS[kind]), size, rng), {}
    if kind == "PNG":
        info = PngInfo()
        for key, text in texts(rng, bent=bent).items():
            rng.choice([info.add_text, info.add_itxt, partial(info.add_text, zip=True)])(key, text)
        options["pnginfo"] = info
    if kind in ("JPEG", "WEBP", "PNG", "TIFF", "AVIF") and (bent or rng.random() < 0.7):
        exif = Image.Exif()
        exif[0x0112] = rng.choice([0, 1, 3, 6, 8, 9, 65535])
        for key, text in texts(rng, bent=bent).items():
            if key == "parameters":
                code = rng.choice([b"UNICODE\0", b"ASCII\0\0\0", bytes(8), b"JIS\0\0\0\0\0", b""])
                coded = text.encode("utf-16-be" if code[:1] == b"U" else "utf-8", "replace")
                exif.get_ifd(0x8769)[0x9286] = code + coded[: rng.choice([3, 60_000])]
            else:
                exif[rng.choice([0x010E, 0x010F, 0x0110])] = f"{key}:{text}"[:60_000]
        packed = exif.tobytes()
        if kind != "TIFF" and len(packed) < 2**16 - 10:  # a JPEG has room for no more
            options["exif"] = packed
    if kind in ("GIF", "WEBP", "PNG", "TIFF") and rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [image.copy()] * 3}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return kind, file.getvalue()


def _bent(content: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.choices(range(len(content) + 1), k=2))
    head = rng.randrange(min(64, len(content)))
    number = struct.pack(">I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 65536, rng.getrandbits(32)]))
    return rng.choice(
        [
            content[:a],
            content[:a] + content[b:],
            content[:b] + content[a:],
            content[:a] + rng.randbytes(rng.randrange(1, 40)) + content[a:],
            content[:head] + rng.randbytes(1) + content[head + 1 :],
            content[:head] + number + content[head + 4 :],
            content[:a] + number + content[a + 4 :],
            content[:a] + bytes(b - a) + content[b:],
            _flipped(content, rng),
        ]
    )


def _flipped(content: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 3, 20, 200])):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _bent_chunks(content: bytes, rng: random.Random) -> bytes:
    """A PNG with chunks changed, swapped, repeated or left out, and right checksums."""
    chunks, at = [], len(PNG)
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(chunks))
        kind, inside = chunks[place]
        match rng.randrange(5):
            case 0 if inside:
                chunks[place] = kind, _bent(inside, rng)
            case 1:
                chunks.insert(rng.randrange(len(chunks)), (kind, inside))
            case 2:
                other = rng.choice([b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"zTXt"])
                chunks.insert(place, (other, rng.randbytes(rng.randrange(60))))
            case 3 if len(chunks) > 1:
                del chunks[place]
            case _:
                chunks[place] = rng.choice([b"tEXt", b"iTXt", b"IDAT", b"iCCP"]), inside
    return PNG + b"".join(chunk(kind, inside) for kind, inside in chunks)


def _header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def _pixels(width: int, height: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _png(*between: bytes) -> bytes:
    return _header(16, 16) + b"".join(between) + _pixels(16, 16)


def _zipped(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()


def _endless_ifd() -> bytes:
    """A TIFF whose list of directories leads back to its beginning."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 256, 4, 1, 64) + struct.pack("<I", 8)


def crafted() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Files that are made to do harm, each with what makes it at a path."""

    def holding(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(content() if callable(content) else content)

    yield "a header of 65,535 by 65,535 pixels", holding(_header(65535, 65535) + _pixels(1, 1))
    yield "a header of 2^31 by 2^31 pixels", holding(_header(2**31 - 1, 2**31 - 1) + _pixels(1, 1))
    yield "no pixels at all", holding(_header(0, 0) + _pixels(1, 1))
    yield "89 megapixels that are there", holding(lambda: _header(9400, 9500) + _pixels(9400, 9500))
    yield "90 megapixels", holding(lambda: _header(9500, 9500) + _pixels(9500, 9500))
    yield "pixels of 16 bits", holding(_header(64, 64, 16, 0) + _pixels(64, 64))
    for name, keyword in (("zTXt", b"k\0\0"), ("iTXt", b"k\0\1\0\0\0"), ("iCCP", b"k\0\0")):
        yield (
            f"{name} that unpacks to 256 MiB",
            holding(
                partial(lambda n, k: _png(chunk(n, k + _zipped(2**28))), name.encode(), keyword)
            ),
        )
        yield (
            f"60 of {name} of 1 MiB each",
            holding(
                partial(
                    lambda n, k: _png(*[chunk(n, k + _zipped(2**20)) for _ in range(60)]),
                    name.encode(),
                    keyword,
                )
            ),
        )
    yield "100,000 texts", holding(lambda: _png(chunk(b"tEXt", b"k\0v") * 100_000))
    yield (
        "100,000 texts of other names",
        holding(lambda: _png(*[chunk(b"tEXt", b"k%d\0v" % i) for i in range(100_000)])),
    )
    yield (
        "a text of 200 MiB",
        holding(lambda: _png(chunk(b"tEXt", b"parameters\0" + b"x" * 200 * 2**20))),
    )
    yield (
        "a text of 1 MiB of commas",
        holding(lambda: _png(chunk(b"tEXt", b"parameters\0p\n" + b"a: b," * 200_000))),
    )
    yield (
        "a text of 1 MiB of brackets",
        holding(lambda: _png(chunk(b"tEXt", b"prompt\0" + b"[" * 2**20))),
    )
    yield (
        "a million settings",
        holding(lambda: _png(chunk(b"tEXt", b"parameters\0p\nSteps: 1, " + b'"' * 500_000))),
    )
    yield (
        "a graph that leads to itself",
        holding(
            lambda: _png(
                chunk(
                    b"tEXt",
                    b"prompt\0"
                    + json.dumps(
                        {
                            "3": {
                                "class_type": "KSampler",
                                "inputs": {name: ["3", 0] for name in LINKS},
                            }
                        }
                    ).encode(),
                )
            )
        ),
    )
    yield "a TIFF that leads back to its beginning", holding(_endless_ifd())
    yield (
        "a TIFF with 65,535 entries",
        holding(b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\4\0\1\0\0\0\xff\xff\xff\0" * 65535),
    )
    yield (
        "a GIF of 65,535 by 65,535",
        holding(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\1D\0;"),
    )
    yield "a PPM of huge size", holding(b"P6 2000000000 2000000000 255\n")
    yield "a PPM with a number of a million digits", holding(b"P6 " + b"9" * 1_000_000)
    yield (
        "a BMP with negative size",
        holding(
            b"BM"
            + struct.pack("<IIIIiiHHIIIIII", 100, 0, 54, 40, -64, -64, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
    )
    yield "an ICO with 65,535 entries", holding(b"\0\0\1\0\xff\xff" + bytes(16) * 65535)
    yield "PostScript", holding(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n")
    yield "SVG", holding(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")
    yield "a page", holding(b"<html><script>alert(1)</script></html>")
    yield "a pickle", holding(b"cos\nsystem\n(S'touch canary'\ntR.")
    yield "an archive", holding(b"PK\3\4" + bytes(100))
    yield "nothing", holding(b"")
    yield "noise", holding(random.Random(1).randbytes(100_000))
    yield "a folder", lambda path: path.mkdir()
    yield "a pipe", os.mkfifo
    yield "a link to itself", lambda path: path.symlink_to(path)
    yield "a link to nothing", lambda path: path.symlink_to("/nonexistent")
    yield "a link to a device without end", lambda path: path.symlink_to("/dev/zero")
    yield "a link to a terminal", lambda path: path.symlink_to("/dev/tty")
    yield "no file", lambda _: None


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def attempt(case: tuple[str, int, int], place: Path) -> list[Result]:
    """Make one file and have all readers read it. case: what is done to it, seed, number."""
    kind, seed, number = case
    rng = random.Random(f"{seed} image {number}")
    path = place / "image.png"
    _clear(path)
    if kind == "made to do harm":
        every = list(crafted())
        name, make = every[number % len(every)]
        make(path)
    else:
        form, content = whole(rng, bent=kind == "texts bent")
        name = f"{form} {number}"
        if kind == "bytes bent":
            for _ in range(rng.choice([1, 1, 2, 5])):
                content = _bent(content, rng) or b"x"
        if kind == "chunks bent":
            while form != "PNG":
                form, content = whole(rng)
            content = _bent_chunks(content, rng)
        path.write_bytes(content)
    outcome, failure = _outcome(path)
    if failure:
        failure = f"{name} (seed {seed}, number {number}): {failure}"
    return [(kind, outcome, failure)]


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _outcome(path: Path) -> tuple[str, str]:
    """What came of reading a file in every way, and what was wrong with that."""
    from gcr.cli.app import run
    from gcr.engine.requests import begin_from
    from gcr.inputs import source

    with redirect_stderr(io.StringIO()):  # a warning of its size
        image, failure = _tried(lambda: source.read(path))
    if image is not None and (image.mode != "RGB" or image.width * image.height > MOST_PIXELS):
        failure = f"read as {image.mode} of {image.size}"
    shown: list[str | None] = []
    for arguments in (["info", str(path)], ["info", "--json", str(path)]):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code, wrong = _tried(lambda arguments=arguments: run(arguments))
        failure = failure or wrong
        if CONTROL.search(out.getvalue() + err.getvalue()):
            failure = f"control characters shown by gcr {' '.join(arguments[:-1])}"
        failure = failure or err.getvalue()[:200]
        shown.append(None if code is None else out.getvalue())
    if shown[1] is not None:
        json.loads(shown[1], parse_constant=_no_number)
    if shown[0] is None:
        return "refused", failure
    begun, wrong = _tried(lambda: begin_from(path, None, {}, edit=False))
    if begun is not None and not isinstance(begun.prompt, str):
        wrong = f"a prompt of type {type(begun.prompt).__name__}"
    return f"read, with{'out' if begun is None else ''} a prompt", failure or wrong


def _tried(work: Callable[[], Any]) -> tuple[Any, str]:
    """What some work comes to, None where it is refused; and what is wrong with how it is."""
    from gcr.errors import UsageError

    try:
        return work(), ""
    except UsageError as error:
        wrong = "\n" in error.message or not error.hint
        return None, f"an unclear error: {error.message!r}" if wrong else ""


def _no_number(name: str) -> None:
    raise ValueError(f"{name} in what gcr info --json prints")


def run(place: Path, seed: int, scale: float, tally: Tally) -> None:
    from gcr.ui import logs

    logs.set_up(verbose=False, quiet=False)
    harmful = len(list(crafted()))
    count = max(10, round(FILES * scale) - harmful)
    kinds = ("bytes bent", "texts bent", "chunks bent", "bytes bent")
    cases = [("made to do harm", seed, number) for number in range(harmful)]
    cases += [(kinds[number % len(kinds)], seed, number) for number in range(count)]
    random.Random(f"{seed} images").shuffle(cases)
    os.chdir(place)
    in_children(
        cases, partial(attempt, place=place), tally, Limits(processor=20, memory=2 * 1024**3)
    )
