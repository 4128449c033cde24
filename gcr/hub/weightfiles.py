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
from gcr.hub.vetting import OTHER_WEIGHTS

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
SCALED = (".absmax", ".scale_weight", ".weight_scale", ".weight_scale_2", "scaled_fp8")
"""How keys end of weights that are quantized in a way that diffusers does not read."""
CROSS_ATTENTION = re.compile(
    r"(?:down_blocks|input_blocks|mid_block|middle_block).*attn2[._]to_k(?:_lora)?[._]"
    r"(?:lora_down|lora_A|lora\.down|down)(?:\.default)?\.weight$"
)
LORA_KEY = re.compile(r"lora_(?:down|up|A|B)|lora\.(?:down|up)|\.lokr_|\.alpha$")


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
        raise UsageError(f"{model} {kind}, so it cannot be {what}", CONVERT)
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

    kind = known.infer_diffusers_model_type(_Shapes(shapes))
    if kind == "v1" and not _is_v1(shapes):
        raise UsageError(
            f"the weights in {model} are of no family that is known here",
            "--config names the pipeline that they are of, by hub id or folder; a LoRA goes with "
            "--lora, a VAE with --vae",
        )
    if kind not in DRAWS:
        raise ModelError(
            f"{model} is a {kind}, which does not draw an image from text alone",
            "give a text-to-image checkpoint; if it is one, --config names its pipeline",
        )
    place = known.DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    return SingleFile(path, DRAWS[kind], place, shapes.keys())


class _Shape(NamedTuple):
    shape: tuple[int, ...]


class _Shapes(dict[str, _Shape]):
    """As diffusers takes a checkpoint to tell its family."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__({key: _Shape(shape) for key, shape in shapes.items()})


def _is_v1(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it really is the family that diffusers takes all for that it does not know."""
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    return key in shapes and shapes[key][-1] == 768


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
    if any(".hada_" in key for key in shapes):
        raise ModelError(
            f"{path} is a LoHa, which diffusers does not load", "take a LoRA, or a LoKr"
        )
    if not any(LORA_KEY.search(key) for key in shapes):
        raise UsageError(
            f"{path} is no LoRA: none of its weights is named like one",
            "a whole checkpoint goes with -m, a VAE with --vae",
        )
    return LoraFile(name, path, scale)


def find_lora(name: str, scale: float, folder: str) -> LoraFile:
    """The LoRA that a prompt names, in a folder or a folder of that.

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
    spellings = (name, name.casefold())
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


def check_lora_family(lora: LoraFile, config: Mapping[str, object]) -> None:
    """Raise ModelError for a LoRA that was made for another family, as far as its header says so.

    config: of the denoiser that it is to change.
    """
    shapes, about = header(lora.path, "the LoRA")
    ours = config.get("cross_attention_dim")
    theirs = {shape[1] for key, shape in shapes.items() if CROSS_ATTENTION.search(key)}
    has_unet = "UNet" in str(config.get("_class_name"))
    is_unet = bool(theirs) or any("input_blocks" in key or "down_blocks" in key for key in shapes)
    if has_unet and theirs and isinstance(ours, int) and ours not in theirs:
        reads = f"it reads text of width {min(theirs)}, and the generator has {ours}"
    elif has_unet != is_unet:
        reads = "one is for a UNet, the other for a transformer"
    else:
        return
    made_for = about.get("modelspec.architecture") or about.get("ss_base_model_version")
    raise ModelError(
        f"the LoRA {lora.path.name} does not fit this generator: {reads}",
        f"it was made for {made_for}" if made_for else "take one that was made for its family",
    )


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
