"""Fetches models from the hub, ahead of a run or at its start: of each only the files that are
loaded, and only after the user has agreed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.device import memory
from gcr.errors import GcrError, ModelError, UsageError
from gcr.files import paths
from gcr.hub import checkpoints, consent, weightfiles
from gcr.hub.vetting import MODULAR, PIPELINE, modular, read_config
from gcr.settings import profiles
from gcr.settings.address import is_address
from gcr.settings.schema import Quantize, split_scale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gcr.hub.weightfiles import LoraFile, SingleFile

SHARE_IN_MEMORY: Mapping[Quantize, float] = {"none": 1, "nf4": 0.35}
"""Of a pipeline's files in 16 bits. In NF4 a weight takes 4.13 bits of these, and what is not
quantized (VAE, embeddings, norms) takes all; estimated, not measured."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What there is to fetch of a model.

    Attributes:
        model: its hub id.
        is_pipeline: whether diffusers loads it, rather than transformers.
        files: how many are loaded.
        size: bytes of these files.
        missing: bytes of those that are not in the cache.
        keys: of the weights that are in a checkpoint of one file, and need not be fetched; None:
            all are to be fetched.
    """

    model: str
    is_pipeline: bool
    files: int
    size: int
    missing: int
    keys: Collection[str] | None = None


def provide(
    models: Mapping[str, bool],
    profile: str = "",
    *,
    quantize: Quantize = "none",
    around: SingleFile | None = None,
) -> None:
    """Fetch what the cache lacks of models, if the machine is large enough and the user agrees.

    Arguments:
        models: hub ids, folders or servers, and whether each is a pipeline.
        profile: the name of the one that they may come from.
        quantize: the precision that pipelines will be loaded in.
        around: a checkpoint in one file, beside which parts of a pipeline are needed.

    Raises ModelError for a model that cannot be had, GcrError where the disk is too small, and
    UsageError where the machine is, or where the user does not agree.
    """
    consent.obey()
    checkpoints.quiet_libraries()
    missing = [model for model, is_pipeline in models.items() if _is_missing(model, is_pipeline)]
    if around is not None:
        place = checkpoints.locate(around.config)
        with checkpoints.named_errors(around.config):
            if checkpoints.cached_around(place, around.keys) is None:
                missing.append(around.config)
    if not missing:
        return
    chosen = _of_profile(profile, missing)
    names = [str(around.path) if around and m == around.config else m for m in missing]
    pull = f"gcr pull {chosen.name if chosen else ' '.join(names)}"
    if consent.is_hub_offline():
        is_around = around is not None and missing[0] == around.config
        what = f"what {names[0]} lacks, of {missing[0]}," if is_around else missing[0]
        raise ModelError(
            f"{what} is not in the cache, or not all of it, and offline nothing is fetched",
            f"fetch it while there is a connection: {pull}",
        )
    if chosen and chosen.quantize_generator == quantize:
        _check_gpu(chosen, pull)
    try:
        shipments = [
            shipment_of(around.config, around.keys)
            if around and model == around.config
            else shipment_of(model)
            for model in missing
        ]
    except ModelError as error:
        raise ModelError(error.message, f"{error.hint}; then: {pull}") from error
    for shipment in shipments:
        _check_kind(shipment, models.get(shipment.model, True))
    check_room(shipments)
    check_memory([shipment for shipment in shipments if shipment.is_pipeline], quantize)
    _obtain_consent(shipments, pull)
    for shipment in shipments:
        fetch(shipment)


def _obtain_consent(shipments: Sequence[Shipment], pull: str) -> None:
    size = gigabytes(sum(shipment.missing for shipment in shipments))
    names = " and ".join(shipment.model for shipment in shipments)
    consent.obtain(
        map(described, shipments),
        f"fetch {size} into {cache()}?",
        UsageError(
            f"{names} would have to be fetched first: {size}",
            f"{pull} fetches ahead; --yes, or {consent.YES}=1, fetches now",
        ),
    )


def _is_missing(model: str, is_pipeline: bool) -> bool:
    if needs_no_fetching(model):
        return False
    with checkpoints.named_errors(model):
        return checkpoints.cached(model, is_pipeline=is_pipeline) is None


def _check_kind(shipment: Shipment, is_pipeline: bool) -> None:
    """Raise ModelError for a model of the wrong kind, before it is fetched for nothing."""
    if is_pipeline and not shipment.is_pipeline:
        raise ModelError(
            f"{shipment.model} is not a diffusers pipeline: it has no {PIPELINE}",
            "give a text-to-image pipeline",
        )
    if shipment.is_pipeline and not is_pipeline:
        raise ModelError(
            f"{shipment.model} is a pipeline that draws, and no model that sees",
            "give a vision-language model, such as Qwen/Qwen3-VL-4B-Instruct",
        )


def _of_profile(name: str, models: Iterable[str]) -> profiles.Profile | None:
    """The profile of this name, if it has all of the models."""
    try:
        profile = profiles.load(name)
    except UsageError:  # a resumed run may name a profile of another machine
        return None
    return profile if {*models} <= {profile.generator, profile.critic} else None


def _check_gpu(profile: profiles.Profile, pull: str) -> None:
    """Raise UsageError where a profile needs a GPU, and none here is large enough."""
    _, total = memory.gpu_gib()
    if profile.vram_gb > total:
        size = f"the one here has {total:.1f}" if total else "there is none here"
        raise UsageError(
            f"profile {profile.name} needs a GPU with {profile.vram_gb:g} GiB, and {size}",
            f"--profile auto takes what fits; to have these models all the same: {pull}",
        )


def check_memory(shipments: Iterable[Shipment], quantize: Quantize = "none") -> None:
    """Raise UsageError where weights are larger than the machine's memory, in which they wait.

    quantize: the precision that they are loaded in.
    """
    if not hasattr(os, "sysconf"):  # Windows
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for shipment in shipments:
        size = round(shipment.size * SHARE_IN_MEMORY[quantize])
        if size > total:
            kept = "has" if quantize == "none" else f"in {quantize} takes about"
            raise UsageError(
                f"{shipment.model} {kept} {gigabytes(size)}, and this machine "
                f"{gigabytes(total)} of memory",
                "take a smaller profile: gcr profiles lists them",
            )


def models_of(names: Iterable[str]) -> list[str]:
    """The models behind names of profiles, hub ids, folders and servers, each once.

    Raises UsageError for a name that is none of these.
    """
    models = []
    for name in names:
        if weightfiles.is_file(name):
            models.append(name)
            continue
        auto = name.casefold() == profiles.AUTO
        if auto or ("/" not in name and ":" not in name):
            profile = profiles.largest(memory.gpu_gib()[0]).profile if auto else _profile(name)
            models += [profile.generator, profile.critic]
        else:
            models.append(name)
    return list(dict.fromkeys(models))


def _profile(name: str) -> profiles.Profile:
    try:
        return profiles.load(name)
    except UsageError as error:
        raise UsageError(error.message, f"{error.hint}; or a model as owner/name") from error


def needs_no_fetching(model: str) -> bool:
    """Whether a model need not be fetched: it is a server, a folder or embedded.

    Raises UsageError for a name that cannot be a model.
    """
    return is_address(model) or checkpoints.is_local(checkpoints.locate(model))


def shipment_of(model: str, keys: Collection[str] | None = None) -> Shipment:
    """What there is to fetch of a model on the hub. keys: as in Shipment.

    Raises UsageError offline, and ModelError for a model that the hub lacks, or for whose licence
    this machine has no access.
    """
    if consent.is_hub_offline():
        raise UsageError(
            "nothing can be fetched offline", "leave --offline, GCR_OFFLINE and HF_HUB_OFFLINE out"
        )
    from huggingface_hub import HfApi, snapshot_download

    checkpoints.quiet_libraries()
    with checkpoints.named_errors(model), _without_bars():
        info = HfApi().model_info(model)
        if info.gated:
            HfApi().auth_check(model)
        names = {file.rfilename for file in info.siblings or ()}
        is_pipeline = PIPELINE in names
        if MODULAR in names and not is_pipeline:
            raise modular(model)
        files = snapshot_download(
            model,
            allow_patterns=_parts(model, keys) if is_pipeline else list(checkpoints.LOADED),
            ignore_patterns=checkpoints.NOT_LOADED if is_pipeline else None,
            dry_run=True,
        )
    if keys is None and not any(file.filename.endswith(".safetensors") for file in files):
        raise ModelError(
            f"{model} has no weights in safetensors, and gcr loads no others",
            "take another checkpoint",
        )
    return Shipment(
        model,
        is_pipeline,
        len(files),
        sum(file.file_size or 0 for file in files),
        sum(file.file_size or 0 for file in files if file.will_download),
        keys,
    )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the hub's progress bars: looking takes only a moment."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _parts(model: str, keys: Collection[str] | None) -> list[str]:
    """Patterns for the files of a pipeline's parts, each of which has a folder. keys: as above."""
    from huggingface_hub import hf_hub_download

    index = read_config(Path(hf_hub_download(model, PIPELINE)))
    if keys is not None:
        return checkpoints.patterns_around(index, keys)
    return [PIPELINE, *(f"{part}/*" for part, kind in index.items() if isinstance(kind, list))]


