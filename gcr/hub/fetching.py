"""Fetches models from the hub, ahead of a run or at its start: of each only the files that are
loaded, and only after the user has agreed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gcr.device import card
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import checkpoints, consent, offline
from gcr.hub.vetting import MODULAR, PIPELINE, modular
from gcr.settings import profiles
from gcr.settings.address import is_address
from gcr.settings.schema import Quantize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NOT_LOADED = (
    *("*.bin", "*.ckpt", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.xml"),
    # Weights in another precision, besides those that are loaded.
    *("*.fp16.*", "*.fp16-*", "*.bf16.*", "*.bf16-*", "*.non_ema.*", "*.ema.*"),
)

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
    """

    model: str
    is_pipeline: bool
    files: int
    size: int
    missing: int


def provide(models: Mapping[str, bool], profile: str = "", *, quantize: Quantize = "none") -> None:
    """Fetch what the cache lacks of models, if the machine is large enough and the user agrees.

    Arguments:
        models: hub ids, folders or servers, and whether each is a pipeline.
        profile: the name of the one that they may come from.
        quantize: the precision that pipelines will be loaded in.

    Raises ModelError for a model that cannot be had, GcrError where the disk is too small, and
    UsageError where the machine is, or where the user does not agree.
    """
    offline.obey()
    checkpoints.quiet_libraries()
    missing = [model for model, is_pipeline in models.items() if _is_missing(model, is_pipeline)]
    if not missing:
        return
    chosen = _of_profile(profile, missing)
    pull = f"gcr pull {chosen.name if chosen else ' '.join(missing)}"
    if offline.hub_forbidden():
        raise ModelError(
            f"{missing[0]} is not in the cache, or not all of it, and offline nothing is fetched",
            f"fetch it while there is a connection: {pull}",
        )
    if chosen and chosen.quantize_generator == quantize:
        _check_gpu(chosen, pull)
    try:
        shipments = [shipment_of(model) for model in missing]
    except ModelError as error:
        raise ModelError(error.message, f"{error.hint}; then: {pull}") from error
    for shipment in shipments:
        _check_kind(shipment, models[shipment.model])
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
            f"{pull} fetches ahead; --yes, or {consent.VARIABLE}=1, fetches now",
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
    _, total = card.memory_gib()
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
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for shipment in shipments:
        size = round(shipment.size * SHARE_IN_MEMORY[quantize])
        if size > memory:
            kept = "has" if quantize == "none" else f"in {quantize} takes about"
            raise UsageError(
                f"{shipment.model} {kept} {gigabytes(size)}, and this machine "
                f"{gigabytes(memory)} of memory",
                "take a smaller profile: gcr profiles lists them",
            )


def models_of(names: Iterable[str]) -> list[str]:
    """The models behind names of profiles, hub ids, folders and servers, each once.

    Raises UsageError for a name that is none of these.
    """
    models = []
    for name in names:
        auto = name.casefold() == profiles.AUTO
        if auto or ("/" not in name and ":" not in name):
            profile = profiles.largest(card.memory_gib()[0]).profile if auto else _profile(name)
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


def shipment_of(model: str) -> Shipment:
    """What there is to fetch of a model on the hub.

    Raises UsageError offline, and ModelError for a model that the hub lacks, or for whose licence
    this machine has no access.
    """
    if offline.hub_forbidden():
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
            allow_patterns=_parts(model) if is_pipeline else list(checkpoints.LOADED),
            ignore_patterns=list(NOT_LOADED) if is_pipeline else None,
            dry_run=True,
        )
    if not any(file.filename.endswith(".safetensors") for file in files):
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


def _parts(model: str) -> list[str]:
    """Patterns for the files of a pipeline's parts, each of which has a folder."""
    from huggingface_hub import hf_hub_download

    index = json.loads(Path(hf_hub_download(model, PIPELINE)).read_text(encoding="utf-8"))
    return [PIPELINE, *(f"{part}/*" for part, kind in index.items() if isinstance(kind, list))]


def described(shipment: Shipment) -> str:
    """A shipment in one line."""
    cached = ""
    if not shipment.missing:
        cached = ", all of it here"
    elif shipment.missing < shipment.size:
        cached = f", of which {gigabytes(shipment.size - shipment.missing)} are here"
    return f"{shipment.model}: {shipment.files} files, {gigabytes(shipment.size)}{cached}"


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
        return checkpoints.download(shipment.model, is_pipeline=shipment.is_pipeline)


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
