"""What is refused of a checkpoint, before any library reads it.

A checkpoint may come from anybody. Of its files gcr reads weights in safetensors, and the JSON and
text that describe them; it runs no code, unpickles nothing, and follows no link out of the folder.
The libraries would ask in the terminal whether to run code, and trust every name in an index of
weights. So this module looks first. It imports nothing heavy and opens only plain files.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Json = Mapping[str, Any]

READ = (".json", ".jinja", ".txt", ".model", ".safetensors")
"""Endings of the files that are read of a checkpoint."""

OTHER_WEIGHTS = frozenset(
    (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pickle", ".pkl", ".pt", ".pth")
)
UNPICKLED = "spk_dict.pt"
"""The file of a Qwen2.5-Omni that transformers unpickles, whatever its weights are in."""

TEMPLATES = "additional_chat_templates"
DISTRIBUTED = re.compile(r"shard-\d{5}-model-")
MOST_ENTRIES = 10_000
MOST_TEXT_BYTES = 64 * 1024**2  # the largest tokenizers have half of that
MOST_CONFIG_BYTES = 8 * 1024**2
SAFE_HINT = "only safetensors are read: save it again in that format, or take another checkpoint"
LINK_HINT = "copy the file itself into the folder"

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MOST_RANK = 4096
PIPELINE = "model_index.json"
MODULAR = "modular_model_index.json"
DAMAGED_HINT = "download it again"
CODE_HINT = "take a checkpoint that transformers or diffusers have the code for"
MOST_DEPTH = 64

MOST_NUMBER = 1 << 31
MOST_COUNT = 2048
MOST_EDGE = 8192  # pixels
MOST_AREA = 1 << 28  # pixels; Qwen-VL names areas where others name edges
COUNTS = re.compile(r"(layers|blocks|depths?|stages|layers_per_block)$|num_(layers|blocks|stages)")
EDGES = frozenset(("height", "width", "size", "image_size", "crop_size"))
MOST_LATENT_SIDE = 2048  # pixels of latents, for each of which a transformer makes a place
AREAS = frozenset(("shortest_edge", "longest_edge", "min_pixels", "max_pixels"))
UNLIMITED = "model_max_length"  # 10 ** 30 in many a tokenizer_config.json


def check(folder: Path, model: str, *, is_pipeline: bool) -> None:
    """Raise ModelError for a checkpoint that needs code of its own, that has weights other than
    safetensors, or whose files are damaged.

    Arguments:
        folder: of the checkpoint.
        model: its name, for messages.
        is_pipeline: whether diffusers is to load it, rather than transformers.
    """
    checkpoint = _Checkpoint(folder, model)
    if is_pipeline:
        checkpoint.check_pipeline()
    else:
        checkpoint.check_part(folder, automatic=True)


def adapter_base(folder: Path, model: str) -> str:
    """The base model that a folder's LoRA adapter names; empty where the folder holds no adapter.

    Raises ModelError for an adapter of another kind, one whose weights are not in safetensors, and
    one whose config would have a module imported or memory taken without measure.
    """
    if not (folder / ADAPTER).is_file():
        return ""
    checkpoint = _Checkpoint(folder, model)
    files = checkpoint.files(folder)
    config = checkpoint.config(folder / ADAPTER)
    checkpoint.check_weights(files)
    if ADAPTER_WEIGHTS not in files:
        raise ModelError(f"{model} is an adapter without {ADAPTER_WEIGHTS}", SAFE_HINT)
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise ModelError(
            f"{model} is an adapter of the kind {kind or 'that it does not name'}, and gcr knows "
            "LoRA",
            "merge it into its base model, and save that",
        )
    if config.get("megatron_config"):
        raise needs_code(model, f"{ADAPTER} names it in megatron_config")
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    if not all(type(rank) is int and 0 < rank <= MOST_RANK for rank in ranks):
        raise ModelError(f"{model} has a rank that no adapter has: {ranks[0]}", DAMAGED_HINT)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise ModelError(
            f"{model} is an adapter that names no base model",
            f"write its hub id or folder into base_model_name_or_path of its {ADAPTER}",
        )
    return base.strip()


def has_weights(folder: Path) -> bool:
    """Whether there are weights in a folder, and all that its indices name."""
    for path in folder.rglob("*.safetensors.index.json"):
        named = json.loads(path.read_text(encoding="utf-8")).get("weight_map", {}).values()
        if not all((path.parent / name).exists() for name in set(named)):
            return False
    return any(folder.rglob("*.safetensors"))


def read_config(path: Path) -> dict[str, Any]:
    """The object in a configuration that was vetted. Raises OSError, and ValueError for no JSON."""
    config = json.loads(path.read_text(encoding="utf-8"))
    return config if isinstance(config, dict) else {}


class _Checkpoint:
    """A folder, in which links may lead to files of the folder or of the hub's cache."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        root = folder.resolve()
        self.inside = [root]
        if root.parent.name == "snapshots":
            self.inside.append(root.parent.parent / "blobs")

    def check_pipeline(self) -> None:
        """Check the index of a pipeline and each part that it names."""
        files = self.files(self.folder)
        if PIPELINE not in files and MODULAR in files:
            raise modular(self.model, str(self.config(files[MODULAR]).get("_class_name", "")))
        if PIPELINE not in files:
            raise ModelError(
                f"{self.model} is not a diffusers pipeline: it has no {PIPELINE}",
                "give the folder that save_pretrained wrote",
            )
        parts = _pipeline_parts(self.config(files[PIPELINE]), self.model)
        self.check_weights(files)
        for name, kind in parts.items():
            place = self.folder / name
            place = place if place.is_dir() else self.folder  # as diffusers looks for it
            self.check_within(place)
            # For these kinds the part's own files decide which class is made.
            automatic = bool(re.match(r"Auto[A-Z]", kind)) or kind.endswith("Processor")
            self.check_part(place, automatic=automatic)

    def check_part(self, folder: Path, *, automatic: bool) -> None:
        """Check the files of one model. automatic: whether they decide which class it has."""
        files = self.files(folder)
        named = {name: self.config(folder / name) for name in files if _is_config(name)}
        if ADAPTER in files:
            raise ModelError(
                f"{self.model} is an adapter, which only the folder of a critic can be",
                "merge it into its base model, and save that",
            )
        for name, config in named.items():
            self.check_config(self._shown(folder / name), config, automatic=automatic)
        if (folder / TEMPLATES).is_dir():
            self.check_within(folder / TEMPLATES)
            self.files(folder / TEMPLATES)
        self.check_weights(files)

    def check_config(self, name: str, config: Json, *, automatic: bool) -> None:
        if automatic and config.get("auto_map"):
            raise needs_code(self.model, f"{name} names it in auto_map")
        check_config(config, name, self.model)
        weights = config.get("transformers_weights")
        if weights is not None and not _is_plain(str(weights).removesuffix(".index.json")):
            raise self._other_weights(f"{name} names {weights}")

    def check_weights(self, files: Mapping[str, Path]) -> None:
        """Raise ModelError where weights are not in safetensors, or not in this folder."""
        from safetensors import SafetensorError, safe_open

        for name, path in files.items():
            if ".safetensors.index" in name and name.endswith(".json"):
                self._check_index(path)
            elif DISTRIBUTED.match(name):
                raise ModelError(
                    f"{self.model} is a distributed checkpoint: it has {name}",
                    "save the whole model with save_pretrained",
                )
            elif path.suffix == ".safetensors":
                try:
                    with safe_open(path, framework="numpy"):
                        pass
                except (SafetensorError, OSError) as error:
                    raise ModelError(
                        f"the weights of {self.model} are damaged: {self._shown(path)}: {error}",
                        DAMAGED_HINT,
                    ) from error
        if UNPICKLED in files:
            raise self._other_weights(f"it has {UNPICKLED}")
        others = [name for name in files if Path(name).suffix in OTHER_WEIGHTS]
        has_safe = any(path.suffix == ".safetensors" for path in files.values())
        if others and not has_safe and "config.json" in files:
            raise self._other_weights(f"it has {others[0]}")

    def _check_index(self, path: Path) -> None:
        names = self.config(path).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise self._damaged(path, "has no weight_map")
        for name in names.values():
            if not _is_plain(str(name)):
                raise self._other_weights(f"{self._shown(path)} names {name}")

    def files(self, folder: Path) -> dict[str, Path]:
        """The files of one folder by their names. Raises ModelError for an unsafe one."""
        files = {}
        try:
            for number, path in enumerate(folder.iterdir()):
                if number >= MOST_ENTRIES:
                    raise ModelError(
                        f"{self._shown(folder)} of {self.model} has more than {MOST_ENTRIES} files",
                        "give the folder of one checkpoint",
                    )
                if self._is_file(path):
                    files[path.name] = path
        except OSError as error:
            raise self._damaged(folder, f"cannot be listed: {error.strerror}") from error
        return dict(sorted(files.items()))

    def _is_file(self, path: Path) -> bool:
        is_read = path.suffix in READ
        try:
            about = path.stat()
        except (OSError, RuntimeError) as error:
            if not is_read:
                return False
            raise self._damaged(path, "is a link that leads nowhere") from error
        if not stat.S_ISREG(about.st_mode):
            if is_read or not stat.S_ISDIR(about.st_mode):
                raise self._damaged(path, "is no file")
            return False
        if is_read:
            self.check_within(path)
            if path.suffix != ".safetensors" and about.st_size > MOST_TEXT_BYTES:
                raise self._damaged(path, f"has {about.st_size} bytes, and no such file has")
        return True

    def check_within(self, path: Path) -> None:
        """Raise ModelError for a link that leads out of the checkpoint."""
        place = path.resolve()
        if not any(place.is_relative_to(root) for root in self.inside):
            raise ModelError(
                f"{self._shown(path)} of {self.model} is a link that leads out of its folder",
                LINK_HINT,
            )

    def config(self, path: Path) -> Json:
        """The object in a JSON file."""
        most = MOST_TEXT_BYTES if ".index" in path.name else MOST_CONFIG_BYTES
        if path.stat().st_size > most:
            raise self._damaged(path, f"has {path.stat().st_size} bytes, and no such file has")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            raise self._damaged(path, f"is no JSON that can be read: {error}") from error
        if not isinstance(config, dict):
            raise self._damaged(path, "is no object of JSON")
        if _is_too_deep(config):
            raise self._damaged(path, "is nested too deep to mean anything")
        return config

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix() if path != self.folder else "the folder"

    def _damaged(self, path: Path, what: str) -> ModelError:
        return ModelError(f"{self._shown(path)} of {self.model} {what}", DAMAGED_HINT)

    def _other_weights(self, where: str) -> ModelError:
        return ModelError(
            f"{self.model} has weights that are pickled or in a format of their own: {where}",
            SAFE_HINT,
        )


