"""The pair of models of a run: both loaded onto one device, and where they came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gcr import pocket
from gcr.core import syntax
from gcr.core.events import Loading, Notice, Progress
from gcr.critic.limits import is_limited
from gcr.engine import signals
from gcr.errors import GcrError, UsageError
from gcr.files import paths
from gcr.hub import checkpoints, fetching, weightfiles
from gcr.hub.vetting import ADAPTER, ADAPTER_WEIGHTS
from gcr.settings import profiles
from gcr.settings.address import is_address

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gcr.core.events import Consumer
    from gcr.core.records import Critic, ProgressCallback
    from gcr.critic import rubric
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.critic.taste import Taste
    from gcr.device.memory import SharedDevice
    from gcr.drawing.generator import DiffusersGenerator, Files, Sampling
    from gcr.hub.weightfiles import SingleFile
    from gcr.settings.schema import Settings

IMPORTING = Loading("torch, transformers and diffusers")
"""Shown first, before anything that takes a while."""


def load_models(  # noqa: PLR0913 - each for itself
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
    *,
    edit: bool = False,
    negative: bool = False,
    prompts: Collection[str] = (),
) -> tuple[DiffusersGenerator, VisionLanguageCritic]:
    """Load both models onto one device. edit: whether the generator is to edit images. negative:
    whether it is to take negative prompts beside that of the settings. prompts: that will be drawn,
    whose LoRAs are loaded, too.

    Raises ModelError and UsageError, as each loader does, and as `fetching.provide`.
    """
    in_folders = () if weightfiles.is_file(settings.generator) else (settings.generator,)
    _begin((*in_folders, settings.critic), emit)
    files = files_of(settings, prompts)
    with weightfiles.reading_ahead(_weights(settings.generator, files)):
        models = {settings.critic: False}
        if files.checkpoint is None:
            models = {settings.generator: True, **models}
        if files.vae and not weightfiles.is_file(files.vae):
            models[files.vae] = False
        _provide(models, settings, emit, around=files.checkpoint)
        files = files_of(settings, prompts, fetch=True)
        weightfiles.hash_ahead(hashed(files))
        emit(Loading(settings.critic))
        pair = _load_pair(settings, questions, emit, files, edit=edit)
    return _matched(*pair, settings, negative=negative)


def _load_pair(
    settings: Settings, questions: rubric.Rubric, emit: Consumer, files: Files, *, edit: bool
) -> tuple[DiffusersGenerator, VisionLanguageCritic]:
    from gcr.device.memory import SharedDevice, default_device
    from gcr.drawing import generator

    pocket.check_size(settings.generator, settings.width, settings.height)
    sampling = sampling_of(settings)
    generator.check(settings.generator, edit=edit, sampling=sampling, files=files)
    device = SharedDevice(default_device(), settings.residency, smaller=profiles.advice)
    generator.check_precision(settings.quantize_generator, has_gpu=device.limited)
    critic = _critic(settings, questions, emit, device, edit=edit)
    emit(Loading(settings.generator))
    drawer = generator.load(
        settings.generator, sampling, device, _progress(emit), edit=edit, files=files
    )
    return drawer, critic


def _weights(model: str, files: Files) -> list[Path]:
    """The files that a generator's weights are loaded from, as far as they are on this machine."""
    file = files.checkpoint
    if file is None:
        return checkpoints.weights_at_hand(checkpoints.locate(model))
    place = checkpoints.locate(file.config)
    held = weightfiles.parts_held(file.keys, checkpoints.index_at_hand(place))
    return [file.path, *checkpoints.weights_at_hand(place, held)]


def adapt(
    drawer: DiffusersGenerator,
    critic: VisionLanguageCritic,
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
) -> tuple[DiffusersGenerator, VisionLanguageCritic]:
    """Models that are loaded already, for other settings that need the same weights.

    Raises UsageError for settings that the pipeline does not take, and what connecting raises where
    the critic is on a server.
    """
    pocket.check_size(settings.generator, settings.width, settings.height)
    drawer.adopt(sampling_of(settings))
    critic = adapt_critic(critic, settings, questions, emit, drawer.device)
    return _matched(drawer, critic, settings)


