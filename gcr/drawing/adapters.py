"""LoRAs: loaded once beside a pipeline's weights, switched for each image as its prompt says."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gcr.errors import ModelError, UsageError
from gcr.hub import checkpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.syntax import Lora
    from gcr.hub.weightfiles import LoraFile

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
