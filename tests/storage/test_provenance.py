"""What images of other programs say, in the forms in which these write it."""

import json
import time

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gcr.errors import UsageError
from gcr.storage import provenance

A1111 = """a lighthouse at dusk, (oil on canvas:1.2)
second line, <lora:brush_v2:0.7>
Negative prompt: lowres, text
over two lines
Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 1234567890, \
Size: 832x1216, Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Clip skip: 2, \
Lora hashes: "brush_v2: 1a2b3c4d5e6f, other: 00ff", Version: v1.10.1"""
FORGE = """a lighthouse
Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, \
Seed: 42, Size: 896x1152, Model hash: d5d1e2a8b0, Model: flux1-dev-Q8_0, \
Version: f2.0.1v1.10.1-previous-313-g8a042934, Module 1: ae, Module 2: clip_l"""
HIRES = """a lighthouse
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x768, Model: anything, \
Denoising strength: 0.4, Hires upscale: 2, Hires upscaler: Latent, Version: v1.6.0"""
IMG2IMG = """a lighthouse
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: -1, Size: 512x768, Denoising strength: 0.4, \
Variation seed: 7, Variation seed strength: 0.1"""

INVOKE_5 = {
    "app_version": "5.6.0",
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a lighthouse",
    "negative_prompt": "blurry",
    "width": 1024,
    "height": 768,
    "seed": 3456789012,
    "rand_device": "cpu",
    "cfg_scale": 5.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "model": {
        "key": "3a1b",
        "hash": "blake3:00ff",
        "name": "Juggernaut XL",
        "base": "sdxl",
        "type": "main",
    },
    "loras": [{"model": {"key": "9c", "name": "brush", "type": "lora"}, "weight": 0.75}],
    "positive_style_prompt": "oil",
    "control_layers": {"layers": [], "version": 2},
}
INVOKE_3 = {
    "app_version": "3.3.0post3",
    "generation_mode": "img2img",
    "positive_prompt": "a lighthouse",
    "negative_prompt": "",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "cfg_scale": 7.5,
    "steps": 50,
    "scheduler": "euler",
    "model": {"model_name": "dreamshaper", "base_model": "sd-1", "model_type": "main"},
    "loras": [{"lora": {"model_name": "brush", "base_model": "sd-1"}, "weight": 1.0}],
    "strength": 0.6,
}
INVOKE_2 = {
    "model": "stable diffusion",
    "model_weights": "stable-diffusion-1.5",
    "model_hash": "cc6cb27103417325ff94f52b7a5d2dde",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.3.5",
    "image": {
        "prompt": [{"prompt": "a lighthouse [blurry, text] at dusk", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 7.5,
        "threshold": 0,
        "height": 512,
        "width": 640,
        "seed": 42,
        "type": "txt2img",
        "sampler": "k_lms",
    },
}
FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8Rundiffusion",
    "guidance_scale": 4.0,
    "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]],
    "negative_prompt": "blurry",
    "performance": "Speed",
    "prompt": "a lighthouse",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "5412837651234567890",
    "steps": 30,
    "version": "Fooocus v2.5.5",
}


def comfy(**changes):
    """ComfyUI's default graph with a LoRA. changes: inputs of its sampler."""
    sampler = {
        "seed": 1071208483241017,
        "steps": 25,
        "cfg": 6.0,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1.0,
        "model": ["10", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    nodes = {
        "3": ("KSampler", {**sampler, **changes}),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "sd_xl_base_1.0.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 1024, "height": 768, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a lighthouse", "clip": ["10", 1]}),
        "7": ("CLIPTextEncode", {"text": "blurry", "clip": ["10", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"filename_prefix": "ComfyUI", "images": ["8", 0]}),
        "10": (
            "LoraLoader",
            {
                "lora_name": "brush.safetensors",
                "strength_model": 0.8,
                "strength_clip": 1.0,
                "model": ["4", 0],
                "clip": ["4", 1],
            },
        ),
    }
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def flux():
    """The graph of ComfyUI's template for Flux: guidance beside the prompt, and a held seed."""
    graph = comfy(cfg=1.0, positive=["26", 0], negative=["33", 0], model=["31", 0], seed=["40", 0])
    graph["26"] = {
        "class_type": "FluxGuidance",
        "inputs": {"guidance": 3.5, "conditioning": ["6", 0]},
    }
    graph["33"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    graph["31"] = {
        "class_type": "UNETLoader",
        "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"},
    }
    graph["40"] = {"class_type": "PrimitiveInt", "inputs": {"value": 77}}
    return graph


@pytest.fixture
def read(tmp_path):
    """What is read of a PNG that has these texts in it."""

    def written(**texts):
        info = PngInfo()
        for key, value in texts.items():
            text = value if isinstance(value, str) else json.dumps(value)
            info.add_text("sd-metadata" if key == "sd_metadata" else key, text)
        path = tmp_path / "image.png"
        Image.new("RGB", (32, 16)).save(path, pnginfo=info)
        return provenance.read(path)

    return written


def only(carried):
    (story,) = carried.stories
    return story


def test_a1111(read):
    carried = read(parameters=A1111)
    assert (carried.kind, carried.width, carried.height) == ("PNG", 32, 16)
    story = only(carried)
    assert story.form == "A1111"
    assert story.settings == {
        "prompt": "a lighthouse at dusk, (oil on canvas:1.2)\nsecond line, <lora:brush_v2:0.7>",
        "negative": "lowres, text\nover two lines",
        "seed": 1234567890,
        "steps": 28,
        "guidance": 6.5,
        "width": 832,
        "height": 1216,
        "clip_skip": 2,
        "scheduler": "dpm++ 2m karras",
    }
    assert (story.model, story.sampler) == ("sd_xl_base_1.0", "DPM++ 2M Karras")
    assert story.loras == ("brush_v2:0.7",)
    assert story.more == {
        "Model hash": "31e35c80fc",
        "Lora hashes": "brush_v2: 1a2b3c4d5e6f, other: 00ff",
        "Version": "v1.10.1",
    }
    assert story.remarks == ()


def test_forge_has_the_guidance_of_flux_under_another_name(read):
    story = only(read(parameters=FORGE))
    assert (story.guidance, story.model) == (3.5, "flux1-dev-Q8_0")
    assert story.negative == ""


TEMPLATE = f"{HIRES}\nTemplate: {{a|b}}\nlighthouse\nNegative Template: x"
CIVITAI = """a lighthouse
Negative prompt: blurry

Steps: 25, Sampler: Euler a, CFG scale: 5, Seed: 42, Size: 1024x1024, Clip skip: 2, \
Civitai resources: [{"type":"checkpoint","modelVersionId":1,"modelName":"Some, XL"},\
{"type":"lora","weight":0.7,"modelName":"brush"}], Civitai metadata: {}"""
SD_NEXT = """a lighthouse

Negative prompt: blurry

Steps: 20, Size: 1024x1024, Sampler: DDIM, Seed: 42, CFG scale: 6, App: SD.Next, \
Operations: txt2img; upscale, Model: x, Refine: True, Hires scale: 1.5, \
Sampler sigma: exponential"""
FOOOCUS_A1111 = """a lighthouse, cinematic
Negative prompt: blurry
Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 42, Size: 512x512, CFG scale: 4, Sharpness: 2, \
ADM Guidance: "(1.5, 0.8, 0.3)", Model: x, Scheduler: karras, Raw prompt: a lighthouse, Clip skip: \
2, Lora hashes: "offset: 4852686128", Lora weights: "offset: 0.1", Version: Fooocus v2.5.5"""
DETAILED = """a lighthouse
Steps: 24, Sampler: Euler a, Schedule type: Automatic, CFG scale: 4, Seed: 42, Size: 512x512, \
ADetailer model: face_yolov8n.pt, ADetailer prompt: "a face, <lora:x:0.8>", ControlNet 0: "Module: \
canny, Weight: 1", Hashes: {"lora:x": "21895f3ba9", "model": "ca5befc099"}, Version: v1.6.1"""


def test_further_lines_of_settings_of_the_form_of_a1111(read):
    story = only(read(parameters=TEMPLATE))
    assert (story.prompt, story.seed, story.width) == ("a lighthouse", 42, 512)
    assert story.more["Templates"].startswith("Template: {a|b}\nlighthouse\n")
    story = only(read(parameters=CIVITAI))
    assert (story.model, story.loras, story.negative) == ("Some, XL", ("brush:0.7",), "blurry")
    assert story.more["Civitai metadata"] == "{}"
    story = only(read(parameters=SD_NEXT.replace("\n", "\r\n")))
    assert (story.sampler, story.negative) == ("DDIM exponential", "blurry")
    assert story.remarks == ("it was drawn once more, larger (Hires fix)",)
    story = only(read(parameters=FOOOCUS_A1111))
    assert story.settings["scheduler"] == "dpm++ 2m sde karras"
    assert (story.loras, story.clip_skip) == (("offset:0.1",), 2)
    story = only(read(parameters=DETAILED))
    assert story.more["Hashes"] == '{"lora:x": "21895f3ba9", "model": "ca5befc099"}'
    assert story.more["ADetailer prompt"] == "a face, <lora:x:0.8>"
    assert ["ADetailer" in story.remarks[0], "ControlNet" in story.remarks[1]] == [True] * 2
    assert only(read(parameters="{red|blue} car\nSteps: 2, Seed: 1, Size: 8x8")).form == "A1111"


def test_what_would_draw_another_image_is_said(read):
    assert "Hires fix" in only(read(parameters=HIRES)).remarks[0]
    story = only(read(parameters=IMG2IMG))
    assert story.seed is None  # -1: any
    assert ["denoising strength" in story.remarks[0], "variation" in story.remarks[1]] == [True] * 2
    assert story.model is None


@pytest.mark.parametrize("kind", ["jpg", "webp"])
@pytest.mark.parametrize(
    "encoding",
    [("UNICODE\0", "utf-16-be"), ("UNICODE\0", "utf-16-le"), ("ASCII\0\0\0", "ascii")],
    ids=" ".join,
)
def test_a1111_in_jpeg_and_webp(tmp_path, kind, encoding):
    exif = Image.Exif()
    content = encoding[0].encode() + A1111.encode(encoding[1])
    exif.get_ifd(0x8769)[0x9286] = content
    path = tmp_path / f"image.{kind}"
    Image.new("RGB", (32, 16)).save(path, exif=exif)
    story = only(provenance.read(path))
    assert (story.form, story.seed, story.width) == ("A1111", 1234567890, 832)
    assert story.prompt.startswith("a lighthouse at dusk")


def test_invokeai_of_today(read):
    story = only(read(invokeai_metadata=INVOKE_5))
    assert story.form == "InvokeAI"
    assert story.settings == {
        "prompt": "a lighthouse",
        "negative": "blurry",
        "seed": 3456789012,
        "steps": 30,
        "guidance": 5.5,
        "width": 1024,
        "height": 768,
        "scheduler": "dpm++ 2m karras",
    }
    assert (story.model, story.sampler, story.loras) == (
        "Juggernaut XL",
        "dpmpp_2m_k",
        ("brush:0.75",),
    )
    assert story.more["positive_style_prompt"] == "oil"
    assert story.remarks == ()


def test_older_invokeai(read):
    story = only(read(invokeai_metadata=INVOKE_3))
    assert (story.model, story.loras) == ("dreamshaper", ("brush:1",))
    assert story.remarks == ("it was drawn from another image (img2img)",)
    story = only(read(sd_metadata=INVOKE_2))
    assert (story.prompt, story.negative) == ("a lighthouse at dusk", "blurry, text")
    assert (story.seed, story.steps, story.width, story.height) == (42, 50, 640, 512)
    assert (story.model, story.sampler) == ("stable-diffusion-1.5", "k_lms")


def test_fooocus(read):
    story = only(read(parameters=FOOOCUS))
    assert story.form == "Fooocus"
    assert (story.seed, story.width, story.height) == (5412837651234567890, 1152, 896)
    assert (story.guidance, story.sampler) == (4.0, "dpmpp_2m_sde_gpu karras")
    assert story.loras == ("sd_xl_offset_example-lora_1.0:0.1",)
    assert story.more["performance"] == "Speed"


SWARM = {
    "sui_image_params": {
        "prompt": "a lighthouse",
        "negativeprompt": "blurry",
        "model": "x",
        "seed": 42,
        "steps": 20,
        "cfgscale": 7.0,
        "width": 640,
        "height": 512,
        "sampler": "euler_ancestral",
        "scheduler": "karras",
        "loras": ["style/brush"],
        "loraweights": ["0.65"],
        "refinerupscale": 1.5,
        "swarm_version": "0.9.7.4",
    },
    "sui_models": [],
}
RUINED = {
    "Prompt": "a lighthouse",
    "Negative": "blurry",
    "seed": 42,
    "steps": 20,
    "cfg": 7,
    "width": 640,
    "height": 512,
    "sampler_name": "euler_ancestral",
    "scheduler": "karras",
    "base_model_name": "x",
    "loras": [],
    "clip_skip": 1,
}
MFLUX = {
    "mflux_version": "0.17.5",
    "model": "x",
    "seed": 42,
    "steps": 20,
    "guidance": 7.0,
    "width": 640,
    "height": 512,
    "lora_paths": ["brush.safetensors"],
    "lora_scales": [0.65],
    "prompt": "a lighthouse",
    "negative_prompt": "blurry",
}
NOVELAI = {
    "prompt": "a lighthouse, 1.3::dusk::",
    "uc": "blurry",
    "seed": 42,
    "steps": 20,
    "scale": 7.0,
    "width": 640,
    "height": 512,
    "sampler": "k_euler_ancestral",
    "noise_schedule": "karras",
    "v4_prompt": {"caption": {"char_captions": [{"char_caption": "a keeper"}]}},
}
DRAW_THINGS = {
    "c": "a lighthouse",
    "uc": "blurry",
    "model": "x",
    "sampler": "Euler A Trailing",
    "scale": 7.0,
    "seed": 42,
    "size": "640x512",
    "steps": 20,
    "strength": 1,
    "v2": {"loras": [{"file": "brush.ckpt", "weight": 0.65, "mode": "all"}]},
}
EASY = {
    "prompt": "a lighthouse",
    "negative_prompt": "blurry",
    "seed": "42",
    "use_stable_diffusion_model": "x",
    "sampler_name": "euler_a",
    "num_inference_steps": "20",
    "guidance_scale": "7.0",
    "width": "640",
    "height": "512",
}
CIVITAI_GRAPH = {
    **comfy(),
    "extraMetadata": json.dumps(
        {
            "prompt": "a lighthouse",
            "negativePrompt": "blurry",
            "cfgScale": 7,
            "sampler": "Euler a",
            "steps": 20,
            "seed": 42,
            "width": 640,
            "height": 512,
            "baseModel": "Illustrious",
            "workflow": "img2img",
        }
    ),
}
XMP = """<x:xmpmeta><xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>
<rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></exif:UserComment></x:xmpmeta>"""


def xmp(story):
    return XMP.format(json.dumps(story).replace("&", "&amp;").replace("<", "&lt;"))


@pytest.mark.parametrize(
    ("form", "texts", "sampler", "loras", "remarks"),
    [
        ("SwarmUI", {"parameters": SWARM}, "euler_ancestral karras", "style/brush", "once more"),
        ("RuinedFooocus", {"parameters": RUINED}, "euler_ancestral karras", "", ""),
        ("mflux", {"parameters": MFLUX}, None, "brush.safetensors", ""),
        (
            "NovelAI",
            {"Software": "NovelAI", "Comment": NOVELAI, "Source": "x"},
            "k_euler_ancestral karras",
            "",
            "its prompt has weights as NovelAI writes them, characters",
        ),
        (
            "NovelAI",
            {"parameters": {"Comment": json.dumps(NOVELAI), "Source": "x"}},
            "k_euler_ancestral karras",
            "",
            "its prompt has weights as NovelAI writes them, characters",
        ),
        (
            "Draw Things",
            {"XML:com.adobe.xmp": xmp(DRAW_THINGS)},
            "Euler A Trailing",
            "brush.ckpt",
            "",
        ),
        ("Easy Diffusion", EASY, "euler_a", "", ""),
        ("Civitai", {"parameters": CIVITAI_GRAPH}, "Euler a", "", "another image (img2img)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_of_further_programs(read, form, texts, sampler, loras, remarks):
    story = only(read(**texts))
    assert story.form == form
    assert story.prompt.startswith("a lighthouse")
    assert (story.negative, story.seed, story.steps, story.guidance) == ("blurry", 42, 20, 7.0)
    assert (story.width, story.height, story.clip_skip) == (640, 512, None)
    assert story.model == (None if form == "Civitai" else "x")
    assert (story.sampler, story.loras) == (sampler, (f"{loras}:0.65",) if loras else ())
    said = " ".join(story.remarks)
    assert all(remark in said for remark in remarks.split(", "))
    assert bool(said) == bool(remarks)


def test_older_novelai_has_the_prompt_elsewhere(read):
    story = {key: value for key, value in NOVELAI.items() if key not in ("prompt", "v4_prompt")}
    carried = read(Software="NovelAI", Description="a lighthouse", Comment=story)
    assert only(carried).prompt == "a lighthouse"
    assert read(Software="GIMP", Comment=story).stories == ()


def test_json_that_tells_of_no_image_is_no_story(read):
    assert read(parameters={"some": "settings"}).stories == ()
    story = only(read(parameters={"prompt": "a cat", "num_inference_steps": 9, "Model": "x"}))
    assert (story.form, story.steps) == ("a program that it does not name", 9)


def test_only_a_workflow_is_said_to_be_no_graph(read):
    story = only(read(workflow={"nodes": [{"type": "KSampler"}], "links": []}))
    assert story.form == "ComfyUI"
    assert "only the workflow that ComfyUI's editor shows" in story.remarks[0]


def test_a_graph_beside_its_workflow_in_one_comment_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    both = json.dumps({"prompt": comfy(), "workflow": {"nodes": []}})
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + both.encode("utf-16-be")
    path = tmp_path / "image.jpg"
    Image.new("RGB", (32, 16)).save(path, exif=exif)
    assert only(provenance.read(path)).prompt == "a lighthouse"
    exif = Image.Exif()
    exif[0x010F] = f"Prompt: {json.dumps(comfy())}"  # as Save Image Extended has it
    Image.new("RGB", (32, 16)).save(path, exif=exif)
    assert only(provenance.read(path)).prompt == "a lighthouse"


def test_letters_that_a_program_wrote_as_utf_8_where_a_png_has_latin_1(read):
    wrong = A1111.replace("lighthouse", "テスト").encode().decode("latin-1")
    assert only(read(parameters=wrong)).prompt.startswith("a テスト at dusk")
    assert only(read(parameters=A1111.replace("lighthouse", "café"))).prompt.startswith("a café")


def test_a_plain_graph_of_comfyui(read):
    story = only(read(prompt=comfy(), workflow={"nodes": [], "links": []}))
    assert story.form == "ComfyUI"
    assert story.settings == {
        "prompt": "a lighthouse",
        "negative": "blurry",
        "seed": 1071208483241017,
        "steps": 25,
        "guidance": 6.0,
        "width": 1024,
        "height": 768,
        "scheduler": "dpm++ 2m karras",
    }
    assert story.model == "sd_xl_base_1.0.safetensors"
    assert (story.sampler, story.loras) == ("dpmpp_2m karras", ("brush.safetensors:0.8",))
    assert story.remarks == ()


def test_a_graph_for_flux(read):
    story = only(read(prompt=flux()))
    assert (story.prompt, story.negative, story.guidance) == ("a lighthouse", "", 3.5)
    assert (story.seed, story.model) == (77, "flux1-dev.safetensors")


def test_comfyui_in_webp(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(comfy())}"
    exif[0x010F] = "workflow:{}"
    path = tmp_path / "image.webp"
    Image.new("RGB", (32, 16)).save(path, exif=exif)
    assert only(provenance.read(path)).prompt == "a lighthouse"


def test_a_graph_that_is_not_plain_is_not_guessed_at(read):
    two = {**comfy(), "20": {**comfy()["3"]}}
    story = only(read(prompt=two))
    assert story.settings == {}
    says = "its graph is not plain (2 samplers begin: KSampler), so it is not read"
    assert story.remarks == (says,)
    none = {"1": {"class_type": "SamplerCustomAdvanced", "inputs": {}}}
    assert "no sampler that is known" in only(read(prompt=none)).remarks[0]
    drawn = only(read(prompt=comfy(latent_image=["4", 0], positive=["4", 0], denoise=0.5)))
    assert (drawn.prompt, drawn.width) == (None, None)
    assert len(drawn.remarks) == 3


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def test_a_second_pass_is_not_taken_for_the_first(read):
    graph = comfy()
    graph["21"] = node("LatentUpscale", samples=["3", 0], width=2048, height=1536)
    again = graph["3"]["inputs"] | {"seed": 9, "denoise": 0.4, "latent_image": ["21", 0]}
    graph["20"] = node("KSampler", **again)
    story = only(read(prompt=graph))
    assert (story.prompt, story.seed, story.width) == ("a lighthouse", 1071208483241017, 1024)
    assert story.remarks == ("it was drawn on afterwards, which is not redone (KSampler)",)


def custom(**changes):
    """ComfyUI's template for Flux, whose sampler is made of nodes."""
    graph = flux()
    del graph["3"]
    return graph | {
        "13": node(
            "SamplerCustomAdvanced",
            noise=["25", 0],
            guider=["22", 0],
            sampler=["16", 0],
            sigmas=["17", 0],
            latent_image=["5", 0],
        ),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", scheduler="beta", steps=24, denoise=1.0, model=["30", 0]),
        "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
        "25": node("RandomNoise", noise_seed=219670278747233),
        "30": node("ModelSamplingFlux", max_shift=1.15, model=["31", 0]),
        **changes,
    }


def test_a_sampler_that_is_made_of_nodes(read):
    story = only(read(prompt=custom()))
    assert story.settings == {
        "prompt": "a lighthouse",
        "seed": 219670278747233,
        "steps": 24,
        "guidance": 3.5,
        "width": 1024,
        "height": 768,
        "scheduler": "euler beta",
    }
    assert story.model == "flux1-dev.safetensors"
    assert story.remarks == ("nodes of its graph that are not redone: ModelSamplingFlux",)
    guider = node("CFGGuider", cfg=4.5, model=["31", 0], positive=["6", 0], negative=["7", 0])
    story = only(read(prompt=custom(**{"22": guider})))
    assert (story.prompt, story.negative, story.guidance) == ("a lighthouse", "blurry", 4.5)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (node("StringConcatenate", string_a="a", string_b=["61", 0], delimiter=", "), "a, b"),
        (node("Power Prompt (rgthree)", prompt="a", insert_lora="CHOOSE", opt_clip=["4", 1]), "a"),
        (node("easy string", value="a"), "a"),
        (node("Any Switch", any_01=["61", 0]), "b"),
        (node("Ollama", prompt="describe it", model="llama", image=["8", 0]), None),
        (node("Describe", question="what is it?", image=["8", 0]), None),
    ],
    ids=lambda value: value["class_type"] if isinstance(value, dict) else "",
)
def test_texts_from_other_nodes_are_read_where_these_only_hold_or_join_them(read, text, prompt):
    graph = comfy() | {"60": text, "61": node("PrimitiveString", value="b")}
    graph["6"]["inputs"]["text"] = ["60", 0]
    story = only(read(prompt=graph))
    assert story.prompt == prompt
    says = "its prompt is put together by other nodes, and is not read"
    assert (says in story.remarks) == (prompt is None)


def test_nodes_that_load_much_at_once(read):
    graph = comfy(model=["60", 0], positive=["60", 1], negative=["60", 2], latent_image=["60", 3])
    graph["3"]["class_type"] = "KSampler (Efficient)"
    graph["60"] = node(
        "Efficient Loader",
        ckpt_name="x.safetensors",
        clip_skip=-2,
        lora_name="style\\one.safetensors",
        lora_model_strength=0.7,
        positive="a tower",
        negative="fog",
        empty_latent_width=640,
        empty_latent_height=512,
        lora_stack=["61", 0],
    )
    graph["61"] = node(
        "LoRA Stacker",
        lora_count=2,
        lora_name_1="two.safetensors",
        lora_wt_1=0.5,
        lora_name_2="None",
        lora_wt_2=1.0,
        lora_name_3="unused.safetensors",
        lora_wt_3=1.0,
    )
    story = only(read(prompt=graph))
    assert (story.prompt, story.negative, story.width, story.clip_skip) == (
        "a tower",
        "fog",
        640,
        2,
    )
    assert (story.model, story.loras) == (
        "x.safetensors",
        ("two.safetensors:0.5", "style/one.safetensors:0.7"),
    )
    assert story.remarks == ()


def test_what_a_graph_has_besides_is_said(read):
    graph = comfy(positive=["60", 0], model=["61", 0])
    graph["60"] = node("ControlNetApply", strength=0.8, conditioning=["6", 0], image=["8", 0])
    graph["61"] = node(
        "Power Lora Loader (rgthree)",
        lora_1={"on": True, "lora": "a.safetensors", "strength": 0.9},
        lora_2={"on": False, "lora": "b.safetensors", "strength": 1},
        model=["62", 0],
    )
    graph["62"] = node("FreeU_V2", b1=1.3, model=["4", 0])
    graph["6"]["inputs"]["clip"] = ["63", 0]
    graph["63"] = node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["4", 1])
    story = only(read(prompt=graph))
    assert story.loras == ("a.safetensors:0.9",)
    assert story.clip_skip == 2
    says = "nodes of its graph that are not redone: ControlNetApply, FreeU_V2"
    assert story.remarks == (says,)
    graph["61"] = node("ModelMergeSimple", ratio=0.5, model1=["4", 0], model2=["4", 0])
    assert "its model is put together by other nodes" in only(read(prompt=graph)).remarks[0]


def test_texts_that_are_joined_of_themselves_come_to_an_end(read):
    graph = comfy() | {"60": node("StringConcatenate", string_a="a", string_b="b", delimiter=", ")}
    for number in range(61, 90):
        before = [str(number - 1), 0]
        inputs = dict.fromkeys(("string_a", "string_b", "delimiter"), before)
        graph[str(number)] = node("StringConcatenate", **inputs)
    for start, circle in (("89", "60"), ("89", "89")):
        graph["6"]["inputs"]["text"] = [start, 0]
        assert only(read(prompt=graph)).prompt is None
        graph["60"]["inputs"]["string_a"] = [circle, 0]
    graph["6"]["inputs"]["text"] = ["60", 0]
    graph["60"]["inputs"]["string_a"] = "a"
    assert only(read(prompt=graph)).prompt == "a, b"


def test_a_graph_that_goes_in_circles_comes_to_an_end(read):
    graph = comfy(positive=["50", 0], model=["51", 0])
    graph["50"] = {"class_type": "X", "inputs": {"conditioning": ["50", 0]}}
    graph["51"] = {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["51", 0]}}
    assert only(read(prompt=graph)).prompt is None


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"a": 1, "a": 2}', "[" * 100_000])
@pytest.mark.parametrize("key", ["gcr", "invokeai_metadata", "sd_metadata", "prompt"])
def test_what_is_damaged_says_so_and_nothing_else(read, key, text):
    story = only(read(**{key: text}))
    assert story.settings == {}
    assert story.remarks == ("what it says is damaged",)


