"""What an image file says of how it was made: by gcr, A1111, Forge, ComfyUI, InvokeAI and others.

    PNG          text chunks: gcr, parameters, invokeai_metadata, sd-metadata, prompt and workflow,
                 NovelAI's Comment, Draw Things' XMP, and one for each value of Easy Diffusion
    JPEG, WebP   EXIF: the comment of the user, which holds `parameters`; all else in other tags

A file may be anybody's: its texts are bounded by what reads them, and a value that is not of the
kind that its name asks for is not taken.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gcr.core import syntax
from gcr.files import imagefile, structured
from gcr.inputs.source import readable
from gcr.settings import samplers
from gcr.storage.metadata import XMP, texts_of

SETTINGS = ("prompt", "negative", "seed", "steps", "guidance", "width", "height", "clip_skip")
"""What another run can begin with, by the names of settings."""

_KEY = re.compile(r"(?:^|,)\s*+(\w[\w /()-]*+):\s*+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_SIZE = re.compile(r"\(?\s*(\d{1,5})\s*[x×,]\s*(\d{1,5})\s*\)?")
_ENTRY = re.compile(r"<rdf:li[^<>]*+>([^<]*+)</rdf:li>")
KNOWN = frozenset({"steps", "sampler", "cfg scale", "seed", "size", "model"})
"""Settings of which one at least is in A1111's line of them."""
LEAST = 3
"""Settings that A1111's line has at least; one with fewer belongs to the prompt."""
TEMPLATES = ("Template:", "Negative Template:")
"""How lines begin that Dynamic Prompts writes behind that line."""
LONGEST = 64  # nodes of a graph that are followed for one value

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "positive_prompt", "c"),
    "negative": ("negative_prompt", "negativeprompt", "negative", "uc"),
    "seed": ("seed",),
    "steps": ("steps", "num_inference_steps"),
    "guidance": ("guidance", "guidance_scale", "cfg_scale", "cfgscale", "cfg", "scale"),
    "width": ("width",),
    "height": ("height",),
    "size": ("resolution", "size"),
    "model": ("base_model_name", "use_stable_diffusion_model", "model", "base_model", "source"),
    "sampler": ("sampler", "sampler_name"),
    "schedule": ("scheduler", "noise_schedule"),
    "clip_skip": ("clip_skip", "clipskip"),
    "loras": ("loras", "lora", "lora_paths"),
    "scales": ("loraweights", "lora_scales"),
}
"""What programs call in JSON, in small letters, what is read of them; the first that is there
counts."""
MARKS = {
    "mflux_version": "mflux",
    "use_stable_diffusion_model": "Easy Diffusion",
    "positive_prompt": "InvokeAI",
    "swarm_version": "SwarmUI",
    "basemodel": "Civitai",
    "workflowid": "Civitai",
    "base_model_name": "RuinedFooocus",
    "base_model": "Fooocus",
    "c": "Draw Things",
    "uc": "NovelAI",
    "prompt": "a program that it does not name",
}
"""Whose JSON it is, by keys that others do not have; what stands above goes first."""
FROM_IMAGE = frozenset(
    {
        *("initimage", "initimagecreativity", "image_path", "image_paths", "init_image"),
        *("prompt_strength", "masked_image_path"),
    }
)
"""Keys of images that were drawn from another image."""
AGAIN = frozenset({"hires upscale", "hires scale", "refinerupscale"})
"""Keys of images that were drawn once more, in small letters."""
BESIDES = {
    "adetailer": "parts of it were drawn once more (ADetailer)",
    "controlnet": "another image guided it (ControlNet)",
    "refiner": "another model finished it (Refiner)",
}
"""What keys of A1111's say that begin so."""
OWN_WEIGHTS = {
    "NovelAI": re.compile(r"\d::|[{}]"),
    "InvokeAI": re.compile(r"[\w)\"](?:\+{1,9}|-{1,9})(?=[\s,)]|$)|\)\d"),
}
"""How words with weights look of programs that do not write these as A1111 does."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an image was made, as one program wrote it down. None: it does not say.

    form: the program: `gcr`, `A1111` and all that write as it does, `ComfyUI`, or one of MARKS.
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
    return Carried(kind, width, height, tuple(filter(None, _stories(texts))), texts)


def _stories(texts: Mapping[str, str]) -> Iterator[Provenance | None]:
    """What each program says in the texts of a file, that which says most first."""
    if "use_stable_diffusion_model" in texts:
        yield _by_names(texts)  # Easy Diffusion: its `prompt` is no graph
        return
    for key, form, reader in (
        ("gcr", "gcr", _gcr),
        ("parameters", "A1111", _in_json),
        ("invokeai_metadata", "InvokeAI", _invokeai),
        ("sd-metadata", "InvokeAI", _old_invokeai),
        ("prompt", "ComfyUI", _comfyui),
    ):
        story = _object(texts.get(key, ""))
        if story is not None:
            yield reader(story)
        elif key == "parameters" and key in texts:
            yield _a1111(texts[key])
        elif key in texts:
            yield Provenance(form, remarks=("what it says is damaged",))
    # Anybody may have written a comment. In older ones of NovelAI's the prompt stands elsewhere.
    if texts.get("Software") == "NovelAI" and (story := _object(texts.get("Comment", ""))):
        others = {"prompt": texts.get("Description"), "source": texts.get("Source")}
        yield _in_json({**others, **story})
    xmp = texts.get(XMP, "")
    comment = xmp.partition("<exif:UserComment>")[2]
    if "Draw Things" in xmp and (entry := _ENTRY.search(comment)):
        yield _in_json(_object(html.unescape(entry[1])) or {})
    if "workflow" in texts and "prompt" not in texts:
        remark = "it has only the workflow that ComfyUI's editor shows, which is not read"
        yield Provenance("ComfyUI", remarks=(remark,))


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None where it is none."""
    try:
        story = _with_finite(structured.parse_json(text))
    except ValueError:
        return None
    return story if isinstance(story, dict) else None


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
        _others(more),
        remarks=tuple(remarks),
    )


