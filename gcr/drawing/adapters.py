"""LoRAs: loaded once beside a pipeline's weights, switched for each image as its prompt says."""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gcr.errors import ModelError, UsageError
from gcr.hub import checkpoints, weightfiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from gcr.core.syntax import Lora
    from gcr.hub.weightfiles import LoraFile

logger = logging.getLogger(__name__)

LAYER = re.compile(r"(.+)\.(lora_A|lokr_w1)(?:\.default)?(?:\.weight)?")
"""A key of diffusers' for the layer that a LoRA changes, of which each has one."""
Active = tuple[tuple[str, float], ...]
"""Adapters by diffusers' names for them, and the scale of each."""


class Adapters:
    """The LoRAs of one pipeline.

    Arguments:
        pipeline: of diffusers, which gets their weights.
        always: for every image.
        named: for images whose prompts name them.

    Attributes:
        active: what is switched on.

    Raises UsageError for a pipeline that takes none, ModelError for one that does not fit it.
    """

    def __init__(
        self, pipeline: Any, always: Sequence[LoraFile], named: Sequence[LoraFile]
    ) -> None:
        self._by_path: dict[object, str] = {}
        self._always = [(self._load(pipeline, lora), lora.scale) for lora in always]
        self._named = {lora.name: self._load(pipeline, lora) for lora in named}
        self.active: Active = ()
        if self._by_path:
            pipeline.disable_lora()

    def chosen(self, named: Sequence[Lora]) -> Active:
        """What is switched on for a prompt that names these LoRAs.

        Raises UsageError for one that was not loaded.
        """
        scales = dict(self._always)
        for name, scale in named:
            if name not in self._named:
                raise UsageError(
                    f"the LoRA {name!r} is not loaded: the run began without it",
                    "name it in the prompt that the run begins with, or with --lora",
                )
            scales[self._named[name]] = scale
        return tuple(scales.items())

    def switch(self, pipeline: Any, active: Active) -> None:
        """Have the pipeline draw with these from now on."""
        if active == self.active:
            return
        if active:
            pipeline.enable_lora()
            pipeline.set_adapters([name for name, _ in active], [scale for _, scale in active])
        else:
            pipeline.disable_lora()
        self.active = active

    def _load(self, pipeline: Any, lora: LoraFile) -> str:
        if lora.path in self._by_path:
            return self._by_path[lora.path]
        name = f"lora_{len(self._by_path)}"
        with checkpoints.reworded(
            f"the LoRA {lora.path.name} cannot be loaded", "take one that was made for this family"
        ):
            pipeline.load_lora_weights(
                str(lora.path.parent),
                weight_name=lora.path.name,
                adapter_name=name,
                use_safetensors=True,
                local_files_only=True,
            )
        if all(name not in names for names in pipeline.get_list_adapters().values()):
            raise ModelError(
                f"the LoRA {lora.path.name} changes nothing of {type(pipeline).__name__}",
                "take one that was made for this family",
            )
        self._by_path[lora.path] = name
        return name


def check_takes(pipeline_class: Any) -> None:
    """Raise UsageError for a pipeline that takes no LoRA, ModelError where peft is not here."""
    if not hasattr(pipeline_class, "load_lora_weights"):
        raise UsageError(
            f"{pipeline_class.__name__} takes no LoRA: diffusers loads none for it",
            "leave --lora and <lora:…> out, or take another generator",
        )
    if find_spec("peft") is None:
        raise ModelError("LoRAs need peft, which is not here", "pip install 'gcr[lora]'")


def _width(weight: torch.Tensor) -> int:
    """The values that a weight reads; 0 for one of a shape that reads none."""
    return weight.shape[1] if weight.dim() > 1 else 0


def check_fits(
    lora: LoraFile, pipeline_class: Any, part: str, kind: str, config: Mapping[str, Any]
) -> None:
    """Raise ModelError for a LoRA that diffusers cannot read for a pipeline, or that changes layers
    which it does not have. Reads the LoRA's weights, and none of the pipeline's.

    part: that it is to change, `unet` or `transformer`. kind, config: of that part.
    """
    import diffusers
    import torch
    from diffusers.utils import convert_unet_state_dict_to_peft

    made_for = weightfiles.made_for(lora)
    hint = f"it was made for {made_for}" if made_for else "take one that was made for its family"
    with checkpoints.reworded(
        f"diffusers cannot read the LoRA {lora.path.name} for a {pipeline_class.__name__}", hint
    ):
        read = pipeline_class.lora_state_dict(
            str(lora.path), use_safetensors=True, unet_config=SimpleNamespace(**config)
        )
        weights = read[0] if isinstance(read, tuple) else read
        if part == "unet":
            weights = convert_unet_state_dict_to_peft(weights)
    if weights and all(key.startswith("text_encoder") for key in weights):
        return
    layers = {
        match[1].removeprefix(f"{part}."): _width(weight) if match[2] == "lora_A" else None
        for key, weight in weights.items()
        if key.startswith(f"{part}.") and (match := LAYER.fullmatch(key))
    }
    with torch.device("meta"):  # none of them has values
        modules = getattr(diffusers, kind).from_config(config).named_modules()
    # Of those with a weight of one dimension, as norms have it, there are no LoRAs.
    widths = {
        name: weight.shape[1]
        for name, module in modules
        if (weight := getattr(module, "weight", None)) is not None and weight.dim() > 1
    }
    missing = [name for name in layers if name not in widths]
    misfit = f"the LoRA {lora.path.name} does not fit this generator"
    if 2 * len(missing) >= len(layers):
        known = f"{len(layers) - len(missing)} of the {len(layers)}" if layers else "none of the"
        reason = f"in {kind} diffusers finds {known} layers that it changes"
        raise ModelError(f"{misfit}: {reason}", hint)
    for name, width in layers.items():
        ours = widths.get(name, width)
        if width is not None and width != ours:
            reason = f"its {name} reads {width} values, and the generator's {ours}"
            raise ModelError(f"{misfit}: {reason}", hint)
    if missing:
        logger.warning(
            "%s of the %s layers that the LoRA %s changes are not in this generator, such as %s",
            len(missing),
            len(layers),
            lora.path.name,
            missing[0],
        )
