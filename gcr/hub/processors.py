"""Processors of vision-language models, read without torchvision.

Most of them also take videos, and that half needs torchvision. gcr shows images only.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def torchvision_imports() -> bool:
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):
        # RuntimeError: one that was built for another version of torch.
        return False
    return True


def takes_videos(processor_class: Any) -> bool:
    """Whether a processor of this class of transformers has a half for videos."""
    return "video_processor" in processor_class.get_attributes()


def image_only(whole: Any) -> Any:
    """A class like `whole`, a processor's, but for the half that takes videos."""
    halves = [name for name in whole.get_attributes() if name != "video_processor"]
    changes = {"get_attributes": classmethod(lambda _: halves), "__module__": whole.__module__}
    return type(whole.__name__, (whole,), changes)


def videoless(folder: Path, whole: Any) -> Any:
    """The processor in a folder, of class `whole` but for the half that takes videos.

    Raises ImportError, KeyError or TypeError for a processor that cannot do without torchvision.
    """
    from transformers import AutoImageProcessor, AutoTokenizer

    kind = image_only(whole)
    settings, _ = kind.get_processor_dict(folder)
    takes = inspect.signature(whole.__init__).parameters
    return kind(
        tokenizer=AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
        image_processor=AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False
        ),
        **{k: v for k, v in settings.items() if k in takes and k not in whole.get_attributes()},
    )