def _a1111(text: str) -> Provenance | None:
    """Lines of the prompt, those of the negative one, and a line of settings."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    end = next((i for i, line in enumerate(lines) if line.startswith(TEMPLATES)), len(lines))
    pairs = _pairs(lines[end - 1]) if end else {}
    if len(pairs) < LEAST or KNOWN.isdisjoint(map(str.casefold, pairs)):
        pairs = {}
    else:
        templates = "\n".join(lines[end:])
        pairs |= {"Templates": templates} if templates else {}
        lines = lines[: end - 1]
    starts = [i for i, line in enumerate(lines) if line.strip().startswith("Negative prompt:")]
    at = starts[0] if starts else len(lines)
    prompt, negative = "\n".join(lines[:at]).strip(), "\n".join(lines[at:]).strip()
    if not pairs and not starts:
        return None  # some other program's text
    rest = {key.casefold(): (key, value) for key, value in pairs.items()}

    def take(*keys: str) -> str | None:
        """The value of the first of these keys."""
        return next((rest.pop(key)[1] for key in map(str.casefold, keys) if key in rest), None)

    cfg, distilled = _number(take("CFG scale")), _number(take("Distilled CFG Scale"))
    seed, size, steps = _whole(take("Seed")), _size(take("Size")), _whole(take("Steps"))
    # The schedule as A1111 names it, Fooocus, SD.Next.
    sampler = _sampler(take("Sampler"), take("Schedule type", "Scheduler", "Sampler sigma"))
    model, skip = take("Model"), _whole(take("Clip skip"))
    used = _resources(rest["civitai resources"][1]) if "civitai resources" in rest else {}
    apart = [pair.rpartition(":") for pair in (take("Lora weights") or "").split(",") if pair]
    listed = _loras([(name.strip(), scale) for name, _, scale in apart] or used.get("lora"))
    remarks = []
    if not AGAIN.isdisjoint(rest):
        remarks.append("it was drawn once more, larger (Hires fix)")
    elif "denoising strength" in rest:
        remarks.append("it was drawn from another image (denoising strength)")
    if "variation seed" in rest:
        remarks.append("its noise was mixed with that of another seed (variation seed)")
    remarks += [says for name, says in BESIDES.items() if any(key.startswith(name) for key in rest)]
    return Provenance(
        "A1111",
        prompt,
        negative.removeprefix("Negative prompt:").strip(),
        seed if seed is not None and seed >= 0 else None,  # -1: any
        steps,
        cfg if distilled is None else distilled,
        *size,
        model or next((_name(each) for each in used.get("checkpoint", ())), None),
        sampler,
        skip,
        _tagged(prompt) or listed,
        dict(rest.values()),
        tuple(remarks),
    )


def _pairs(line: str) -> dict[str, str]:
    """The settings of A1111's line. A value in quotes or of JSON may have commas inside."""
    pairs: dict[str, str] = {}
    end = unread = 0  # what is not JSON is read each time up to where that shows
    while key := _KEY.search(line, end):
        start = end = key.end()
        if quoted := _QUOTED.match(line, start):
            end = quoted.end()
        elif line.startswith(("[", "{"), start) and unread < LONGEST:
            try:
                end = structured.JSON.raw_decode(line, start)[1]
            except (ValueError, RecursionError):
                unread += 1
        comma = line.find(",", end)
        end = len(line) if comma < 0 else comma
        pairs[key[1].strip()] = _unquoted(line[start:end])
    return pairs


