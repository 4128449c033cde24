"""Models that are one file: checkpoints, LoRAs and VAEs as A1111, ComfyUI and Civitai have them.

Only safetensors are read; what else such files come in is pickled, or in a format of its own, and
is refused by name. What a file holds is told from its header, before any weight is read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gcr.core.background import in_background
from gcr.core.phrases import nearest
from gcr.errors import GcrError, ModelError, UsageError
from gcr.files import paths, structured
from gcr.files.atomic import write_json
from gcr.files.locks import turn
from gcr.files.structured import MalformedError
from gcr.hub.vetting import OTHER_WEIGHTS, PIPELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

logger = logging.getLogger(__name__)

ENDING = ".safetensors"
DENOISERS = ("transformer", "unet")
"""How pipelines call the part that is in every checkpoint of one file."""
OF_FILES = (*DENOISERS, "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Parts that may be in such a file."""
NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that are in no such file, and left out with one."""
SHARE_READ_AHEAD = 0.5
"""Of the memory that is available; what is loaded meanwhile has the rest."""
READ_AT_ONCE = 64 * 1024**2  # bytes
MOST_FILES = 10_000
"""Of a folder of LoRAs."""
CONVERT = (
    "A1111's Checkpoint Merger and ComfyUI's Save Checkpoint write .safetensors; most models are "
    "offered in that format, too"
)
SMALL = (
    "take it in 16 bits: as .safetensors, or by its hub id, which --quantize-generator nf4 makes "
    "as small"
)
DRAWS = {
    "v1": "Stable Diffusion 1.5",
    "v2": "Stable Diffusion 2.1",
    "xl_base": "SDXL",
    "playground-v2-5": "Playground 2.5",
    "sd3": "Stable Diffusion 3",
    "sd35_medium": "Stable Diffusion 3.5 medium",
    "sd35_large": "Stable Diffusion 3.5 large",
    "flux-dev": "FLUX.1 dev",
    "flux-schnell": "FLUX.1 schnell",
    "flux-2-dev": "FLUX.2 dev",
    "chroma": "Chroma",
    "auraflow": "AuraFlow",
    "lumina2": "Lumina 2",
    "sana": "Sana",
    "z-image-turbo": "Z-Image",
    "qwen-image-2.1": "Qwen-Image-2.1",
    "krea2": "Krea 2",
}
"""Families that draw from text, by diffusers' names; those that it tells from a file's weights."""
SCALED = (
    *(".absmax", ".scale_weight", ".weight_scale", ".weight_scale_2", "scaled_fp8"),
    *(".comfy_quant", ".qweight", ".wscales"),
)
"""How keys end of weights that are quantized in a way that diffusers does not read."""


class Sign(NamedTuple):
    """A family by a weight of which diffusers makes another one, or none.

    kind: what diffusers makes of it. width: the last number of that weight's shape; None: any.
    """

    kind: str
    key: str
    width: int | None
    family: str
    config: str


WHOLE = "model.diffusion_model."
"""How the keys of the denoiser begin in checkpoints that have more parts."""
MODULATION = "single_stream_modulation.lin.weight"
SIGNS = (
    Sign("flux-2-dev", MODULATION, 3072, "FLUX.2 klein 4B", "black-forest-labs/FLUX.2-klein-4B"),
    Sign("flux-2-dev", MODULATION, 4096, "FLUX.2 klein 9B", "black-forest-labs/FLUX.2-klein-9B"),
    Sign("v1", "transformer_blocks.0.img_mod.1.weight", None, "Qwen-Image", "Qwen/Qwen-Image"),
    Sign(
        "v1",
        f"{WHOLE}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        2048,
        "SDXL",
        "stabilityai/stable-diffusion-xl-base-1.0",
    ),
)
NEEDED = {
    "v1": (f"{WHOLE}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 768),
    "sana": ("blocks.0.mlp.inverted_conv.conv.weight", None),
}
"""A weight of families for which diffusers takes others, too, and the last number of its shape."""
NOT_DRAWING = (
    *("inpainting", "xl_inpaint", "xl_refiner", "upscale", "instruct-pix2pix", "flux-fill"),
    *("flux-depth", "controlnet", "z-image-turbo-controlnet", "animatediff", "autoencoder"),
    *("wan", "ltx", "mochi", "hunyuan-video", "cosmos-1.0"),
)
"""How diffusers' names begin of what draws no image from text alone."""
ELSEWHERE = (
    (r"lora_(down|up|A|B)|lora\d?\.(down|up)|\.lokr_|\.hada_", "a LoRA", "give it with --lora"),
    (
        r"emb_params|string_to_param|clip_[lg]$",
        "an embedding",
        "give a checkpoint: gcr reads no embeddings",
    ),
    (r"^(first_stage_model\.)?decoder\.(conv_in|middle)", "a VAE", "give it with --vae"),
    (
        r"^((text_)?model\.)?(embeddings|embed_tokens)\.|^shared\.weight|^encoder\.block\.0\.",
        "a text encoder",
        "give the denoiser's file: what is not in it comes from its pipeline, which --config names",
    ),
)
"""What files are that do not draw: how some of their keys look, and where they go."""
LORA_KEY = re.compile(r"lora_(?:down|up|A|B)|lora\d?\.(?:down|up)|\.lokr_|\.alpha$")
OTHER_ADAPTERS = {
    ".hada_": "a LoHa, which diffusers does not load",
    "dora_scale": "a DoRA, of whose weights diffusers leaves half out, so that it draws otherwise",
    ".oft_": "an OFT, which diffusers does not load",
    ".on_input": "an (IA)³, which diffusers does not load",
    ".b1.weight": "a GLoRA, which diffusers does not load",
}
"""What LyCORIS makes besides LoRAs and LoKrs, by what its keys hold."""


