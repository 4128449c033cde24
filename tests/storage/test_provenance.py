"""What images of other programs say, in the forms in which these write it."""

import json

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
    two = {**comfy(), "20": {"class_type": "KSampler", "inputs": {}}}
    story = only(read(prompt=two))
    assert story.settings == {}
    assert story.remarks == ("its graph is not plain (2 of KSampler), so it is not read",)
    none = {"1": {"class_type": "SamplerCustomAdvanced", "inputs": {}}}
    assert "no KSampler" in only(read(prompt=none)).remarks[0]
    drawn = only(read(prompt=comfy(latent_image=["8", 0], positive=["9", 0], denoise=0.5)))
    assert (drawn.prompt, drawn.width) == (None, None)
    assert len(drawn.remarks) == 3


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


def test_what_is_no_image_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        provenance.read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UsageError, match="is not an image"):
        provenance.read(tmp_path / "text.png")