def _resources(text: str) -> dict[str, list[dict[str, Any]]]:
    """What Civitai drew with, by its kind."""
    listed = (_object(f'{{"of": {text}}}') or {}).get("of")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict):
            kinds.setdefault(str(each.get("type")).casefold(), []).append(each)
    return kinds


def _in_json(story: Mapping[str, Any]) -> Provenance | None:
    """What a program says in JSON, where others have lines, by what is in it."""
    if graph := _part(story, "prompt"):
        return _comfyui(graph)
    # Civitai's request beside its graph, and NovelAI's comment, are JSON in JSON.
    request, comment = (_object(str(story.get(key))) for key in ("extraMetadata", "Comment"))
    if request and "prompt" in request:
        return _by_names(request)
    if comment:
        return _by_names({**story, "Comment": None, **comment})
    if any("class_type" in node for node in story.values() if isinstance(node, dict)):
        return _comfyui(story)
    if image := _part(story, "sui_image_params"):
        return _by_names(image)
    return _by_names({"loras": _part(story, "v2").get("loras"), **story})  # of Draw Things


def _invokeai(story: Mapping[str, Any]) -> Provenance | None:
    """From InvokeAI 3 on."""
    return _by_names({"positive_prompt": None, **story})


def _by_names(story: Mapping[str, Any]) -> Provenance | None:
    """By the names that programs give to what they say."""
    named = {_plain(key): value for key, value in story.items()}
    form = next((form for mark, form in MARKS.items() if mark in named), None)
    if form is None:
        return None

    def get(name: str) -> Any:
        values = (named.get(key) for key in NAMES[name])
        return next((value for value in values if value is not None), None)

    size, prompt = _size(get("size")), _text(get("prompt"))
    seed, skip = _whole(get("seed")), _whole(get("clip_skip"))
    if form == "InvokeAI" and skip is not None:
        skip += 1  # it counts what is left out
    used = {key for keys in NAMES.values() for key in keys}
    return Provenance(
        form,
        prompt,
        _text(get("negative")),
        seed if seed is not None and seed >= 0 else None,
        _whole(get("steps")),
        _number(get("guidance")),
        _whole(get("width")) or size[0],
        _whole(get("height")) or size[1],
        _name(get("model")),
        _sampler(_text(get("sampler")), _text(get("schedule"))),
        skip if skip and skip > 1 else None,  # 1 is as usual
        _loras(get("loras"), get("scales")),
        _others(story, used),
        tuple(_differences(form, named, f"{prompt}\n{get('negative')}")),
    )


def _differences(form: str, named: Mapping[str, Any], prompts: str) -> Iterator[str]:
    """Why the same settings would not draw the same image.

    named: what the program says, by names in small letters. prompts: both.
    """
    modes = (
        named.get(key) for key in ("generation_mode", "request_type", "workflow", "workflowid")
    )
    mode = next((mode for mode in modes if isinstance(mode, str)), "")
    strength = _number(named.get("strength")) if form == "Draw Things" else None
    if mode and not re.search("txt2img|PromptGenerate", mode):
        yield f"it was drawn from another image ({mode})"
    elif any(named.get(key) for key in FROM_IMAGE) or (strength is not None and strength < 1):
        yield "it was drawn from another image"
    if not AGAIN.isdisjoint(named):
        yield "it was drawn once more, larger (refiner)"
    if named.get("transformations"):
        yield "it was changed afterwards (transformations)"
    if form in OWN_WEIGHTS and OWN_WEIGHTS[form].search(prompts):
        yield f"its prompt has weights as {form} writes them, which are read as words"
    if _part(_part(named, "v4_prompt"), "caption").get("char_captions"):
        yield "its characters have prompts of their own, which are not taken"
    if named.get("full_prompt") not in (None, [], [named.get("prompt")]):
        yield "its styles added words, which full_prompt shows and which are not taken"