@pytest.mark.parametrize("wrong", [None, [], {}, "x", True, 1e400, float("nan")])
def test_values_of_another_kind_are_not_taken(read, wrong):
    for name, written in (("invokeai_metadata", INVOKE_5), ("parameters", FOOOCUS)):
        story = only(read(**{name: dict.fromkeys(written, wrong)}))
        numbers = (story.seed, story.steps, story.guidance, story.width, story.height)
        assert numbers == (None,) * 5
    only(read(prompt=dict.fromkeys(comfy(), wrong) | {"3": comfy()["3"]}))
    only(read(prompt=comfy(**dict.fromkeys(comfy()["3"]["inputs"], wrong))))
    encoder = node("CLIPTextEncodeSDXL", text_g=wrong, text_l=wrong, text="x", clip=wrong)
    only(read(prompt=comfy() | {"6": encoder, "10": node("L", lora_name=wrong, lora_1=wrong)}))
    assert only(read(parameters=dict.fromkeys(SWARM["sui_image_params"], wrong))).loras == ()
    only(read(sd_metadata={**INVOKE_2, "image": wrong}))
    story = only(read(gcr={"candidate": wrong, "settings": wrong, "critique": wrong}))
    json.dumps(read(invokeai_metadata={"x": [wrong]}).as_json()["stories"], allow_nan=False)
    assert story.form == "gcr"


