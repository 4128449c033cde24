"""Processors of vision-language models: without torchvision, and with chat templates within bounds.

Most of them also take videos, and that half needs torchvision. gcr shows images only.

Chat templates are programs that come with a checkpoint. transformers runs them in a sandbox in
which they can do nothing but compute, with no bound on time or memory: two nested loops can go on
for years, and a text can double until memory is full.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gcr.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType


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


# Chat templates

MOST_LINES = 1_000_000
MOST_BYTES = 1 << 30
COMPILED = "<template>"
"""What Jinja calls the file of compiled templates."""

HINT = "take another checkpoint"


def check_template(template: object, model: str) -> None:
    """Raise ModelError for what cannot be a template, and for one that computes powers: Jinja would
    do so while it compiles, and no template needs them.

    template: a text, or several by their names.
    """
    from jinja2 import Environment, TemplateSyntaxError

    texts = [*template.values()] if isinstance(template, dict) else [template]
    for text in texts:
        if not isinstance(text, str):
            raise ModelError(f"a chat template of {model} is no text", HINT)
        try:
            tokens = list(Environment(autoescape=True).lex(text))
        except TemplateSyntaxError as error:
            raise ModelError(f"a chat template of {model} is damaged: {error}", HINT) from error
        signs = [sign for _, kind, sign in tokens if kind != "whitespace"]
        for before, sign in pairwise(["", *signs]):
            if sign == "**" and before not in ("(", ","):  # where it passes arguments
                raise ModelError(f"a chat template of {model} computes powers", HINT)


@contextmanager
def bounded() -> Iterator[None]:
    """End a template that runs in this block, in this thread, once it is beyond the bounds.

    Raises ModelError.
    """
    lines, most = 0, _peak() + MOST_BYTES

    def on_line(_: FrameType, event: str, __: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if lines > MOST_LINES or _peak() > most:
            raise ModelError("a chat template does not come to an end", HINT)
        return on_line

    def on_call(frame: FrameType, _: str, __: Any) -> Any:
        return on_line if frame.f_code.co_filename == COMPILED else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


def _peak() -> int:
    """The most memory that this process ever had, in bytes; 0 where the system has no count."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * kilobyte
