"""Loads the processor of a vision-language model, with or without torchvision.

Most processors also take videos, and that half of them needs torchvision. gcr shows a critic
images only, so without torchvision the other half is enough.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gcr.errors import ModelError
from gcr.hub import templates

if TYPE_CHECKING:
    from pathlib import Path


def image_processor(folder: Path) -> Any:
    """The processor in a folder, with a chat template, ready for left-padded batches.

    Raises ModelError for a checkpoint without a chat template, and for a processor that cannot
    do without torchvision.
    """
    processor = _whole(folder) if torchvision_imports() else _without_video(folder)
    tokenizer = processor.tokenizer
    processor.chat_template = processor.chat_template or tokenizer.chat_template
    if not processor.chat_template:
        raise ModelError(
            f"{folder} has no chat template, so nobody can talk to it",
            "take an instruction-tuned vision-language model",
        )
    templates.check(processor.chat_template, str(folder))
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def torchvision_imports() -> bool:
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):
        # RuntimeError: one that was built for another version of torch.
        return False
    return True


def _whole(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, trust_remote_code=False)


def _without_video(folder: Path) -> Any:
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        whole = PROCESSOR_MAPPING[type(config)]
        halves = [name for name in whole.get_attributes() if name != "video_processor"]
        image_only = type(
            whole.__name__, (whole,), {"get_attributes": classmethod(lambda _: halves)}
        )
        settings, _ = image_only.get_processor_dict(folder)  # type: ignore[attr-defined]
        takes = inspect.signature(whole.__init__).parameters
        return image_only(
            tokenizer=AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
            image_processor=AutoImageProcessor.from_pretrained(
                folder, backend="pil", trust_remote_code=False
            ),
            **{k: v for k, v in settings.items() if k in takes and k not in whole.get_attributes()},
        )
    except (ImportError, KeyError, TypeError) as error:
        raise ModelError(
            f"the processor of {folder} needs torchvision", "pip install torchvision"
        ) from error
