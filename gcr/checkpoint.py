"""Where a checkpoint is, and what is wrong with one that cannot be loaded.

Knows folders, hub ids and the names of the embedded pair; knows nothing of what is in a
checkpoint.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import offline
from gcr.device.shortage import is_out_of_memory
from gcr.device.threads import unless_chosen
from gcr.errors import ModelError, UsageError
from gcr.libraries import imported

if TYPE_CHECKING:
    from collections.abc import Iterator

EMBEDDED = ("pocket:generator", "pocket:critic")
LIBRARIES = ("bitsandbytes", "diffusers", "huggingface_hub", "torch", "transformers")
LICENCE_HINT = "accept it on the hub, then run `hf auth login`"
HUB_HINT = "check the name and the connection, or give a folder"
SPELLING_HINT = "check the spelling; there is no such folder here, either"
KIND_HINT = "is it complete, and of the right kind?"
WITHOUT_WEIGHTS = ("*.json", "*.jinja", "*.txt", "*.model")
LOADED = ("*.safetensors", *WITHOUT_WEIGHTS)
"""What is read of a model of transformers."""


def locate(model: str) -> str:
    """The folder of a checkpoint on this machine, or the hub id as it is.

    model: a folder, a hub id (`owner/name`), `pocket:generator` or `pocket:critic`.
    Raises UsageError when it can be neither.
    """
    if model in EMBEDDED:
        from gcr import pocket

        folder = pocket.GENERATOR if model == "pocket:generator" else pocket.CRITIC
        if not folder.is_dir():
            raise ModelError(f"the embedded pair is not at {folder}", "install gcr again")
        return str(folder)
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise UsageError(
            f"{model} is a single file", "give the folder of a checkpoint saved by save_pretrained"
        )
    owner, slash, name = model.partition("/")
    if not (owner and slash and name) or "/" in name or owner in {".", "..", "~"}:
        raise UsageError(
            f"there is no model at {model}: no such folder",
            "check the path, or give a hub id such as owner/name",
        )
    return model


def threads(model: str) -> int | None:
    """Of torch on a CPU, for this model; None: as many as torch takes.

    The embedded pair is so small that a second one gains nothing on an idle machine, and on a busy
    one each step waits for it.
    """
    return unless_chosen(1) if model in EMBEDDED else None


def is_local(place: str) -> bool:
    return Path(place).is_dir()


def fetch(place: str) -> Path:
    """The folder of a model of transformers, fetched from the hub when it is there."""
    if is_local(place):
        return Path(place)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(place, allow_patterns=list(LOADED)))


def version(place: str) -> str:
    """Text that changes when the checkpoint does. Reads no weights and fetches none."""
    if is_local(place):
        files = sorted(Path(place).resolve().iterdir())
        stats = [(file.name, file.stat()) for file in files]
        return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    from huggingface_hub import hf_hub_download

    # Its folder is named after the commit; without a connection it is the one fetched last.
    return f"{place} {Path(hf_hub_download(place, 'config.json')).parent.name}"


@contextmanager
def named_errors(model: str) -> Iterator[None]:
    """Turn what the loaders raise about a checkpoint into a ModelError that names it."""
    from httpx2 import TransportError
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError

    try:
        yield
    except (
        HfHubHTTPError,
        SafetensorError,
        TransportError,
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise ModelError(*_described(model, error)) from error


def _described(model: str, error: Exception) -> tuple[str, str]:
    """Message and hint for an error of the loaders, the most particular kinds first."""
    from httpx2 import TransportError
    from huggingface_hub import errors
    from safetensors import SafetensorError

    if not is_local(model) and offline.hub_forbidden() and _is_absent(error):
        return (
            f"{model} is not in the cache, or not all of it, and offline nothing is fetched",
            f"fetch it while there is a connection: gcr pull {model}",
        )
    if is_out_of_memory(error):
        return f"{model} does not fit on the GPU", "take a smaller profile"
    said = first_line(error)
    kinds: list[tuple[type[Exception], str, str]] = [
        (errors.GatedRepoError, "{} is given out under a licence", LICENCE_HINT),
        (errors.RepositoryNotFoundError, "the hub has no model {}", SPELLING_HINT),
        (errors.HFValidationError, "the hub has no model {}", SPELLING_HINT),
        (errors.HfHubHTTPError, "the hub did not deliver {}: {said}", "try again later"),
        (TransportError, "the hub cannot be reached for {}: {said}", HUB_HINT),
        (SafetensorError, "the weights of {} are damaged: {said}", "download them again"),
        # Weights of other shapes than the config says, or a device that torch does not have.
        (RuntimeError, "the weights of {} cannot be loaded: {said}", KIND_HINT),
        (ImportError, "{} needs a library that is not here: {said}", "install it"),
    ]
    for kind, message, hint in kinds:
        if isinstance(error, kind):
            return message.format(model, said=said), hint
    if is_local(model) and _only_pickled(Path(model)):
        hint = "save it again with safe_serialization=True, or take another checkpoint"
        return f"the weights of {model} are pickled, and loading those can run code", hint
    if is_local(model):
        return f"cannot load {model}: {said}", KIND_HINT
    part = f"if only a part of it is in the cache: gcr pull {model}"
    return f"cannot load {model}: {said}", part if offline.hub_forbidden() else HUB_HINT


def _is_absent(error: BaseException | None) -> bool:
    """Whether an error comes from a file that is not in the hub's cache."""
    from huggingface_hub import errors

    while error is not None:
        if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            return True
        error = error.__cause__ or error.__context__
    return False


def _only_pickled(folder: Path) -> bool:
    """Whether some part of a checkpoint has pickled weights and no safetensors beside them."""
    pickled = {
        path.parent for ending in ("*.bin", "*.ckpt", "*.pt") for path in folder.rglob(ending)
    }
    return any(not any(part.glob("*.safetensors")) for part in pickled)


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip()


def quiet_libraries() -> None:
    """Keep what the libraries log about themselves off the terminal, and their bars.

    Truncated prompts, missing optional kernels, "falling back to PIL", what one library finds
    outdated in how another calls it: none is news to the user.
    """
    for library in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    # Before the import: it is while being imported that bitsandbytes logs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if offline.hub_forbidden():
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # that it is offline
    imported("torch", "transformers.utils.logging", "diffusers.utils.logging")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