def described(shipment: Shipment) -> str:
    """A shipment in one line."""
    cached = ""
    if not shipment.missing:
        cached = ", all of it here"
    elif shipment.missing < shipment.size:
        cached = f", of which {gigabytes(shipment.size - shipment.missing)} are here"
    part = ", what the file lacks" if shipment.keys is not None else ""
    return f"{shipment.model}{part}: {shipment.files} files, {gigabytes(shipment.size)}{cached}"


def cache() -> Path:
    """Where the hub's library keeps what it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def check_room(shipments: Iterable[Shipment]) -> None:
    """Raise GcrError where the disk has too little room for what is missing."""
    needed = sum(shipment.missing for shipment in shipments)
    free = free_bytes(cache())
    if needed > free:
        raise GcrError(
            f"{gigabytes(needed)} are to be fetched, and {cache()} has {gigabytes(free)} free",
            "make room, or set HF_HOME to a folder on a larger disk",
        )


def fetch(shipment: Shipment) -> Path:
    """Fetch what is missing of a model; returns its folder. Raises ModelError."""
    with checkpoints.named_errors(shipment.model):
        if shipment.keys is not None:
            return checkpoints.download_around(shipment.model, shipment.keys)
        return checkpoints.download(shipment.model, is_pipeline=shipment.is_pipeline)


def lora(given: str, folder: str = "", *, fetch: bool) -> LoraFile | None:
    """A LoRA as --lora has it: `fur.safetensors:0.8`; by its name in a folder, as prompts have it;
    or by its id on the hub, with the name of the file behind it where there are several.

    folder: as --lora-dir has it.
    fetch: if it is not in the cache, and the user agrees; else None for such.
    Raises UsageError and ModelError for what is none.
    """
    name, scale_text = split_scale(given)
    scale = float(scale_text.removeprefix(":")) if scale_text else 1.0
    if weightfiles.is_file(name) and (paths.is_file(paths.expanded(name)) or name.count("/") != 2):
        path = weightfiles.check(name, "a LoRA")
        return weightfiles.lora_file(path, path.stem, scale)
    _, colon, text = name.rpartition(":")
    if colon and not set(text) & {"/", "\\"}:
        raise UsageError(
            f"--lora {given}: {text!r} is no scale", "write a number, such as fur.safetensors:0.8"
        )
    if folder and "/" not in name:
        return weightfiles.find_lora(name, scale, folder)
    if paths.is_folder(paths.expanded(name)):
        raise UsageError(f"--lora {name} is a folder", "name a .safetensors file in it")
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts) or parts[0] in {".", "..", "~"}:
        raise UsageError(
            f"there is no LoRA at {name}: no such file",
            "give a .safetensors file, a name in --lora-dir, or a hub id such as owner/name",
        )
    model, file = "/".join(parts[:2]), parts[2] if len(parts) == 3 else ""
    with checkpoints.named_errors(model):
        found = _cached_lora(model, file)
        if found is None and fetch:
            found = _fetched_lora(model, file)
    return weightfiles.lora_file(found, found.stem, scale) if found else None


def _cached_lora(model: str, file: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model, allow_patterns=[file or f"*{weightfiles.ENDING}"], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    files = [Path(folder, file)] if file else list(Path(folder).glob(f"*{weightfiles.ENDING}"))
    return files[0] if len(files) == 1 and files[0].is_file() else None


def _fetched_lora(model: str, file: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    if consent.is_hub_offline():
        raise ModelError(
            f"the LoRA {model} is not in the cache, and offline nothing is fetched",
            "fetch it while there is a connection, or give its file",
        )
    siblings = HfApi().model_info(model, files_metadata=True).siblings or ()
    sizes = {each.rfilename: each.size or 0 for each in siblings}
    names = [name for name in sizes if name.endswith(weightfiles.ENDING) and "/" not in name]
    if file not in names and (file or len(names) != 1):
        listed = ", ".join(f"{model}/{name}" for name in sorted(names)[:5])
        raise UsageError(
            f"{model} has {f'no {file}' if file else f'{len(names)} files that may be a LoRA'}",
            f"name one of {listed}" if names else "take another: it has no safetensors",
        )
    chosen = file or names[0]
    size = gigabytes(sizes[chosen])
    consent.obtain(
        [f"{model}/{chosen}: {size}"],
        f"fetch {size} into {cache()}?",
        UsageError(
            f"the LoRA {model} would have to be fetched first: {size}",
            f"--yes, or {consent.YES}=1, fetches it now",
        ),
    )
    return Path(hf_hub_download(model, chosen))


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that a folder is on, or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def gigabytes(size: int) -> str:
    """Bytes for a person to read, in decimal units as the hub counts."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
