"""Where a checkpoint is, and what is wrong with one that cannot be loaded.

Knows folders, hub ids, the hub's cache and the names of the embedded pair. Every folder that it
returns was checked by `vetting` before.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.device.loading import MODELS, imported, loading
from gcr.device.out_of_memory import is_out_of_memory
from gcr.device.threads import unless_chosen
from gcr.errors import GcrError, ModelError, UsageError
from gcr.files import paths, structured
from gcr.files.structured import MalformedError
from gcr.hub import consent, vetting, weightfiles
from gcr.hub.vetting import PIPELINE, needs_code

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

EMBEDDED = ("pocket:generator", "pocket:critic")
LIBRARIES = ("bitsandbytes", "diffusers", "huggingface_hub", "peft", "torch", "transformers")
LICENCE_HINT = "accept it on the hub, then run `hf auth login`"
HUB_HINT = "check the name and the connection, or give a folder"
SPELLING_HINT = "check the spelling; there is no such folder here, either"
KIND_HINT = "is it complete, and of the right kind?"
FEW_STEP_SCHEDULERS = ("LCMScheduler", "TCDScheduler")
DISTILLED = re.compile(
    r"(?<![a-z])(turbo|schnell|lightning|lcm|hyper|flash|dmd2?|distill(ed)?|klein(?!-base))(?![a-z])",
    re.IGNORECASE,
)
"""What the names of distilled checkpoints hold; of FLUX.2 klein the base is not distilled."""
WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(?P<shard>-\d{5}-of-\d{5})?\.safetensors")
"""How files of a pipeline's part are called. Where one is whole, its shards are not read."""
WITHOUT_WEIGHTS = ("*.json", "*.jinja", "*.txt", "*.model")
LOADED = ("*.safetensors", *WITHOUT_WEIGHTS)
"""Files that are read of a model of transformers."""
NOT_LOADED = [
    *("*.bin", "*.ckpt", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.xml"),
    # Weights in another precision, besides those that are loaded.
    *("*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*", "*.non_ema.*", "*.ema.*"),
]
MOST_CHARACTERS = 300  # of a library's message


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
    path = paths.expanded(model)
    if paths.is_folder(path):
        return str(path)
    if paths.is_file(path):
        raise UsageError(
            f"{model} is a single file",
            "give the folder of a checkpoint saved by save_pretrained; "
            "only -m and --vae take files",
        )
    owner, slash, name = model.partition("/")
    if not (owner and slash and name) or "/" in name or owner in {".", "..", "~"}:
        raise UsageError(
            f"there is no model at {model}: no such folder",
            "check the path, or give a hub id such as owner/name",
        )
    return model


def base_of(model: str) -> str:
    """The base model of a critic that is the folder of a LoRA adapter; empty for any other.

    Raises ModelError for an adapter that cannot be loaded, and for one whose base is not to be had.
    """
    place = locate(model)
    if not is_local(place) or not (base := vetting.adapter_base(Path(place), model)):
        return ""
    hint = f"write where it is into base_model_name_or_path of {Path(place) / vetting.ADAPTER}"
    try:
        found = locate(base)
    except UsageError as error:
        raise ModelError(f"{model} is an adapter of {base}, which is not here", hint) from error
    if is_local(found) and (Path(found) / vetting.ADAPTER).is_file():
        raise ModelError(f"{model} is an adapter of another one, {base}", hint)
    return base


def distilled(model: str) -> str:
    """Why a pipeline counts as distilled to few steps, in words for the user; empty where nothing
    says so.

    By its index, where that is on this machine, or by its name. Makes no connection.
    """
    if model in EMBEDDED:
        return ""
    index = index_at_hand(model)
    if isinstance(known := index.get("is_distilled"), bool):
        return f"{PIPELINE} says so" if known else ""
    scheduler = index.get("scheduler")
    if isinstance(scheduler, list) and scheduler[-1] in FEW_STEP_SCHEDULERS:
        return f"its scheduler is {scheduler[-1]}"
    named = DISTILLED.search(Path(model).name)
    return f"its name says {named[0]}" if named else ""


def index_at_hand(model: str) -> dict[str, Any]:
    """The index of a pipeline on this machine; empty where there is none that can be read: what is
    wrong with it, the loader says.
    """
    path = _folder_at_hand(model) / PIPELINE
    if not paths.is_file(path):  # also where it can be no path
        return {}
    try:
        index: Any = structured.parse_json(structured.text(path))
    except (OSError, MalformedError):
        return {}
    return index if isinstance(index, dict) else {}


def weights_at_hand(place: str, held: Collection[str] = ()) -> list[Path]:
    """The files that a pipeline's weights are loaded from, of those that are on this machine.

    place: as `locate` returns it. held: parts that are loaded from elsewhere. Makes no connection.
    """
    folder = _folder_at_hand(place)
    files: list[Path] = []
    for part, kind in index_at_hand(place).items():
        is_part = isinstance(kind, list) and part.isidentifier() and part not in held
        if not (is_part and paths.is_folder(folder / part)):
            continue
        matches = {path: WEIGHTS.fullmatch(path.name) for path in (folder / part).glob("*")}
        shards = {path: match["shard"] for path, match in matches.items() if match}
        is_whole = None in shards.values()
        files += sorted(p for p, shard in shards.items() if (shard is None) == is_whole)
    return list(filter(paths.is_file, files))


def _folder_at_hand(model: str) -> Path:
    """The folder of a pipeline on this machine; any other path where there is none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    path = paths.expanded(model)
    if paths.is_folder(path):
        return path
    try:
        index = try_to_load_from_cache(model, PIPELINE)
    except HFValidationError:
        return path
    return Path(index).parent if isinstance(index, str) else path


def threads(model: str) -> int | None:
    """How many threads torch uses for this model on a CPU; None: as many as it likes.

    The embedded pair is so small that a second thread gains nothing on an idle machine, and on a
    busy one each step waits for it.
    """
    return unless_chosen(1) if model in EMBEDDED else None


def is_local(place: str) -> bool:
    """Whether a place, as `locate` returns it, is a folder."""
    return Path(place).is_dir()


def fetch(place: str, *, is_pipeline: bool = False) -> Path:
    """The folder of a checkpoint that may be loaded: fetched if it is not whole in the cache.

    Arguments:
        place: as `locate` returns it.
        is_pipeline: whether diffusers is to load it, rather than transformers.

    Raises ModelError for a checkpoint that is refused, and whatever the hub's library raises.
    """
    folder = Path(place) if is_local(place) else cached(place, is_pipeline=is_pipeline)
    if folder is None:
        folder = download(place, is_pipeline=is_pipeline)
    vetting.check(folder, place, is_pipeline=is_pipeline)
    return folder


def download(place: str, *, is_pipeline: bool) -> Path:
    """Fetch what the cache lacks of a model's newest version on the hub; returns its folder."""
    return _snapshot(place, is_pipeline=is_pipeline, local_files_only=False)


def cached(place: str, *, is_pipeline: bool) -> Path | None:
    """The folder of a hub's model in the cache; None unless all that is loaded of it is there.

    Makes no connection: what is whole is used as it is, and `gcr pull` fetches newer versions.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(place, is_pipeline=is_pipeline, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return folder if vetting.has_weights(folder) else None


def _snapshot(place: str, *, is_pipeline: bool, local_files_only: bool) -> Path:
    if is_pipeline:
        # The pipeline's own loader knows best which of its files it will read.
        from diffusers import DiffusionPipeline

        folder = DiffusionPipeline.download(
            place, use_safetensors=True, trust_remote_code=False, local_files_only=local_files_only
        )
    else:
        from huggingface_hub import snapshot_download

        patterns = list(LOADED)
        folder = snapshot_download(
            place, allow_patterns=patterns, local_files_only=local_files_only
        )
    return Path(folder)


def fetch_file(place: str, name: str, *others: str) -> Path:
    """A folder that holds at least some named files of a checkpoint, of which the first says of
    what kind it is.

    It is the whole checkpoint where that is on this machine, else what was fetched of it.
    """
    if is_local(place):
        folder = Path(place)
    else:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        for file in (*others, name):
            cached_file = try_to_load_from_cache(place, file)
            if not isinstance(cached_file, str):
                cached_file = hf_hub_download(place, file)
        folder = Path(str(cached_file)).parent
    vetting.check(folder, place, is_pipeline=name == PIPELINE)
    return folder


def fetch_around(place: str, keys: Collection[str]) -> Path:
    """The folder of a pipeline without the weights that a checkpoint of one file has: fetched if
    that is not in the cache.

    place: as `locate` returns it. keys: of the file's weights.
    """
    folder = cached_around(place, keys)
    if folder is None:
        folder = download_around(place, keys)
    vetting.check(folder, place, is_pipeline=True)
    return folder


def cached_around(place: str, keys: Collection[str]) -> Path | None:
    """As `fetch_around`, of what is on this machine; None where something is missing."""
    if is_local(place):
        return Path(place)
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    file = try_to_load_from_cache(place, PIPELINE)
    if not isinstance(file, str):
        return None
    index = vetting.read_config(Path(file))
    patterns = patterns_around(index, keys)
    try:
        folder = Path(
            snapshot_download(
                place, allow_patterns=patterns, ignore_patterns=NOT_LOADED, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    # Where no list of the files was kept, that raises nothing.
    for part in {pattern.partition("/")[0] for pattern in patterns} - {PIPELINE}:
        is_whole = f"{part}/*" in patterns and _is_model(index[part])
        if part in weightfiles.NOT_NEEDED:
            continue
        if not (folder / part).is_dir() or (is_whole and not vetting.has_weights(folder / part)):
            return None
    return folder


def _is_model(kind: Any) -> bool:
    """Whether a part of a pipeline has weights. kind: its library and class."""
    import diffusers
    import transformers

    library: Any = {"diffusers": diffusers, "transformers": transformers}.get(kind[0])
    part_class = getattr(library, str(kind[1]), object)
    return hasattr(part_class, "forward")


def download_around(place: str, keys: Collection[str]) -> Path:
    """As `fetch_around`, from the hub."""
    from huggingface_hub import hf_hub_download, snapshot_download

    index = vetting.read_config(Path(hf_hub_download(place, PIPELINE)))
    patterns = patterns_around(index, keys)
    return Path(snapshot_download(place, allow_patterns=patterns, ignore_patterns=NOT_LOADED))


def patterns_around(index: Mapping[str, object], keys: Collection[str]) -> list[str]:
    """Of the files of a pipeline that are read beside a checkpoint of one file.

    index: its model_index.json.
    """
    held = weightfiles.parts_held(keys, index)
    patterns = [PIPELINE]
    for part, kind in index.items():
        if not isinstance(kind, list) or not kind or kind[0] is None:
            continue
        if part in held:
            patterns += [f"{part}/{name}" for name in WITHOUT_WEIGHTS]
        else:
            patterns.append(f"{part}/*")
    return patterns


def version(place: str) -> str:
    """Text that changes when the checkpoint does. Reads no weights and fetches none."""
    folder = fetch_file(place, "config.json")
    if not is_local(place):
        return f"{place} {folder.name}"  # which is the commit
    files = sorted(folder.resolve().iterdir())
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


@contextmanager
def named_errors(model: str) -> Iterator[None]:
    """Turn whatever the loaders raise about a checkpoint into a ModelError that names it.

    For a config that makes no sense that is anything from KeyError to ZeroDivisionError.
    """
    with _as_model_error(lambda error: _described(model, error)):
        yield


@contextmanager
def reworded(what: str, hint: str) -> Iterator[None]:
    """Turn whatever a library raises while a model works into a ModelError.

    Goes around a Ladder, which has to see errors as they are.

    Arguments:
        what: failed; the first line of the library's message follows it.
        hint: what a user can do.
    """
    with _as_model_error(lambda error: (f"{what}: {first_line(error)}", hint)):
        yield


@contextmanager
def _as_model_error(describe: Callable[[Exception], tuple[str, str]]) -> Iterator[None]:
    """Raise a ModelError for any other error; or the KeyboardInterrupt that a library turned into
    an error of its own: those that import on demand call everything a failed import.

    describe: gives message and hint for an error.
    """
    try:
        yield
    except GcrError:
        raise
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
        raise ModelError(*describe(error)) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, what caused that, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def _described(model: str, error: Exception) -> tuple[str, str]:
    """Message and hint for an error of the loaders, the most particular kinds first."""
    from httpx2 import TransportError
    from huggingface_hub import errors
    from safetensors import SafetensorError

    if not is_local(model) and consent.is_hub_offline() and _is_absent(error):
        return (
            f"{model} is not in the cache, or not all of it, and offline nothing is fetched",
            f"fetch it while there is a connection: gcr pull {model}",
        )
    if isinstance(error, ValueError) and "custom code" in str(error):
        refused = needs_code(model, first_line(error))
        return refused.message, refused.hint
    if is_out_of_memory(error):
        return f"{model} does not fit on the GPU", "take a smaller profile"
    problem = first_line(error)
    kinds: list[tuple[type[Exception], str, str]] = [
        (errors.GatedRepoError, "{} is given out under a licence", LICENCE_HINT),
        (errors.RepositoryNotFoundError, "the hub has no model {}", SPELLING_HINT),
        (errors.HFValidationError, "the hub has no model {}", SPELLING_HINT),
        (errors.HfHubHTTPError, "the hub did not deliver {}: {problem}", "try again later"),
        (TransportError, "the hub cannot be reached for {}: {problem}", HUB_HINT),
        (SafetensorError, "the weights of {} are damaged: {problem}", "download them again"),
        # Weights of other shapes than the config says, or a device that torch does not have.
        (RuntimeError, "the weights of {} cannot be loaded: {problem}", KIND_HINT),
        (ImportError, "{} needs a library that is not here: {problem}", "install it"),
    ]
    for kind, message, hint in kinds:
        if isinstance(error, kind):
            return message.format(model, problem=problem), hint
    if is_local(model):
        return f"cannot load {model}: {problem}", KIND_HINT
    part = f"if only a part of it is in the cache: gcr pull {model}"
    return f"cannot load {model}: {problem}", part if consent.is_hub_offline() else HUB_HINT


def _is_absent(error: Exception) -> bool:
    """Whether an error comes from a file that is not in the hub's cache."""
    from huggingface_hub import errors

    kinds = errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled
    return any(isinstance(cause, kinds) for cause in _causes(error))


def first_line(error: Exception) -> str:
    """An error's message in one line; with its type where the message alone says too little."""
    line = next(iter(str(error).strip().splitlines()), "").rstrip(" :")
    if len(line) > MOST_CHARACTERS:
        line = f"{line[:MOST_CHARACTERS]}…"
    if not line or isinstance(error, KeyError):  # whose message is only the key
        return f"{type(error).__name__}: {line}".removesuffix(": ")
    return line


def quiet_libraries() -> None:
    """Keep the libraries' logs, warnings and progress bars off the terminal.

    Truncated prompts, missing optional kernels, "falling back to PIL", deprecated calls from one
    library to another: none is news to the user.
    """
    for library in LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
    # Before the import: it is while being imported that bitsandbytes logs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # It logs that it is offline, and each retry; gcr reports the outcome once.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with loading():  # two threads that import them at once get halves of modules
        imported(*MODELS, "transformers.utils.logging", "diffusers.utils.logging")
        from diffusers.utils import logging as diffusers_logging
        from transformers import dynamic_module_utils
        from transformers.utils import logging as transformers_logging
    # It would ask in the terminal whether to run a checkpoint's code.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    for library_logging in (diffusers_logging, transformers_logging):
        library_logging.set_verbosity_error()
        library_logging.disable_progress_bar()