def _sampler(sampler: str | None, schedule: str | None) -> str | None:
    """Both in one, unless the sampler's name has the schedule in it already."""
    if sampler and schedule and sampler.casefold().endswith(f" {schedule.casefold()}"):
        return sampler
    return " ".join(filter(None, (sampler, schedule))) or None


def _loras(listed: object, scales: object = None) -> tuple[str, ...]:
    """LoRAs as programs list them: pairs, objects, or names with their scales in another list."""
    loras = []
    for number, each in enumerate(listed if isinstance(listed, list) else ()):
        name: object = each
        scale: object = None
        if isinstance(each, dict):
            name, scale = each, each.get("weight", each.get("strength"))
        elif isinstance(each, list | tuple) and len(each) > 1:
            name, scale = each[0], each[1]
        elif isinstance(scales, list) and number < len(scales):
            scale = scales[number]
        weight, called = _number(scale), (_name(name) or "").replace("\\", "/")
        loras += [called if weight is None else f"{called}:{weight:g}"] if called else []
    return tuple(loras)


def _name(described: object) -> str | None:
    """The name of a model, which may be described by an object."""
    for _ in range(3):
        if not isinstance(described, dict):
            break
        keys = ("name", "model_name", "modelName", "file", "model", "lora", "content")
        described = next((described[key] for key in keys if key in described), None)
    return _text(described)


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


VALUES = {
    "seed": ("seed", "noise_seed", "noise noise_seed"),
    "steps": ("steps", "sigmas steps"),
    "cfg": ("cfg", "guider cfg"),
    "denoise": ("denoise", "sigmas denoise"),
    "sampler": ("sampler_name", "sampler sampler_name"),
    "schedule": ("scheduler", "sigmas scheduler"),
    "positive": ("positive", "guider positive", "guider conditioning"),
    "negative": ("negative", "guider negative"),
    "model": ("model", "guider model"),
}
"""Where a sampler of ComfyUI's has its values: the inputs that lead there from node to node."""
TEXTS = ("populated_text", "text", "text_g", "t5xxl", "clip_g", "prompt")
"""What inputs of text encoders are called, and what further ones are that read the same words."""
MORE_TEXTS = ("text_l", "clip_l", "clip_g", "llama", "text_g", "t5xxl")
HELD = {
    "Power Prompt (rgthree)": "prompt",
    "Power Prompt - Simple (rgthree)": "prompt",
    "ImpactWildcardProcessor": "populated_text",
    "ShowText|pysssss": "text_0",
}
"""Nodes that hold a text, among other things, and where."""
JOINED = {
    "StringConcatenate": ("delimiter", "string_a", "string_b"),
    "JoinStrings": ("delimiter", "string1", "string2"),
    "CR Text Concatenate": ("separator", "text1", "text2"),
}
"""Nodes that put texts together: what stands between them, and the texts."""
WEIGHTS = ("strength_model", "lora_model_strength", "lora_wt", "model_weight", "model_str")
"""What nodes call the scale of a LoRA; those with several number them."""
EXPECTED = re.compile("(?i)cliptextencode|fluxguidance|zeroout|lora|loader")
"""Kinds of nodes on the way to a sampler that do nothing which is not read."""


