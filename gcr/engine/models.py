"""The pair of models of a run: both loaded onto one device, and where they came from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import pocket
from gcr.core.events import Loading, Notice, Progress
from gcr.files import paths
from gcr.hub import checkpoints, fetching
from gcr.hub.vetting import ADAPTER, ADAPTER_WEIGHTS
from gcr.settings import profiles
from gcr.settings.address import is_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.core.events import Consumer
    from gcr.core.records import Critic
    from gcr.core.records import Progress as Told
    from gcr.critic import rubric
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.device.memory import SharedDevice
    from gcr.drawing.generator import DiffusersGenerator
    from gcr.settings.schema import Settings


def load_models(
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
    *,
    edit: bool = False,
    negative: bool = False,
) -> tuple[DiffusersGenerator, VisionLanguageCritic]:
    """Load both models onto one device. edit: whether the generator is to edit images. negative:
    whether it is to take negative prompts beside that of the settings.

    Raises ModelError and UsageError, as each loader does, and as `fetching.provide`.
    """
    from gcr.device.memory import SharedDevice, default_device
    from gcr.drawing import generator

    _provide({settings.generator: True, settings.critic: False}, settings, emit)
    emit(Loading(settings.critic))
    pocket.check_size(settings.generator, settings.width, settings.height)
    generator.check(settings.generator, edit=edit)
    device = SharedDevice(default_device(), settings.residency, smaller=profiles.advice)
    generator.check_precision(settings.quantize_generator, has_gpu=device.limited)
    critic = _critic(settings, questions, emit, device, edit=edit)
    emit(Loading(settings.generator))
    sampling = generator.Sampling(
        width=settings.width,
        height=settings.height,
        steps=settings.steps,
        guidance=settings.guidance,
        call=settings.call,
        batch=settings.draw_batch,
        dtype=settings.dtype,
        compile=settings.compile,
        step_cache=settings.step_cache,
        rewriter=settings.rewriter,
        quantize=settings.quantize_generator,
    )
    drawer = generator.load(settings.generator, sampling, device, _progress(emit), edit=edit)
    if settings.negative or negative:
        drawer.check_negative()
    critic.limit, critic.avoid = drawer.limit, drawer.heeds_negative
    return drawer, critic


def load_critic(
    settings: Settings, questions: rubric.Rubric, emit: Consumer, device: str
) -> VisionLanguageCritic:
    """Load the critic alone, to judge and not to rewrite. device: as torch spells it.

    Raises ModelError and UsageError, as its loader does, and as `fetching.provide`.
    """
    from gcr.device.memory import SharedDevice

    _provide({settings.critic: False}, settings, emit)
    emit(Loading(settings.critic))
    shared = SharedDevice(device, smaller=profiles.advice)
    return _critic(settings, questions, emit, shared)


def _provide(models: Mapping[str, bool], settings: Settings, emit: Consumer) -> None:
    """As `fetching.provide`, once it is seen that there can be such models, and the libraries are
    imported, which takes longest of a small pair. Servers need none of it.
    """
    # Of an adapter, which is here, the base may have to be fetched.
    models = {_fetched(model, is_pipeline): is_pipeline for model, is_pipeline in models.items()}
    local = [model for model in models if not is_address(model)]
    for model in local:
        checkpoints.locate(model)
    if not local:
        return
    emit(Loading("torch, transformers and diffusers"))
    checkpoints.quiet_libraries()
    emit(Loading())  # whoever is to agree to a download must be able to read what is asked
    fetching.provide(models, settings.profile, quantize=settings.quantize_generator)


def _fetched(model: str, is_pipeline: bool) -> str:
    """What has to be on this machine for a model."""
    return model if is_pipeline or is_address(model) else checkpoints.base_of(model) or model


def _critic(
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
    device: SharedDevice,
    *,
    edit: bool = False,
) -> VisionLanguageCritic:
    from gcr.critic import critic, probe

    return critic.load(
        settings.critic,
        questions,
        device,
        quantize=settings.quantize_critic,
        batch=settings.judge_batch,
        score=settings.score,
        judges=settings.judges,
        spread=settings.spread,
        graphs=settings.graphs,
        verify=settings.verify,
        progress=_progress(emit),
        use=probe.Use(
            size=(settings.width, settings.height),
            edit=edit,
            compare=settings.compare or settings.select == "pairwise",
            trusted=settings.trusted,
            warn=lambda message, hint: emit(Notice(message, hint)),
        ),
    )


def _progress(emit: Consumer) -> Told:
    return lambda phase, done, total: emit(Progress(phase, done, total))


def revisions(settings: Settings, critic: Critic) -> dict[str, str | None]:
    """Of the models, by the role they play, and what the critic's server wanted otherwise than
    servers do, if anything.
    """
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.critic.endpoint import EndpointSpeaker

    told = {
        "generator": revision(settings.generator),
        "critic": revision(settings.critic),
    }
    speaker = critic.speaker if isinstance(critic, VisionLanguageCritic) else None
    if isinstance(speaker, EndpointSpeaker) and str(speaker.demands):
        told["server"] = str(speaker.demands)
    return told


def revision(model: str) -> str | None:
    """The commit of a model that was loaded from the hub; None for a folder or a server, which
    tell none. Of an adapter the sha256 of its weights, and its base.
    """
    from huggingface_hub import try_to_load_from_cache

    if model.startswith("pocket:") or is_address(model):
        return None
    if (folder := paths.expanded(model)).is_dir() and (folder / ADAPTER).is_file():
        with (folder / ADAPTER_WEIGHTS).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        base = checkpoints.base_of(model)
        return f"{digest} on {base}" + (f" {commit}" if (commit := revision(base)) else "")
    if paths.exists(folder):
        return None
    for name in ("model_index.json", "config.json"):  # of a pipeline, of a critic
        path = try_to_load_from_cache(model, name)
        if isinstance(path, str):
            return Path(path).parent.name
    return None
