"""What an image file says of how it was made: by gcr, A1111 and Forge, InvokeAI, Fooocus, ComfyUI.

    PNG          text chunks: gcr, parameters, invokeai_metadata, sd-metadata, prompt and workflow
    JPEG, WebP   EXIF: the comment of the user, which holds `parameters`; all else in other tags

A file may be anybody's: its texts are bounded by what reads them, and a value that is not of the
kind that its name asks for is not taken.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gcr.core import syntax
from gcr.files import imagefile, structured
from gcr.inputs.source import readable
from gcr.settings import samplers
from gcr.storage.metadata import texts_of

SETTINGS = ("prompt", "negative", "seed", "steps", "guidance", "width", "height", "clip_skip")
"""What another run can begin with, by the names of settings."""

_LINE = re.compile(r'(?:^|(?<=,))\s*+(\w[\w /()-]*+):\s*+("(?:[^"\\]|\\.)*+"|[^,]*+)(?:,|$)')
_SIZE = re.compile(r"\(?\s*(\d{1,5})\s*[x×,]\s*(\d{1,5})\s*\)?")
KNOWN = frozenset({"steps", "sampler", "cfg scale", "seed", "size", "model"})
"""Settings of which one at least is in the last line of A1111's form."""
LEAST = 3
"""Settings that A1111's last line has at least; one with fewer belongs to the prompt."""
LONGEST = 64  # nodes of a graph that are followed one after the other


