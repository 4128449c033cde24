"""What is refused of a checkpoint, before any library reads it.

A checkpoint may come from anybody. Of its files gcr reads weights in safetensors, and JSON and text
that describe them; it runs no code, unpickles nothing, and follows no link to somewhere else. The
libraries would ask, in the terminal, whether to run code, and believe every name in an index of
weights. So one place looks first. It imports nothing heavy and opens only plain files.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.errors import ModelError
from gcr.hub import configs
from gcr.hub.configs import DAMAGED_HINT, PIPELINE, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

READ = (".json", ".jinja", ".txt", ".model", ".safetensors")
"""Endings of all that is read of a checkpoint."""

OTHER_WEIGHTS = frozenset(
    (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pickle", ".pkl", ".pt", ".pth")
)
UNPICKLED = "spk_dict.pt"
"""What transformers unpickles of a Qwen2.5-Omni, whatever its weights are in."""

TEMPLATES = "additional_chat_templates"
DISTRIBUTED = re.compile(r"shard-\d{5}-model-")
ENTRIES_MOST = 10_000
TEXT_MOST = 64 * 1024**2  # bytes; the largest tokenizers have half of that
CONFIG_MOST = 8 * 1024**2
SAFE_HINT = "only safetensors are read: save it again in that format, or take another checkpoint"
LINK_HINT = "copy the file itself into the folder"


def check(folder: Path, model: str, *, is_pipeline: bool) -> None:
    """Raise ModelError for a checkpoint that needs code of its own, that has other weights than
    safetensors, or whose files are not what they should be.

    is_pipeline: whether diffusers is to load it, rather than transformers. model: its name, for
        messages.
    """
    checkpoint = _Checkpoint(folder, model)
    if is_pipeline:
        checkpoint.check_pipeline()
    else:
        checkpoint.check_part(folder, automatic=True)


def has_weights(folder: Path) -> bool:
    """Whether there are weights in a folder, and all that its indices name."""
    for path in folder.rglob("*.safetensors.index.json"):
        named = json.loads(path.read_text(encoding="utf-8")).get("weight_map", {}).values()
        if not all((path.parent / name).exists() for name in set(named)):
            return False
    return any(folder.rglob("*.safetensors"))


class _Checkpoint:
    """A folder whose links may lead to files of the folder, or to the hub's own store of them."""

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
        if PIPELINE not in files:
            raise ModelError(
                f"{self.model} is not a diffusers pipeline: it has no {PIPELINE}",
                "give the folder that save_pretrained wrote",
            )
        parts = configs.parts(self.config(files[PIPELINE]), self.model)
        self.check_weights(files)
        for name, kind in parts.items():
            place = self.folder / name
            place = place if place.is_dir() else self.folder  # as diffusers looks for it
            self.check_within(place)
            # Of these, which class is taken is left to the part's own files.
            automatic = bool(re.match(r"Auto[A-Z]", kind)) or kind.endswith("Processor")
            self.check_part(place, automatic=automatic)

    def check_part(self, folder: Path, *, automatic: bool) -> None:
        """Check the files of one model. automatic: whether they say of which class it is."""
        files = self.files(folder)
        named = {name: self.config(folder / name) for name in files if _is_config(name)}
        if "adapter_config.json" in files:
            raise ModelError(
                f"{self.model} is an adapter, and gcr loads whole models",
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
            raise configs.needs_code(self.model, f"{name} names it in auto_map")
        configs.check(config, name, self.model)
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
        """The files of one folder by their names, after a look at each that would be read."""
        found = {}
        try:
            for number, path in enumerate(folder.iterdir()):
                if number >= ENTRIES_MOST:
                    raise ModelError(
                        f"{self._shown(folder)} of {self.model} has more than {ENTRIES_MOST} files",
                        "give the folder of one checkpoint",
                    )
                if self._is_file(path):
                    found[path.name] = path
        except OSError as error:
            raise self._damaged(folder, f"cannot be listed: {error.strerror}") from error
        return dict(sorted(found.items()))

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
            if path.suffix != ".safetensors" and about.st_size > TEXT_MOST:
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
        most = TEXT_MOST if ".index" in path.name else CONFIG_MOST
        if path.stat().st_size > most:
            raise self._damaged(path, f"has {path.stat().st_size} bytes, and no such file has")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            raise self._damaged(path, f"is no JSON that can be read: {error}") from error
        if not isinstance(config, dict):
            raise self._damaged(path, "is no object of JSON")
        if configs.is_too_deep(config):
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
    """Whether a file says how a model is made, rather than which words there are."""
    return name in {"config.json", "chat_template.json"} or name.endswith("_config.json")


def _is_plain(name: str) -> bool:
    """Whether this is the name of a file of safetensors in the same folder."""
    return name.endswith(".safetensors") and re.fullmatch(r"\w[\w.+-]*", name) is not None