@pytest.mark.parametrize("text", ["", "a note", "Title: x", "a: b, c: d"])
def test_texts_of_other_programs_are_left_alone(read, text):
    carried = read(parameters=text, Comment="made by hand")
    assert carried.stories == ()
    assert carried.texts["Comment"] == "made by hand"


def test_a_long_line_of_settings_is_read_in_no_time(read):
    for line in ("a" * 200_000, 'a: "' + "\\" * 200_000, "a " * 100_000):
        assert read(parameters="x\n" + line).stories == ()
    for line in ('a: "\\",' * 50_000, "a, " * 100_000):
        assert read(parameters="x\n" + line).stories == ()


SAMPLERS = {
    str(i): node("KSampler", sampler_name="euler", latent_image=[str(i - 1), 0])
    for i in range(8000)
}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("prompt", json.dumps(SAMPLERS)),
        ("parameters", "a fox\nSteps: 4, Seed: 1, Size: 64x64" + ", a: [1" * 90_000),
        ("parameters", "a fox\nSteps: 4, Seed: 1, Size: 64x64" + ', a: {"b":' * 90_000),
        ("XML:com.adobe.xmp", "Draw Things" + "<exif:UserComment>" * 50_000),
        ("XML:com.adobe.xmp", "Draw Things<exif:UserComment>" + "<rdf:li " * 100_000),
    ],
    ids=["samplers", "lists", "settings", "xmp", "list"],
)
def test_what_is_long_or_not_closed_is_read_in_no_time(read, key, text):
    """It took minutes."""
    start = time.process_time()
    read(**{key: text})
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("named", "size"), [("832x1216 (portrait)", (832, 1216)), ("9" * 5000 + "x9", (None, None))]
)
def test_a_size_that_is_named_is_read_where_it_can_be_one(read, named, size):
    story = only(read(prompt=comfy() | {"5": node("SDXLSize", dimensions=named)}))
    assert (story.width, story.height) == size


def test_what_is_no_image_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        provenance.read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="is not an image"):
        provenance.read(tmp_path / "text.png")