def _is_config(name: str) -> bool:
    """Whether a file describes a model, rather than its vocabulary."""
    return name in {"config.json", "chat_template.json"} or name.endswith("_config.json")


def _is_plain(name: str) -> bool:
    """Whether this is the name of a safetensors file in the same folder."""
    return name.endswith(".safetensors") and re.fullmatch(r"\w[\w.+-]*", name) is not None


# What configs may say: classes of the two libraries, and sizes of something real


def _pipeline_parts(index: Json, model: str) -> dict[str, str]:
    """The parts that the index of a pipeline names, and the class of each.

    Raises ModelError for a class that neither diffusers nor transformers has.
    """
    if not isinstance(index.get("_class_name"), str) or "custom_pipeline" in index:
        raise needs_code(model, f"{PIPELINE} names a pipeline of its own")
    named = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if all(isinstance(item, int | float) for item in value):
            continue  # a setting: layers, or a schedule
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
    """The error for a model that comes with code. where: which file names it, and how."""
    return ModelError(f"{model} needs code of its own, and gcr runs none: {where}", CODE_HINT)


def modular(model: str, name: str = "") -> ModelError:
    """The error for a modular pipeline, such as FLUX 3: each of its parts may come from another
    checkpoint, which nobody looked at. name: of its class.
    """
    kind = f"a {name}, " if name else ""
    return ModelError(
        f"{model} is {kind}a modular pipeline, whose parts may come from anywhere",
        f"take a pipeline that is in one folder, with a {PIPELINE}",
    )