class _Graph:
    """A graph of ComfyUI's, read where it is plain: one sampler begins, with literal values."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]]) -> None:
        self.nodes = nodes
        self.guidance: float | None = None  # of a node between prompt and sampler
        self.clip_skip: int | None = None
        self.remarks: list[str] = []
        self.others: dict[str, None] = {}  # kinds of nodes on the way that are not redone

    def provenance(self) -> Provenance:
        drawing = [key for key in self.nodes if self._draws(key)]
        after = self._after({*drawing})
        first = [key for key in drawing if key not in after]
        if len(first) != 1:
            kinds = ", ".join(dict.fromkeys(self._kind(key) for key in first))
            why = f"{len(first)} samplers begin: {kinds}" if first else "no sampler that is known"
            return Provenance(
                "ComfyUI", remarks=(f"its graph is not plain ({why}), so it is not read",)
            )
        inputs = _part(self.nodes[first[0]], "inputs")
        negative = self._prompt(inputs, "negative")
        self.guidance = self.clip_skip = None  # what goes with the negative prompt guides nothing
        self.remarks = []
        prompt = self._prompt(inputs, "positive")
        guidance = self.guidance
        if guidance is None:
            guidance = _number(self._at(inputs, "cfg"))
        model, loras = self._model(self._link(inputs, "model"))
        width, height = self._size(inputs.get("latent_image"))
        later = dict.fromkeys(self._kind(key) for key in drawing if key not in first)
        if later:
            again = ", ".join(later)
            self.remarks.append(f"it was drawn on afterwards, which is not redone ({again})")
        if prompt is None:
            self.remarks.append("its prompt is put together by other nodes, and is not read")
        if width is None:
            self.remarks.append(
                "it was drawn from another image, or its size comes from other nodes"
            )
        denoise = _number(self._at(inputs, "denoise"))
        if denoise is not None and denoise < 1:
            self.remarks.append(f"only part of its noise was taken away (denoise {denoise:g})")
        if self.others:
            self.remarks.append(f"nodes of its graph that are not redone: {', '.join(self.others)}")
        names = (_text(self._at(inputs, name)) for name in ("sampler", "schedule"))
        return Provenance(
            "ComfyUI",
            prompt,
            negative,
            _whole(self._at(inputs, "seed")),
            _whole(self._at(inputs, "steps")),
            guidance,
            width,
            height,
            model,
            _sampler(*names),
            self.clip_skip,
            loras,
            remarks=tuple(self.remarks),
        )

    def _draws(self, key: str) -> bool:
        """Whether a node is a sampler, of ComfyUI's own or of others', which name inputs alike."""
        inputs = _part(self.nodes[key], "inputs")
        return "latent_image" in inputs and not inputs.keys().isdisjoint(
            ("sampler_name", "sampler")
        )

    def _after(self, drawing: Collection[str]) -> set[str]:
        """The nodes that what a sampler draws goes to; to samplers as the latents they begin with.

        drawing: the samplers.
        """
        users: dict[str, list[str]] = {}
        for key, node in self.nodes.items():
            inputs = _part(node, "inputs")
            links = [inputs.get("latent_image")] if key in drawing else inputs.values()
            for link in links:
                users.setdefault(_source(link), []).append(key)
        after: set[str] = set()
        waiting = list(drawing)
        while waiting:
            new = {*users.get(waiting.pop(), ())} - after
            after |= new
            waiting += new
        return after

    def _inputs(self, link: object) -> dict[str, Any]:
        """The inputs of the node that a link comes from."""
        return _part(self.nodes.get(_source(link), {}), "inputs")

    def _kind(self, key: str) -> str:
        return str(self.nodes.get(key, {}).get("class_type"))

    def _link(self, inputs: Mapping[str, Any], name: str) -> object:
        """The first of the inputs, here or of nodes before, that a value is in."""
        for path in VALUES[name]:
            *links, last = path.split()
            at: Mapping[str, Any] = inputs
            for link in links:
                at = self._inputs(at.get(link))
            if last in at:
                return at[last]
        return None

    def _at(self, inputs: Mapping[str, Any], name: str) -> object:
        return self._value(self._link(inputs, name), name)

    def _value(self, given: object, name: str = "", left: Iterator[int] | None = None) -> object:
        """A value that is written down: in place, or in nodes that only hold, pass on or join.

        left: links that may yet be followed: a graph may branch at each node, and go in circles.
        """
        if not _source(given):
            return given
        left = iter(range(LONGEST)) if left is None else left
        if next(left, None) is None:
            return None
        inputs, kind = self._inputs(given), self._kind(_source(given))
        if kind in JOINED:
            texts = [self._value(inputs.get(key), name, left) for key in JOINED[kind]]
            between, *parts = texts
            whole = all(isinstance(text, str) for text in texts)
            return str(between).join(map(str, parts)) if whole else None
        key = HELD.get(kind, name)
        if key in inputs and not _source(inputs[key]):
            return inputs[key]
        held = list(inputs.values())
        return self._value(held[0], name, left) if len(held) == 1 else None

    def _prompt(self, inputs: Mapping[str, Any], role: str) -> str | None:
        """The text that a sampler's conditioning is made of. role: `positive` or `negative`."""
        link = self._link(inputs, role)
        for _ in range(LONGEST):
            inputs, kind = self._inputs(link), self._kind(_source(link))
            if not inputs:
                return None
            guidance = _number(self._value(inputs.get("guidance")))  # Flux'; `cfg` is then 1
            self.guidance = self.guidance if guidance is None else guidance
            self._see(kind)
            if kind == "ConditioningZeroOut":
                return ""
            if isinstance(inputs.get(role), str):  # of a loader that reads prompts, too
                self._see_clip(inputs)
                return str(inputs[role])
            for key in TEXTS:
                if key in inputs:
                    return self._encoded(inputs, key)
            link = inputs.get("conditioning", inputs.get(role))
        return None

    def _encoded(self, inputs: Mapping[str, Any], key: str) -> str | None:
        """The text of an encoder, of whose inputs `key` is the one that counts."""
        self._see_clip(inputs)
        text = _text(self._value(inputs[key], "text"))
        further = {_text(self._value(inputs.get(name), "text")) for name in MORE_TEXTS}
        if text and further - {text, "", None}:
            self.remarks.append(f"its text encoders read different words, and {key} is taken")
        return text

    def _see_clip(self, inputs: Mapping[str, Any]) -> None:
        """The layer of CLIP that is read, as A1111 counts."""
        for _ in range(LONGEST):
            layer = _whole(inputs.get("stop_at_clip_layer", inputs.get("clip_skip")))
            if layer is not None:
                self.clip_skip = -layer if layer < -1 else None  # -1 is as usual
            if layer is not None or "clip" not in inputs:
                return
            inputs = self._inputs(inputs["clip"])

    def _see(self, kind: str) -> None:
        if not EXPECTED.search(kind):
            self.others[kind] = None

    def _size(self, link: object) -> tuple[int | None, int | None]:
        """Width and height of the latents that a sampler begins with."""
        latent = self._inputs(link)
        for width, height in (("width", "height"), ("empty_latent_width", "empty_latent_height")):
            if width in latent:
                sides = (self._value(latent.get(side), side) for side in (width, height))
                return _whole(next(sides)), _whole(next(sides))
        named = str(latent.get("dimensions") or latent.get("resolution") or "")
        # Behind a size may stand its shape.
        size = re.match(r"\s*\d+\s*x\s*\d+", named)
        return _size(size[0]) if size and not latent.get("width_override") else (None, None)

    def _model(self, link: object) -> tuple[str | None, tuple[str, ...]]:
        """The checkpoint that a sampler's model comes from, and the LoRAs on the way."""
        loras: list[str] = []
        for _ in range(LONGEST):
            inputs = self._inputs(link)
            stack = self._inputs(inputs.get("lora_stack", inputs.get("optional_lora_stack")))
            loras[:0] = [*_loras_of(stack), *_loras_of(inputs)]
            for key in ("ckpt_name", "unet_name", "model_path", "base_ckpt_name"):
                if key in inputs:
                    return _name(self._value(inputs[key])), tuple(loras)
            if not inputs:
                break
            self._see(self._kind(_source(link)))
            link = inputs.get("model")
        self.remarks.append("its model is put together by other nodes, and is not read")
        return None, tuple(loras)