def adapt_critic(
    critic: VisionLanguageCritic,
    settings: Settings,
    questions: rubric.Rubric,
    emit: Consumer,
    device: SharedDevice,
) -> VisionLanguageCritic:
    """As `adapt`, of the critic alone."""
    if is_address(settings.critic):
        return _critic(settings, questions, emit, device)
    return judging_by(critic, settings, questions)


def judging_by(
    critic: VisionLanguageCritic, settings: Settings, questions: rubric.Rubric
) -> VisionLanguageCritic:
    """A critic on this machine that judges as these settings say."""
    return critic.by(
        questions,
        score=settings.score,
        judges=settings.judges,
        spread=settings.spread,
        tastes=tastes(settings, questions),
    )


def tastes(settings: Settings, questions: rubric.Rubric) -> tuple[Taste, ...]:
    """The user's own aspects, the rubric's and those of the settings.

    Raises UsageError for what is none, and for a critic that cannot be asked about them.
    """
    wanted = questions.tastes(settings.aspect)
    if wanted and is_limited(settings.critic):
        raise UsageError(
            f"{settings.critic} cannot say whether an image has {wanted[0].name!r}: "
            "it knows coloured shapes only",
            "name a --critic that answers questions, or a larger --profile",
        )
    return wanted


def _matched(
    drawer: DiffusersGenerator,
    critic: VisionLanguageCritic,
    settings: Settings,
    *,
    negative: bool = False,
) -> tuple[DiffusersGenerator, VisionLanguageCritic]:
    """A pair whose critic knows what its generator reads."""
    if settings.negative or negative:
        drawer.check_negative()
    critic.limit, critic.avoid = drawer.limit, drawer.heeds_negative
    return drawer, critic


def sampling_of(settings: Settings) -> Sampling:
    """How the generator is to draw."""
    from gcr.drawing.generator import Sampling

    return Sampling(
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
        scheduler=settings.scheduler,
        clip_skip=settings.clip_skip,
        prompt_syntax=settings.prompt_syntax,
    )


def files_of(settings: Settings, prompts: Collection[str] = (), *, fetch: bool = False) -> Files:
    """What the generator is made of besides its own folder; headers of files are looked at.

    prompts: that will be drawn, which may name LoRAs.
    fetch: LoRAs of the hub that are not in the cache; else these are left out.
    Raises UsageError and ModelError for what is not there, or is none of it.
    """
    from gcr.drawing.generator import Files

    checkpoint = None
    if weightfiles.is_file(settings.generator):
        checkpoint = weightfiles.single_file(settings.generator, settings.config)
    elif settings.config:
        raise UsageError(
            f"--config says what a checkpoint in one file is, and {settings.generator} is none",
            "leave it out",
        )
    if settings.vae and weightfiles.is_file(settings.vae):
        weightfiles.check(settings.vae, "the VAE")
    given = (fetching.lora(each, settings.lora_dir, fetch=fetch) for each in settings.lora)
    marked = prompts if settings.prompt_syntax == "a1111" else ()
    tags = {tag.name: tag for prompt in marked for tag in syntax.loras(prompt)}
    named = (weightfiles.find_lora(*tag, settings.lora_dir) for tag in tags.values())
    return Files(checkpoint, settings.vae, tuple(filter(None, given)), tuple(named))


def hashed(files: Files) -> dict[str, Path]:
    """The files whose hashes are recorded, by the names they have there."""
    paths_ = {}
    if files.checkpoint is not None:
        paths_["generator"] = files.checkpoint.path
    if files.vae and weightfiles.is_file(files.vae):
        paths_["vae"] = weightfiles.check(files.vae, "the VAE")
    loras = {f"lora {lora.name}": lora.path for lora in (*files.always, *files.named)}
    return {**paths_, **loras}


def unfit(settings: Settings, name: str, value: object) -> str:
    """Why a scheduler or a CLIP skip is not for the generator, in words; empty where it is, or
    where the generator is not at hand to tell.

    name: `scheduler` or `clip_skip`.
    """
    from gcr.drawing import generator, reading

    try:
        file = files_of(settings).checkpoint
        index = checkpoints.index_at_hand(
            checkpoints.locate(file.config if file else settings.generator)
        )
        if not index:
            return ""
        if name == "clip_skip":
            kind = str(index.get("_class_name"))
            return "" if kind in reading.FAMILIES else f"{kind} has none"
        sampling = replace(sampling_of(settings), scheduler=str(value))
        generator.check(settings.generator, sampling=sampling, files=files_of(settings))
    except GcrError as error:
        return error.message
    return ""


