"""4-bit NF4, and the copies of quantized critics on disk.

Only the language model is quantized: it holds nearly all of the weights, and what the small
vision tower and projector lose, the critic cannot see.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.files import paths
from gcr.hub.checkpoints import WITHOUT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

LISTING = "gcr-copy.json"
"""Written last into a copy: its files and their sizes in bytes."""

WORTH_KEEPING = 1024**2
"""Bytes of a quantized model from which a copy pays. Measured on two CPU cores, quantizing against
reading the copy: 0.5 MB 0.07 and 0.05 s; 2.5 MB 1.8 and 0.1 s; 58 MB 6.4 and 0.12 s."""

TILE_IN, TILE_OUT = 64, 32
"""bitsandbytes' kernels for a CPU take weights in tiles of this many columns and rows only."""


def nf4(config: Any, dtype: Any) -> Any:
    """How to quantize a model of this config; dtype: what its layers compute in."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=not_quantized(config),
    )


def not_quantized(config: Any) -> list[str]:
    """The names of what keeps its precision: all that is not the language model's layers."""
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    decoder = model.get_decoder()
    inside = next(name for name, module in model.named_modules() if module is decoder)
    names = _beside(model, inside) if inside else _known_parts(model)
    names += [
        name
        for name, module in decoder.named_modules(prefix=inside)
        if isinstance(module, torch.nn.Linear)
        and (module.in_features % TILE_IN or module.out_features % TILE_OUT)
    ]
    return names


def _beside(model: Any, inside: str) -> list[str]:
    """The modules that together are all of a model but the one at `inside`, a dotted path."""
    names: list[str] = []
    path = ""
    for step in inside.split("."):
        here = model.get_submodule(path)
        names += [f"{path}.{name}".lstrip(".") for name, _ in here.named_children() if name != step]
        path = f"{path}.{step}".lstrip(".")
    return names


def _known_parts(model: Any) -> list[str]:
    """Head and vision tower of a model that does not say which part is its decoder."""
    parts = (model.get_output_embeddings(), model.get_encoder(modality="image"))
    return [
        name
        for name, module in model.named_modules()
        if name and any(module is part for part in parts)
    ]


def pays(model: Any) -> bool:
    """Whether to keep a copy of a quantized model."""
    return bool(model.get_memory_footprint() >= WORTH_KEEPING)


def copy_of(checkpoint_version: str, device: str, dtype: str) -> Path:
    """The folder for the copy of one version of a checkpoint, made with these libraries."""
    libraries = [f"{name} {version(name)}" for name in ("bitsandbytes", "torch", "transformers")]
    made_of = [checkpoint_version, "nf4 double", device.partition(":")[0], dtype, *libraries]
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]
    return paths.cache_folder() / "critics" / key


def is_whole(copy: Path) -> bool:
    """Whether every file of a copy is there in its full size."""
    try:
        listing = json.loads((copy / LISTING).read_text(encoding="utf-8"))
        return all((copy / name).stat().st_size == size for name, size in listing.items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("the quantized copy in %s cannot be read: %s", copy, error)
        return False


@contextmanager
def turn(copy: Path) -> Iterator[None]:
    """Have others that need the same copy wait until it is written: threads and processes."""
    from filelock import FileLock

    place = paths.cache_folder() / "locks" / f"{copy.name}.lock"
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        # A folder that cannot be written, which `keep` warns of, or a system without locks.
        logger.info("no lock for the quantized copy in %s: %s", copy, error)
    try:
        yield
    finally:
        lock.release()


def give_up(copy: Path) -> None:
    """Have a copy that does not load count as none."""
    try:
        (copy / LISTING).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the quantized copy in %s cannot be removed: %s", copy, error)


def keep(model: Any, source: Path, copy: Path) -> None:
    """Write a copy that is a checkpoint of its own: all files of `source` but its weights, and
    the quantized ones. It appears under its name only when it is whole.

    A disk that is full or read-only is a warning: the model itself is loaded and well.
    """
    from safetensors import SafetensorError

    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=f"{copy.name}.") as name:
            unfinished = Path(name) / "copy"
            unfinished.mkdir()
            for pattern in WITHOUT_WEIGHTS:
                for file in source.glob(pattern):
                    shutil.copy(file, unfinished)
            model.save_pretrained(unfinished)
            sizes = {file.name: file.stat().st_size for file in unfinished.iterdir()}
            (unfinished / LISTING).write_text(json.dumps(sizes), encoding="utf-8")
            shutil.rmtree(copy, ignore_errors=True)
            unfinished.replace(copy)
    except (OSError, SafetensorError) as error:  # the latter for what its own writer meets
        logger.warning("the quantized critic was not kept in %s: %s", copy, error)
