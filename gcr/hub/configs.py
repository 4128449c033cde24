"""What configs of checkpoints may say: classes of the two libraries, and sizes of something real.

Pure data: nothing is opened here. What the files must be is the matter of `gcr.hub.vetting`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gcr.errors import ModelError

Json = Mapping[str, Any]

PIPELINE = "model_index.json"
DAMAGED_HINT = "download it again"
CODE_HINT = "take a checkpoint that transformers or diffusers have the code for"
DEPTH_MOST = 64

NUMBER_MOST = 1 << 31
COUNT_MOST = 2048
EDGE_MOST = 8192  # pixels
AREA_MOST = 1 << 28  # pixels; Qwen-VL names areas where others name edges
COUNTS = re.compile(r"(layers|blocks|depths?|stages|layers_per_block)$|num_(layers|blocks|stages)")
EDGES = frozenset(("height", "width", "size", "image_size", "crop_size"))
SAMPLE_MOST = 2048  # pixels of latents, for each of which a transformer makes a place
AREAS = frozenset(("shortest_edge", "longest_edge", "min_pixels", "max_pixels"))
UNLIMITED = "model_max_length"  # 10 ** 30 in many a tokenizer_config.json


def parts(index: Json, model: str) -> dict[str, str]:
    """The parts that the index of a pipeline names, and the class of each.

    Raises ModelError for a class that is not of diffusers or transformers.
    """
    if not isinstance(index.get("_class_name"), str) or "custom_pipeline" in index:
        raise needs_code(model, f"{PIPELINE} names a pipeline of its own")
    named = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if len(value) != 2 or not name.isidentifier():
            raise ModelError(f"{PIPELINE} of {model} has a part that is none: {name}", DAMAGED_HINT)
        library, kind = value
        if library is None:
            continue
        if not isinstance(library, str) or not isinstance(kind, str):
            raise ModelError(f"{PIPELINE} of {model} has a part that is none: {name}", DAMAGED_HINT)
        if not _is_known(library):
            raise needs_code(model, f"{PIPELINE} takes {name} from {library}")
        if kind.endswith("Pipeline") or "Onnx" in kind:
            raise ModelError(
                f"{PIPELINE} of {model} has a part that cannot be checked: {name}, a {kind}",
                "take a pipeline whose parts are models",
            )
        named[name] = kind
    return named


def needs_code(model: str, where: str) -> ModelError:
    return ModelError(f"{model} needs code of its own, and gcr runs none: {where}", CODE_HINT)


def _is_known(library: str) -> bool:
    """Whether a library is one of the two, or a package of diffusers for one pipeline's parts."""
    if library in {"diffusers", "transformers"}:
        return True
    if not library.isidentifier():
        return False
    from importlib.util import find_spec

    return find_spec(f"diffusers.pipelines.{library}") is not None


def check(config: Json, name: str, model: str) -> None:
    """Raise ModelError for a config that names a kernel to be fetched, or sizes that cannot be.

    name: of the file, for messages.
    """
    for path, value in _leaves(config):
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        if key.endswith(("_implementation", "_implementation_internal")) and "/" in str(value):
            raise needs_code(model, f"{name} names a kernel, {value}")
        if excess := _excess(key, value):
            raise ModelError(
                f"{name} of {model} has {'.'.join(map(str, path))}: {value}, {excess}",
                "take another checkpoint: nothing real is that large",
            )


def is_too_deep(config: Json) -> bool:
    return any(len(path) > DEPTH_MOST for path, _ in _leaves(config))


def _leaves(value: object) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """All that is no list and no mapping in a value of JSON, and the path to each."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if len(path) > DEPTH_MOST or not isinstance(item, dict | list):
            yield path, item
            continue
        steps = item.items() if isinstance(item, dict) else enumerate(item)
        waiting += [((*path, step), inner) for step, inner in steps]


def _excess(key: str, value: object) -> str:
    """Why a number of a config cannot be meant; empty if it can."""
    if isinstance(value, bool) or not isinstance(value, int) or key == UNLIMITED:
        return ""
    if abs(value) >= NUMBER_MOST:
        return "which is no size of anything"
    if COUNTS.search(key):
        most = COUNT_MOST
    elif key == "sample_size":
        most = SAMPLE_MOST
    elif key in EDGES:
        most = EDGE_MOST
    else:
        most = AREA_MOST if key in AREAS else NUMBER_MOST
    return f"over {most}" if value > most else ""