def _is_known(library: str) -> bool:
    """Whether a library is diffusers, transformers, or a package of diffusers for one pipeline."""
    if library in {"diffusers", "transformers"}:
        return True
    if not library.isidentifier():
        return False
    from importlib.util import find_spec

    return find_spec(f"diffusers.pipelines.{library}") is not None


def check_config(config: Json, name: str, model: str) -> None:
    """Raise ModelError for a config that names a kernel to be fetched, or impossible sizes.

    Arguments:
        config: the values.
        name: of the file, for messages.
        model: its name, for messages.
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


def _is_too_deep(config: Json) -> bool:
    return any(len(path) > MOST_DEPTH for path, _ in _leaves(config))


def _leaves(value: object) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """The values in JSON that are neither lists nor objects, each after its path."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if len(path) > MOST_DEPTH or not isinstance(item, dict | list):
            yield path, item
            continue
        steps = item.items() if isinstance(item, dict) else enumerate(item)
        waiting += [((*path, step), inner) for step, inner in steps]


def _excess(key: str, value: object) -> str:
    """Why a number of a config makes no sense; empty if it does."""
    if isinstance(value, bool) or not isinstance(value, int) or key == UNLIMITED:
        return ""
    if abs(value) >= MOST_NUMBER:
        return "which is no size of anything"
    if COUNTS.search(key):
        most = MOST_COUNT
    elif key == "sample_size":
        most = MOST_LATENT_SIDE
    elif key in EDGES:
        most = MOST_EDGE
    else:
        most = MOST_AREA if key in AREAS else MOST_NUMBER
    return f"over {most}" if value > most else ""
