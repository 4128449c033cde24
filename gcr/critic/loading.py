"""Loads a critic's weights and its processor. Knows nothing of rubrics and critiques."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.critic import quantized
from gcr.device.loading import loading, working
from gcr.device.out_of_memory import is_out_of_memory
from gcr.device.weights import part_from_layers
from gcr.errors import ModelError
from gcr.hub import checkpoints, processors
from gcr.hub.checkpoints import named_errors
from gcr.hub.processors import torchvision_imports, videoless

if TYPE_CHECKING:
    from gcr.device.memory import SharedDevice
    from gcr.settings.schema import Quantize

logger = logging.getLogger(__name__)


def load(model: str, device: SharedDevice, quantize: Quantize = "nf4") -> tuple[Any, Any]:
    """Load `(model, processor)` from a hub id, a folder or `pocket:critic`.

    The folder may hold a LoRA adapter, which is put on its base model. A freshly quantized model is
    kept on disk, where that pays, and taken from there next time.
    Raises ModelError for what cannot be loaded, and for a model that cannot see images.
    """
    if base := checkpoints.base_of(model):
        loaded, processor = load(base, device, quantize)
        with named_errors(model):
            _adapt(loaded, model)
        return loaded, processor
    place = checkpoints.locate(model)
    checkpoints.quiet_libraries()
    with named_errors(model):
        config = _config(model, place)
        if quantize == "none" or getattr(config, "quantization_config", None) is not None:
            return _load(checkpoints.fetch(place), device)
        copy = quantized.copy_of(checkpoints.version(place), device.name, str(device.dtype()))
    if whole := _from_copy(model, copy, device):
        return whole
    with quantized.turn(copy):
        # Whoever had the turn before may have written it.
        return _from_copy(model, copy, device) or _quantized(model, place, config, copy, device)


def _adapt(model: Any, adapter: str) -> None:
    """Put a LoRA adapter on a model, whose weights stay as they are, 4 bits or not.

    Raises ModelError without peft, and for an adapter of another model.
    """
    with loading():
        try:
            import peft  # noqa: F401 - transformers has it do the work
        except ImportError as error:
            raise ModelError(
                f"{adapter} is an adapter, which needs peft", "pip install 'gcr[lora]'"
            ) from error
        report = model.load_adapter(
            checkpoints.locate(adapter),
            adapter_kwargs={"local_files_only": True},
            use_safetensors=True,
        )
    strange = sorted({*report.missing_keys, *report.unexpected_keys})
    if strange or report.mismatched_keys:
        # transformers would go on with what fits, and with noise for the rest.
        raise ModelError(
            f"{adapter} does not fit {checkpoints.base_of(adapter)}: "
            f"{len(strange) or len(report.mismatched_keys)} of its weights, such as "
            f"{(strange or sorted(map(str, report.mismatched_keys)))[0]}",
            "name the base model that it was trained on in its adapter_config.json",
        )


def _from_copy(model: str, copy: Path, device: SharedDevice) -> tuple[Any, Any] | None:
    """What the copy of a quantized model holds; None where there is none, or none that loads."""
    if not quantized.is_whole(copy):
        return None
    try:
        with named_errors(str(copy)):
            return _load(copy, device)
    except ModelError as error:
        if error.__cause__ and is_out_of_memory(error.__cause__):
            raise
        logger.warning("quantizing %s again: %s", model, error.message)
        quantized.give_up(copy)
        return None


def _quantized(
    model: str, place: str, config: Any, copy: Path, device: SharedDevice
) -> tuple[Any, Any]:
    """A model that is quantized while it loads, and then kept, where that pays."""
    with named_errors(model):
        folder = checkpoints.fetch(place)
        with loading():
            how = quantized.nf4(config, device.dtype())
        loaded, processor = _load(folder, device, how)
    # Before it has run once: on a CPU the first run repacks the weights, and not without loss.
    if quantized.pays(loaded):
        with working():
            quantized.keep(loaded, folder, copy)
    return loaded, processor


def _load(folder: Path, device: SharedDevice, quantization: Any = None) -> tuple[Any, Any]:
    # An argument of None would hide what a copy says about itself.
    how = {} if quantization is None else {"quantization_config": quantization}
    with loading():
        from transformers import AutoModelForImageTextToText

        processor = image_processor(folder)
        device.clear()
        loaded, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=device.dtype(),
            device_map={"": device.name},
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **how,
        )
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"{folder} lacks {len(missing)} of its weights, such as {missing[0]}",
            "download it again",
        )
    part_from_layers(loaded)
    return loaded.eval(), processor


def _config(model: str, place: str) -> Any:
    """The model's config. Raises ModelError for a model that takes no images."""
    with loading():
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if checkpoints.is_local(place) and not (Path(place) / "config.json").is_file():
        raise ModelError(
            f"{model} is not a model of transformers: it has no config.json",
            "give the folder of a vision-language model",
        )
    folder = checkpoints.fetch_file(place, "config.json")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{model} cannot see images: it is a {config.model_type} model",
            "give a vision-language model, such as Qwen/Qwen3-VL-4B-Instruct",
        )
    return config


def image_processor(folder: Path) -> Any:
    """The processor in a folder, with a chat template, ready for left-padded batches.

    Most processors also take videos, and that half of them needs torchvision. A critic is shown
    images only, so without torchvision the other half is enough.
    Raises ModelError for a checkpoint without a chat template, and for a processor that cannot
    do without torchvision.
    """
    processor = _whole_processor(folder) if torchvision_imports() else _videoless_processor(folder)
    tokenizer = processor.tokenizer
    processor.chat_template = processor.chat_template or tokenizer.chat_template
    if not processor.chat_template:
        raise ModelError(
            f"{folder} has no chat template, so nobody can talk to it",
            "take an instruction-tuned vision-language model",
        )
    processors.check_template(processor.chat_template, str(folder))
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def _whole_processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, trust_remote_code=False)


def _videoless_processor(folder: Path) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return videoless(folder, PROCESSOR_MAPPING[type(config)])
    except (ImportError, KeyError, TypeError) as error:
        raise ModelError(
            f"the processor of {folder} needs torchvision", "pip install torchvision"
        ) from error