FOOOCUS = (
    *("prompt", "negative_prompt", "seed", "steps", "guidance_scale", "resolution", "base_model"),
    *("sampler", "scheduler", "loras", "clip_skip"),
)
INVOKEAI = (
    *("positive_prompt", "negative_prompt", "seed", "steps", "cfg_scale", "guidance", "width"),
    *("height", "model", "scheduler", "loras", "clip_skip"),
)
"""What is read of their metadata by name; all else is only shown."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an image was made, as one program wrote it down. None: it does not say.

    form: `gcr`, `A1111`, `InvokeAI`, `Fooocus` or `ComfyUI`.
    width, height: as they were asked for, in pixels; the file may be larger.
    model, sampler: by that program's names. clip_skip: as A1111 counts.
    loras: each as `name:weight`, or its name alone.
    more: all else that it says, by that program's names.
    remarks: why the same settings would not draw the same image, or what cannot be read.
    """

    form: str
    prompt: str | None = None
    negative: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    model: str | None = None
    sampler: str | None = None
    clip_skip: int | None = None
    loras: tuple[str, ...] = ()
    more: Mapping[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What another run can begin with, by the names of settings, as far as it is said."""
        values = {name: getattr(self, name) for name in SETTINGS}
        if self.sampler and (choice := samplers.find(self.sampler)):
            values["scheduler"] = choice.name
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Carried:
    """What an image file carries.

    kind: of file, such as `PNG`. width, height: of the image in pixels.
    stories: what each program wrote, that which says most first; empty where none did.
    texts: all texts of the file as they are, by the names of their chunks.
    """

    kind: str
    width: int
    height: int
    stories: tuple[Provenance, ...]
    texts: Mapping[str, str]

    @property
    def usable(self) -> Provenance | None:
        """The first that has a prompt, for a run to begin with."""
        return next((each for each in self.stories if each.prompt is not None), None)

    def as_json(self) -> dict[str, object]:
        """JSON values of all of it; what `gcr info --json` prints."""
        return asdict(self)


def read(path: Path) -> Carried:
    """Read an image file. Raises UsageError for one that cannot be read, or is no image."""
    with readable(str(path)), imagefile.opened(path) as image:
        image.load()  # a text chunk may stand behind the pixels
        kind, (width, height), texts = str(image.format), image.size, texts_of(image)
    stories = (_story(key, texts[key]) for key in FORMS if key in texts)
    return Carried(kind, width, height, tuple(filter(None, stories)), texts)


def _story(key: str, text: str) -> Provenance | None:
    """What the text of a chunk says; None where no program that is known here wrote it."""
    if key == "parameters" and not text.lstrip().startswith("{"):
        return _a1111(text)  # all others write JSON, as Fooocus does under the same name
    form, reader = FORMS[key]
    try:
        story = _with_finite(structured.parse_json(text))
    except ValueError:
        story = None
    if not isinstance(story, dict):
        return Provenance(form, remarks=("what it says is damaged",))
    return reader(story)


# What each program writes


def _tagged(prompt: str) -> tuple[str, ...]:
    """The LoRAs that a prompt names in tags."""
    return tuple(f"{lora.name}:{lora.scale:g}" for lora in syntax.loras(prompt))


def _gcr(story: Mapping[str, Any]) -> Provenance:
    candidate, settings = _part(story, "candidate"), _part(story, "settings")
    request, listed = _part(story, "request"), settings.get("lora")
    remarks = []
    if start := _text(candidate.get("start")):
        remarks.append(f"it was drawn from {start} of the same run, and not from noise alone")
    if candidate.get("mutations"):
        remarks.append("its noise was changed by further seeds")
    if request.get("source"):
        remarks.append("it is an edit of another image")
    critique = _part(story, "critique")
    prompt = _text(candidate.get("prompt"))
    loras = [str(lora) for lora in listed] if isinstance(listed, list) else []
    more = {
        "request": request.get("prompt"),
        "round": story.get("round"),
        "score": story.get("score"),
        "critic": settings.get("critic"),
        "summary": critique.get("summary"),
    }
    return Provenance(
        "gcr",
        prompt,
        _text(candidate.get("negative")),
        _whole(candidate.get("seed")),
        _whole(settings.get("steps")),
        _number(settings.get("guidance")),
        _whole(settings.get("width")),
        _whole(settings.get("height")),
        _text(settings.get("generator")),
        _text(settings.get("scheduler")) or None,
        _whole(settings.get("clip_skip")),
        (*loras, *_tagged(prompt or "")),
        _others(more, ()),
        remarks=tuple(remarks),
    )


def _a1111(text: str) -> Provenance | None:
    """Lines of the prompt, those of the negative one, and a line of settings."""
    lines = text.strip().split("\n")
    pairs = {key.strip(): _unquoted(value) for key, value in _LINE.findall(lines[-1])}
    if len(pairs) < LEAST or KNOWN.isdisjoint(map(str.casefold, pairs)):
        pairs = {}
    else:
        lines.pop()
    starts = [i for i, line in enumerate(lines) if line.strip().startswith("Negative prompt:")]
    at = starts[0] if starts else len(lines)
    prompt, negative = "\n".join(lines[:at]).strip(), "\n".join(lines[at:]).strip()
    if not pairs and not starts:
        return None  # some other program's text
    rest = {key.casefold(): (key, value) for key, value in pairs.items()}

    def take(key: str) -> str | None:
        return rest.pop(key.casefold(), (key, None))[1]

    cfg, distilled = _number(take("CFG scale")), _number(take("Distilled CFG Scale"))
    seed, size = _whole(take("Seed")), _size(take("Size"))
    sampler = " ".join(filter(None, (take("Sampler"), take("Schedule type"))))
    steps, model, skip = _whole(take("Steps")), take("Model"), _whole(take("Clip skip"))
    remarks = []
    if "hires upscale" in rest:
        remarks.append("it was drawn once more, larger (Hires fix)")
    elif "denoising strength" in rest:
        remarks.append("it was drawn from another image (denoising strength)")
    if "variation seed" in rest:
        remarks.append("its noise was mixed with that of another seed (variation seed)")
    return Provenance(
        "A1111",
        prompt,
        negative.removeprefix("Negative prompt:").strip(),
        seed if seed is not None and seed >= 0 else None,  # -1: any
        steps,
        cfg if distilled is None else distilled,
        *size,
        model,
        sampler or None,
        skip,
        _tagged(prompt),
        dict(rest.values()),
        tuple(remarks),
    )


def _fooocus(story: Mapping[str, Any]) -> Provenance:
    width, height = _size(story.get("resolution"))
    sampler = " ".join(filter(None, (_text(story.get("sampler")), _text(story.get("scheduler")))))
    loras = story.get("loras")
    return Provenance(
        "Fooocus",
        _text(story.get("prompt")),
        _text(story.get("negative_prompt")),
        _whole(story.get("seed")),
        _whole(story.get("steps")),
        _number(story.get("guidance_scale")),
        width,
        height,
        _text(story.get("base_model")),
        sampler or None,
        _whole(story.get("clip_skip")),
        tuple(
            f"{each[0]}:{each[1]}"
            for each in (loras if isinstance(loras, list) else ())
            if isinstance(each, list) and len(each) > 1
        ),
        _others(story, FOOOCUS),
    )


def _invokeai(story: Mapping[str, Any]) -> Provenance:
    """From InvokeAI 3 on."""
    cfg, guidance = _number(story.get("cfg_scale")), _number(story.get("guidance"))
    listed = story.get("loras")
    loras = []
    for lora in listed if isinstance(listed, list) else ():
        name = _model(_part(lora, "model") or _part(lora, "lora"))
        weight = _number(lora.get("weight")) if name else None
        loras += [name if weight is None else f"{name}:{weight:g}"] if name else []
    mode, skipped = str(story.get("generation_mode") or ""), _whole(story.get("clip_skip"))
    return Provenance(
        "InvokeAI",
        _text(story.get("positive_prompt")),
        _text(story.get("negative_prompt")),
        _whole(story.get("seed")),
        _whole(story.get("steps")),
        cfg if guidance is None else guidance,
        _whole(story.get("width")),
        _whole(story.get("height")),
        _model(_part(story, "model")),
        _text(story.get("scheduler")),
        skipped and skipped + 1,
        tuple(loras),
        _others(story, INVOKEAI),
        (f"it was drawn from another image ({mode})",)
        if mode and not mode.endswith("txt2img")
        else (),
    )


def _old_invokeai(story: Mapping[str, Any]) -> Provenance:
    """InvokeAI 2: what must not be seen stands in brackets inside of the prompt."""
    made = _part(story, "image")
    written = made.get("prompt")
    parts = written if isinstance(written, list) else [{"prompt": written}]
    texts = (_text(each.get("prompt")) for each in parts if isinstance(each, dict))
    whole = " ".join(filter(None, texts))
    return Provenance(
        "InvokeAI",
        " ".join(re.sub(r"\[[^\]]*+\]", " ", whole).split()) or None,
        ", ".join(re.findall(r"\[([^\]]*+)\]", whole)),
        _whole(made.get("seed")),
        _whole(made.get("steps")),
        _number(made.get("cfg_scale")),
        _whole(made.get("width")),
        _whole(made.get("height")),
        _text(story.get("model_weights")) or _text(story.get("model")),
        _text(made.get("sampler")),
        more={"app_version": story["app_version"]} if "app_version" in story else {},
        remarks=("it was drawn from another image (img2img)",)
        if made.get("type") not in (None, "txt2img")
        else (),
    )


def _comfyui(graph: Mapping[str, Any]) -> Provenance | None:
    nodes = {key: node for key, node in graph.items() if isinstance(node, dict)}
    if not any("class_type" in node for node in nodes.values()):
        return None
    return _Graph(nodes).provenance()


class _Graph:
    """A graph of ComfyUI's, read where it is plain: one sampler, and literal values before it."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]]) -> None:
        self.nodes = nodes
        self.guidance: float | None = None  # of a node between prompt and sampler

    def provenance(self) -> Provenance:
        kinds = {key: str(node.get("class_type")) for key, node in self.nodes.items()}
        samplers = [key for key, kind in kinds.items() if kind in ("KSampler", "KSamplerAdvanced")]
        if len(samplers) != 1:
            listed = ", ".join(dict.fromkeys(kinds[key] for key in samplers)) or "no KSampler"
            why = f"{len(samplers)} of {listed}" if samplers else listed
            return Provenance(
                "ComfyUI", remarks=(f"its graph is not plain ({why}), so it is not read",)
            )
        inputs = _part(self.nodes[samplers[0]], "inputs")
        negative = self._prompt(inputs.get("negative"))
        self.guidance = None  # what goes with the negative prompt guides nothing
        prompt = self._prompt(inputs.get("positive"))
        guidance = self.guidance
        if guidance is None:
            guidance = _number(self._value(inputs.get("cfg")))
        model, loras = self._model(inputs.get("model"))
        latent = self._inputs(inputs.get("latent_image"))
        width, height = (_whole(self._value(latent.get(side))) for side in ("width", "height"))
        sampler = (_text(self._value(inputs.get(key))) for key in ("sampler_name", "scheduler"))
        remarks = []
        if prompt is None:
            remarks.append("its prompt is put together by other nodes, and is not read")
        if width is None:
            remarks.append("it was drawn from another image, or its size comes from other nodes")
        denoise = _number(self._value(inputs.get("denoise")))
        if denoise is not None and denoise < 1:
            remarks.append(f"only part of its noise was taken away (denoise {denoise:g})")
        seed = inputs.get("seed", inputs.get("noise_seed"))
        return Provenance(
            "ComfyUI",
            prompt,
            negative,
            _whole(self._value(seed)),
            _whole(self._value(inputs.get("steps"))),
            guidance,
            width,
            height,
            model,
            " ".join(filter(None, sampler)) or None,
            None,
            loras,
            remarks=tuple(remarks),
        )

    def _inputs(self, link: object) -> dict[str, Any]:
        """The inputs of the node that a link comes from."""
        if isinstance(link, list) and len(link) == 2:
            return _part(self.nodes.get(str(link[0]), {}), "inputs")
        return {}

    def _value(self, given: object) -> object:
        """A value that is written down: in place, or in a node that does nothing but hold it."""
        if not isinstance(given, list):
            return given
        held = [value for value in self._inputs(given).values() if not isinstance(value, list)]
        return held[0] if len(held) == 1 else None

    def _prompt(self, link: object) -> str | None:
        """The text that a sampler's conditioning is made of."""
        for _ in range(LONGEST):
            inputs = self._inputs(link)
            for key in ("text", "text_g", "t5xxl"):
                if key in inputs:
                    self._see_guidance(inputs)
                    return _text(self._value(inputs[key]))
            if "conditioning" not in inputs:
                return None
            if self._kind(link) == "ConditioningZeroOut":
                return ""
            self._see_guidance(inputs)
            link = inputs["conditioning"]
        return None

    def _see_guidance(self, inputs: Mapping[str, object]) -> None:
        """Flux' guidance, which goes with the prompt; `cfg` is then 1."""
        guidance = _number(self._value(inputs.get("guidance")))
        self.guidance = self.guidance if guidance is None else guidance

    def _kind(self, link: object) -> str:
        node = self.nodes.get(str(link[0]), {}) if isinstance(link, list) and link else {}
        return str(node.get("class_type"))

    def _model(self, link: object) -> tuple[str | None, tuple[str, ...]]:
        """The checkpoint that a sampler's model comes from, and the LoRAs on the way."""
        loras: list[str] = []
        for _ in range(LONGEST):
            inputs = self._inputs(link)
            for key in ("ckpt_name", "unet_name"):
                if key in inputs:
                    return _text(inputs[key]), tuple(reversed(loras))
            if lora := _text(inputs.get("lora_name")):
                weight = _number(inputs.get("strength_model"))
                loras.append(lora if weight is None else f"{lora}:{weight:g}")
            link = inputs.get("model")
        return None, tuple(reversed(loras))


Reader = Callable[[Mapping[str, Any]], Provenance | None]
FORMS: Mapping[str, tuple[str, Reader]] = {
    "gcr": ("gcr", _gcr),
    "parameters": ("Fooocus", _fooocus),
    "invokeai_metadata": ("InvokeAI", _invokeai),
    "sd-metadata": ("InvokeAI", _old_invokeai),
    "prompt": ("ComfyUI", _comfyui),
}
"""The programs that write JSON, and what reads it, by the names of their texts, that which says
most first."""


# Values


def _others(story: Mapping[str, object], used: tuple[str, ...]) -> dict[str, object]:
    """What else is said, without what is empty."""
    return {
        key: _finite(value)
        for key, value in story.items()
        if key not in used and value not in (None, "", [], {})
    }


def _finite(value: object) -> object:
    """A value of JSON without NaN, which Python reads and no other program does."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value if not isinstance(value, float) or abs(value) < float("inf") else None


def _part(story: object, key: str) -> dict[str, Any]:
    value = story.get(key) if isinstance(story, dict) else None
    return value if isinstance(value, dict) else {}


def _model(described: Mapping[str, object]) -> str | None:
    return _text(described.get("name")) or _text(described.get("model_name"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value  # exact, also where it is too large for a float
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value):
        return int(value)
    return int(number) if number is not None and number.is_integer() else None


def _with_finite(value: object) -> object:
    """JSON with nothing in the place of NaN and infinity, which ComfyUI writes and JSON has not."""
    if isinstance(value, dict):
        return {key: _with_finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _size(value: object) -> tuple[int | None, int | None]:
    """`512x768`, or Fooocus' `(512, 768)`."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else (None, None)


def _unquoted(value: str) -> str:
    value = value.strip()
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value.strip('"')
