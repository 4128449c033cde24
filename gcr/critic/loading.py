"""Loads a critic's weights and its processor. Knows nothing of rubrics and critiques."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gcr import checkpoint
from gcr.checkpoint import named_errors
from gcr.critic import quantized
from gcr.critic.processor import image_processor
from gcr.errors import ModelError

if TYPE_CHECKING:
    from gcr.device.memory import SharedDevice

logger = logging.getLogger(__name__)

Quantize = Literal["nf4", "none"]


def load(model: str, device: SharedDevice, quantize: Quantize = "nf4") -> tuple[Any, Any]:
    """Load `(model, processor)` from a hub id, a folder or `pocket:critic`.

    A freshly quantized model is kept on disk, where that pays, and taken from there next time.
    Raises ModelError for what cannot be loaded, and for a model that cannot see images.
    """
    place = checkpoint.locate(model)
    checkpoint.quiet_libraries()
    with named_errors(model):
        config = _config(model, place)
        if quantize == "none" or getattr(config, "quantization_config", None) is not None:
            return _load(checkpoint.fetch(place), device)
        copy = quantized.copy_of(checkpoint.version(place), device.name, str(device.dtype()))
    if quantized.is_whole(copy):
        try:
            with named_errors(str(copy)):
                return _load(copy, device)
        except ModelError as error:
            logger.warning("quantizing %s again: %s", model, error.message)
    with named_errors(model):
        folder = checkpoint.fetch(place)
        loaded, processor = _load(folder, device, quantized.nf4(config, device.dtype()))
    # Before it has run once: on a CPU the first run repacks the weights, and not without loss.
    if quantized.pays(loaded):
        quantized.keep(loaded, folder, copy)
    return loaded, processor


def _load(folder: Path, device: SharedDevice, quantization: Any = None) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText

    processor = image_processor(folder)
    device.clear()
    # An argument of None would hide what a copy says about itself.
    how = {} if quantization is None else {"quantization_config": quantization}
    loaded, report = AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=device.dtype(),
        device_map={"": device.name},
        use_safetensors=True,
        output_loading_info=True,
        **how,
    )
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"{folder} lacks {len(missing)} of its weights, such as {missing[0]}",
            "download it again",
        )
    quantized.part_from_layers(loaded)
    return loaded.eval(), processor


def _config(model: str, place: str) -> Any:
    """The model's config. Raises ModelError for a model that takes no images."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if checkpoint.is_local(place) and not (Path(place) / "config.json").is_file():
        raise ModelError(
            f"{model} is not a model of transformers: it has no config.json",
            "give the folder of a vision-language model",
        )
    config = AutoConfig.from_pretrained(place)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{model} cannot see images: it is a {config.model_type} model",
            "give a vision-language model, such as Qwen/Qwen3-VL-4B-Instruct",
        )
    return config