def _source(link: object) -> str:
    """The node that a link comes from; empty for what is no link."""
    return str(link[0]) if isinstance(link, list) and len(link) == 2 else ""


def _loras_of(inputs: Mapping[str, Any]) -> list[str]:
    """The LoRAs that a node loads: one, or several with numbers, or as objects."""
    switched_on = [each for each in inputs.values() if isinstance(each, dict) and each.get("on")]
    loras = list(_loras([each for each in switched_on if each.get("lora") != "None"]))
    count = _whole(inputs.get("lora_count"))
    for key, name in inputs.items():
        number = key.removeprefix("lora_name")
        is_off = str(inputs.get(f"switch{number}")).casefold() == "off"
        is_beyond = count is not None and (_whole(number.strip("_")) or 0) > count
        if key.startswith("lora_name") and name != "None" and not (is_off or is_beyond):
            scales = (inputs.get(f"{weight}{number}") for weight in WEIGHTS)
            scale = next((scale for scale in scales if _number(scale) is not None), None)
            loras += _loras([(name, scale)])
    return loras


# Values


def _plain(key: str) -> str:
    """A key as programs of one family write it in several ways: `Guidance Scale` in small letters
    and without the space.
    """
    return key.casefold().replace(" ", "_")


def _others(story: Mapping[str, object], used: Collection[str] = ()) -> dict[str, object]:
    """What else is said, without what is empty. used: keys as `_plain` has them."""
    return {
        key: _finite(value)
        for key, value in story.items()
        if _plain(key) not in used and value not in (None, "", [], {})
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