class Header(NamedTuple):
    """What a safetensors file says of itself: the shapes of its weights by their keys, and what
    its maker wrote about it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    about: Mapping[str, str]


class SingleFile(NamedTuple):
    """A checkpoint in one file.

    Attributes:
        path: of the file.
        family: what it is, for people; empty where --config says it.
        config: hub id or folder of the pipeline that it is of.
        keys: of its weights.
    """

    path: Path
    family: str
    config: str
    keys: Collection[str]


class LoraFile(NamedTuple):
    """A LoRA in its file. name: as prompts call it."""

    name: str
    path: Path
    scale: float


def is_file(model: str) -> bool:
    """Whether a model is given as one file: one that there is, or by how it ends."""
    path = paths.expanded(model)
    return paths.is_file(path) or (
        path.suffix.lower() in {ENDING, *OTHER_WEIGHTS} and not paths.is_folder(path)
    )


def check(model: str, what: str) -> Path:
    """The path of a file of weights. Raises UsageError for one that is not there, or not read.

    what: it is to be, for messages.
    """
    path = paths.expanded(model)
    if path.suffix.lower() != ENDING:
        kind = "is pickled, and loading it could run any program"
        if path.suffix.lower() in {".gguf", ".onnx", ".npz", ".h5", ".msgpack"}:
            kind = "is in a format that is not read"
        elif path.suffix.lower() not in OTHER_WEIGHTS:
            kind = f"is no {ENDING}"
        hint = SMALL if path.suffix.lower() == ".gguf" else CONVERT
        raise UsageError(f"{model} {kind}, so it cannot be {what}", hint)
    if not paths.is_file(path):
        raise UsageError(f"there is no file {model}", f"check the path of {what}")
    return path


def header(path: Path, what: str) -> Header:
    """Read the header alone. Raises ModelError for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            return Header(shapes, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{what} {path} is damaged: {error}", "download it again") from error


# Checkpoints


def single_file(model: str, config: str = "") -> SingleFile:
    """What a checkpoint in one file is. config: as --config has it.

    Raises UsageError for a file that is refused, and for one whose family cannot be told;
    ModelError for one that does not draw.
    """
    path = check(model, "the generator")
    shapes, _ = header(path, "the checkpoint")
    if scaled := next((key for key in shapes if key.endswith(SCALED)), ""):
        raise ModelError(
            f"{model} is quantized in a way that diffusers does not read: it has {scaled}",
            "take the same model in 16 bits",
        )
    if config:
        return SingleFile(path, "", config, shapes.keys())
    from diffusers.loaders import single_file_utils as known

    try:
        kind = known.infer_diffusers_model_type(_Shapes(shapes))
    except (LookupError, TypeError, ValueError, AttributeError, UnboundLocalError):
        kind = ""  # of weights that are not as it takes for granted
    for sign in SIGNS:
        if kind == sign.kind and any(
            _has(shapes, prefix + sign.key, sign.width) for prefix in ("", WHOLE)
        ):
            return SingleFile(path, sign.family, sign.config, shapes.keys())
    if not kind or (kind in NEEDED and not _has(shapes, *NEEDED[kind])):
        raise _unknown(path, shapes)
    if kind.startswith(NOT_DRAWING):
        raise ModelError(
            f"diffusers takes {model} for {kind}, which does not draw an image from text alone",
            "give a text-to-image checkpoint; if it is one, --config names its pipeline",
        )
    if kind not in DRAWS:
        raise ModelError(
            f"diffusers takes {model} for {kind}, of which no checkpoint in one file is read",
            "give the folder or the hub id of its pipeline with -m",
        )
    place = known.DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return SingleFile(path, DRAWS[kind], place, shapes.keys())


def _unknown(path: Path, shapes: Mapping[str, object]) -> UsageError:
    """What is said of a file whose family is not known: what it is, if that can be told."""
    for pattern, what, hint in ELSEWHERE:
        if any(re.search(pattern, key) for key in shapes):
            return UsageError(f"{path} is {what}, and no checkpoint", hint)
    folder = path.absolute().parent.parent
    if (folder / PIPELINE).is_file():
        return UsageError(f"{path} is one part of a pipeline", f"give its folder: -m {folder}")
    return UsageError(
        f"the weights in {path} are of no family that is known here",
        "--config names the pipeline that they are of, by hub id or folder",
    )


class _Shape(NamedTuple):
    shape: tuple[int, ...]


class _Shapes(dict[str, _Shape]):
    """As diffusers takes a checkpoint to tell its family."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__({key: _Shape(shape) for key, shape in shapes.items()})


def _has(shapes: Mapping[str, tuple[int, ...]], key: str, width: int | None) -> bool:
    """Whether there is a weight of this name, and of this width, if one is given."""
    return key in shapes and (width is None or shapes[key][-1:] == (width,))


def parts_held(keys: Collection[str], index: Mapping[str, object]) -> set[str]:
    """The parts of a pipeline whose weights are in a file, and those that are not needed with one.

    index: the pipeline's model_index.json.
    """
    from diffusers.loaders import single_file_utils as known

    held = {*DENOISERS, *NOT_NEEDED}
    if any(key.startswith(("first_stage_model.", "vae.")) for key in keys):
        held.add("vae")
    tests = {
        "text_encoder": (known.is_clip_model, known.is_clip_sdxl_model, known.is_clip_sd3_model),
        "text_encoder_2": (known.is_open_clip_sdxl_model, known.is_open_clip_sd3_model),
    }
    for part, value in index.items():
        kind = str(value[1]) if isinstance(value, list) and len(value) == 2 else ""
        if kind == "T5EncoderModel" and known.is_t5_in_single_file(dict.fromkeys(keys)):
            held.add(part)
        if kind.startswith("CLIPTextModel"):
            checks = tests.get(part, ())
            if part == "text_encoder":
                checks = (*checks, known.is_open_clip_model)
            if any(has(dict.fromkeys(keys)) for has in checks):
                held.add(part)
    return held


# LoRAs


def lora_file(path: Path, name: str, scale: float) -> LoraFile:
    """A LoRA, whose header was looked at. Raises UsageError for what is none."""
    check(str(path), "a LoRA")
    shapes, _ = header(path, "the LoRA")
    for mark, what in OTHER_ADAPTERS.items():
        if any(mark in key for key in shapes):
            raise ModelError(f"{path} is {what}", "take a LoRA")
    if not any(LORA_KEY.search(key) for key in shapes):
        raise UsageError(
            f"{path} is no LoRA: none of its weights is named like one",
            "a whole checkpoint goes with -m, a VAE with --vae",
        )
    return LoraFile(name, path, scale)


def find_lora(name: str, scale: float, folder: str, *, elsewhere: bool = False) -> LoraFile:
    """The LoRA that a prompt names, in a folder or a folder of that.

    elsewhere: the name may be a path of another machine, of which the last part counts, too.
    Raises UsageError, with the nearest name, where there is none.
    """
    tag = f"<lora:{name}:{scale:g}>"
    if not folder:
        raise UsageError(
            f"the prompt names a LoRA, {tag}, and nothing says where it is",
            "--lora-dir names the folder of LoRAs; or leave the tag out",
        )
    root = paths.expanded(folder)
    if not paths.is_folder(root):
        raise UsageError(f"--lora-dir {folder} is no folder", "check the path")
    known: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for number, path in enumerate(sorted(root.rglob("*"))):
        if number >= MOST_FILES:
            raise UsageError(f"{folder} has more than {MOST_FILES} files", "name a smaller folder")
        ending = path.suffix.lower()
        place = known if ending == ENDING else others if ending in OTHER_WEIGHTS else None
        if place is not None:
            relative = path.relative_to(root).with_suffix("").as_posix()
            for spelling in (relative, path.stem, relative.casefold(), path.stem.casefold()):
                place.setdefault(spelling, path)
    spellings = [name, name.casefold()]
    spellings += [each.rpartition("/")[2] for each in spellings if elsewhere]
    for spelling in spellings:
        if spelling in known:
            return lora_file(known[spelling], name, scale)
        if spelling in others:
            check(str(others[spelling]), "a LoRA")
    similar = nearest(name, {path.stem for path in known.values()})
    hint = f"did you mean <lora:{similar}:{scale:g}>?" if similar else ""
    listed = ", ".join(sorted({path.stem for path in known.values()})[:8])
    raise UsageError(
        f"there is no LoRA {name!r} in {folder}, for {tag}",
        hint or (f"there are: {listed}" if listed else f"it holds no {ENDING}"),
    )


def made_for(lora: LoraFile) -> str:
    """The model that a LoRA was made for, as its maker wrote it down; empty where nobody did."""
    _, about = header(lora.path, "the LoRA")
    keys = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name", "ss_base_model")
    return next((about[key] for key in keys if about.get(key)), "")


# Hashes, as A1111 and Civitai name models by


class Hashes(NamedTuple):
    """sha256 of a file, and of its weights alone, in hexadecimal digits: that stays as it is where
    remarks in the header are new.
    """

    whole: str
    weights: str


_ahead: dict[Path, Callable[[], Hashes]] = {}


def hash_ahead(files: Mapping[str, Path]) -> None:
    """Begin to compute the hashes of files in another thread: of a large one it takes seconds."""
    for path in files.values():
        _ahead[path] = in_background(partial(_hashes, path))


def hashes(path: Path) -> Hashes:
    """The hashes of a file: kept by its size and time, so that a large one is read once."""
    begun = _ahead.pop(path, None)
    return begun() if begun else _hashes(path)


def _hashes(path: Path) -> Hashes:
    about = path.stat()
    key, stamp = str(path.resolve()), [about.st_size, about.st_mtime_ns]
    store = paths.cache_folder() / "hashes.json"
    kept = _kept(store).get(key)
    if isinstance(kept, list) and kept[:2] == stamp and len(kept) == 4:
        return Hashes(*kept[2:])
    whole, weights = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(8)
        whole.update(start)
        whole.update(file.read(int.from_bytes(start, "little")))
        while block := file.read(1 << 20):
            whole.update(block)
            weights.update(block)
    made = Hashes(whole.hexdigest(), weights.hexdigest())
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with turn(store.parent):
            write_json(store, {**_kept(store), key: [*stamp, *made]}, indent=0)
    except (OSError, GcrError) as error:
        logger.warning("the hash of %s is not kept, and made anew each time: %s", path, error)
    return made


def _kept(store: Path) -> dict[str, object]:
    try:
        kept = structured.record(store)
    except (OSError, MalformedError):
        return {}  # it is made again
    return kept if isinstance(kept, dict) else {}


# Reading before it is needed


@contextmanager
def reading_ahead(files: Iterable[Path]) -> Iterator[None]:
    """Have Linux read files into its cache meanwhile, in another thread, so that what loads them
    then need not wait for the disk.

    It stops where memory gets short, and with what is done meanwhile.
    """
    is_over = threading.Event()
    if sys.platform == "linux":
        import psutil

        most = round(psutil.virtual_memory().available * SHARE_READ_AHEAD)
        in_background(partial(_read_ahead, tuple(files), most, is_over))
    try:
        yield
    finally:
        is_over.set()


def _read_ahead(files: Iterable[Path], most: int, is_over: threading.Event) -> None:
    """most: bytes to read."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - it has no path to speak of
        for path in files:
            try:
                with path.open("rb") as file:
                    # Which copies nothing: plain reads took the processor a second for each GB.
                    while most > 0 and not is_over.is_set():
                        block = min(READ_AT_ONCE, most)
                        read = os.sendfile(nowhere.fileno(), file.fileno(), None, block)
                        if not read:
                            break
                        most -= read
            except OSError as error:  # which whoever loads the file meets as well
                logger.info("%s is not read ahead: %s", path, error)