def load_critic(
    settings: Settings, questions: rubric.Rubric, emit: Consumer, device: str = ""
) -> VisionLanguageCritic:
    """Load the critic alone, to judge and not to rewrite. device: as torch spells it; empty: the
    GPU where there is one.

    Raises ModelError and UsageError, as its loader does, and as `fetching.provide`.
    """
    from gcr.device.memory import SharedDevice, default_device

    _begin((settings.critic,), emit)
    _provide({settings.critic: False}, settings, emit)
    emit(Loading(settings.critic))
    device = device or ("cpu" if is_address(settings.critic) else default_device())
    shared = SharedDevice(device, smaller=profiles.advice)
    return _critic(settings, questions, emit, shared)


def _begin(models: Collection[str], emit: Consumer) -> None:
    """Say that libraries are imported, once it is seen that there can be such models. Servers need
    none of it.
    """
    local = [model for model in models if not is_address(model)]
    for model in local:
        checkpoints.locate(model)
    if local:
        emit(IMPORTING)


def _provide(
    models: Mapping[str, bool],
    settings: Settings,
    emit: Consumer,
    around: SingleFile | None = None,
) -> None:
    """As `fetching.provide`, once the libraries are imported, which takes longest of a small pair.
    Servers need none of it.
    """
    # Of an adapter, which is here, the base may have to be fetched.
    models = {_fetched(model, is_pipeline): is_pipeline for model, is_pipeline in models.items()}
    local = [model for model in models if not is_address(model)]
    for model in local:
        checkpoints.locate(model)
    if not local:
        return
    with signals.held_back():
        checkpoints.quiet_libraries()
    emit(Loading())  # whoever is to agree to a download must be able to read what is asked
    fetching.provide(models, settings.profile, quantize=settings.quantize_generator, around=around)


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
        tastes=tastes(settings, questions),
        progress=_progress(emit),
        use=probe.Use(
            size=(settings.width, settings.height),
            edit=edit,
            compare=settings.compare or settings.select == "pairwise",
            trusted=settings.trusted,
            warn=lambda message, hint: emit(Notice(message, hint)),
        ),
    )


def _progress(emit: Consumer) -> ProgressCallback:
    return lambda phase, done, total: emit(Progress(phase, done, total))


def revisions(
    settings: Settings, critic: Critic, prompts: Collection[str] = ()
) -> dict[str, str | None]:
    """What the models are, by the role they play: the commit of one from the hub, the sha256 of a
    file, of a LoRA that of its weights; None for a folder or a server, which tell none. Also what
    the critic's server wanted otherwise than servers do, if anything.
    """
    from gcr.critic.critic import VisionLanguageCritic
    from gcr.critic.endpoint import EndpointSpeaker

    known = {"generator": revision(settings.generator), "critic": revision(settings.critic)}
    if settings.vae:
        known["vae"] = revision(settings.vae)
    for role, path in hashed(files_of(settings, prompts)).items():
        hashes = weightfiles.hashes(path)
        known[role] = f"sha256 {hashes.weights if role.startswith('lora ') else hashes.whole}"
    speaker = critic.speaker if isinstance(critic, VisionLanguageCritic) else None
    if isinstance(speaker, EndpointSpeaker) and str(speaker.demands):
        known["server"] = str(speaker.demands)
    return known


def revision(model: str) -> str | None:
    """The commit of a model that was loaded from the hub; None for a folder or a server, which
    tell none. Of an adapter the sha256 of its weights, and its base.
    """
    from huggingface_hub import try_to_load_from_cache

    if model.startswith("pocket:") or is_address(model):
        return None
    if (folder := paths.expanded(model)).is_dir() and (folder / ADAPTER).is_file():
        digest = weightfiles.hashes(folder / ADAPTER_WEIGHTS).whole
        base = checkpoints.base_of(model)
        return f"{digest} on {base}" + (f" {commit}" if (commit := revision(base)) else "")
    if paths.exists(folder):
        return None
    for name in ("model_index.json", "config.json"):  # of a pipeline, of a critic
        path = try_to_load_from_cache(model, name)
        if isinstance(path, str):
            return Path(path).parent.name
    return None
