import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gcr.core.records import AspectScore, Attempt, Candidate, Critique, Request, Round, Run
from gcr.drawing import pipelines
from gcr.storage import metadata, provenance

SETTINGS = {"steps": 20, "guidance": 2.0, "generator": "pocket:generator", "rubric_sha256": "ab"}


def run_of(prompt="a red circle", negative="", raw="the reply"):
    critique = Critique((AspectScore("Quality", 3.0, "clean"),), 0.67, "good", raw=raw)
    attempt = Attempt(Candidate(prompt, 5, negative), critique, "01-0.png")
    run = Run("id", Request("a circle", negative), SETTINGS, (Round(1, (attempt,)),))
    return run, attempt


def written(tmp_path, run, attempt):
    image = Image.new("RGB", (64, 32), "red")
    path = tmp_path / "image.png"
    path.write_bytes(metadata.encoded(image, metadata.texts(run, 1, attempt, image.size), "png"))
    return metadata.read(path)


def test_texts_stand_where_pillow_puts_them():
    image = Image.effect_noise((64, 32), 80).convert("RGB")
    texts = {"parameters": "a circle", "gcr": '{"prompt": "круг 圆"}'}
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info, compress_level=metadata.COMPRESSION)
    assert metadata.encoded(image, texts, "png") == file.getvalue()


def test_images_encoded_ahead_are_the_same():
    images = [Image.effect_noise((64, 32), spread).convert("RGB") for spread in (20, 40, 60)]
    ahead = metadata.Ahead()
    ahead.begin(images[:2])
    assert [ahead.pixels(image) for image in images] == [metadata.pixels(i) for i in images]
    assert not ahead._encoded


def test_parameters_have_the_form_that_others_read(tmp_path):
    texts = written(tmp_path, *run_of(negative="a square"))
    assert texts["parameters"] == (
        "a red circle\n"
        "Negative prompt: a square\n"
        "Steps: 20, CFG scale: 2, Seed: 5, Size: 64x32, Model: pocket:generator"
    ).replace("pocket:generator", '"pocket:generator"')


def test_the_story_names_request_candidate_and_scores(tmp_path):
    story = json.loads(written(tmp_path, *run_of())["gcr"])
    assert story["request"] == {
        "prompt": "a circle",
        "negative": "",
        "keep": [],
        "source": "",
        "source_sha256": "",
        "checklist": [],
    }
    assert story["candidate"] == {
        "prompt": "a red circle",
        "seed": 5,
        "negative": "",
    }
    assert (story["round"], story["score"]) == (1, 0.67)
    assert story["critique"]["aspects"] == [
        {"aspect": "Quality", "score": 3.0, "justification": "clean"}
    ]
    assert story["settings"] == SETTINGS


def test_an_edited_image_names_its_source(tmp_path):
    run, attempt = run_of()
    run = replace(run, request=Request("make it red", source="source.png", source_sha256="ab12"))
    story = json.loads(written(tmp_path, run, attempt)["gcr"])
    assert story["request"]["source_sha256"] == "ab12"


def test_invokeai_gets_prompt_size_seed_and_steps(tmp_path):
    values = json.loads(written(tmp_path, *run_of())["invokeai_metadata"])
    assert values == {
        "positive_prompt": "a red circle",
        "negative_prompt": "",
        "width": 64,
        "height": 32,
        "seed": 5,
        "steps": 20,
        "cfg_scale": 2.0,
    }


@pytest.mark.parametrize(
    ("sampler", "line", "scheduler"),
    [
        ("DPM++ 2M", "Sampler: DPM++ 2M,", "dpmpp_2m"),
        ("DPM++ 2M Karras", "Sampler: DPM++ 2M, Schedule type: Karras,", "dpmpp_2m_k"),
        ("Euler a", "Sampler: Euler a,", "euler_a"),
        ("Euler Beta", "Sampler: Euler, Schedule type: Beta,", "Euler Beta"),
        ("EDMEuler", "Sampler: EDMEuler,", "EDMEuler"),
    ],
)
def test_samplers_have_the_names_that_others_read(tmp_path, sampler, line, scheduler):
    run, attempt = run_of()
    texts = written(tmp_path, run, replace(attempt, sampler=sampler))
    assert texts["parameters"].splitlines()[-1].startswith(f"Steps: 20, {line} CFG scale: 2, Seed")
    assert json.loads(texts["invokeai_metadata"])["scheduler"] == scheduler


@pytest.mark.parametrize(
    ("kind", "config", "name"),
    [
        ("DPMSolverMultistepScheduler", {}, "DPM++ 2M"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "DPM++ 2M Karras"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "DPM++ 2M SDE"),
        ("DPMSolverMultistepScheduler", {"solver_order": 3}, "DPMSolverMultistep"),
        ("EulerAncestralDiscreteScheduler", {}, "Euler a"),
        ("FlowMatchEulerDiscreteScheduler", {}, "Euler"),
        ("EDMEulerScheduler", {}, "EDMEuler"),
    ],
)
def test_schedulers_of_diffusers(kind, config, name):
    import diffusers

    pipeline = SimpleNamespace(scheduler=getattr(diffusers, kind)(**config))
    assert pipelines.sampler_name(pipeline) == name
    assert pipelines.sampler_name(SimpleNamespace()) == ""


def test_what_an_image_was_started_from_is_told(tmp_path):
    run, attempt = run_of()
    candidate = replace(attempt.candidate, start="00-1.png", strength=0.7)
    texts = written(tmp_path, run, replace(attempt, candidate=candidate))
    settings = texts["parameters"].splitlines()[-1]
    assert settings.endswith(", Denoising strength: 0.7, Start image: 00-1.png")
    assert json.loads(texts["invokeai_metadata"])["strength"] == 0.7
    assert json.loads(texts["gcr"])["candidate"]["start"] == "00-1.png"


def test_how_noise_was_mutated_is_told(tmp_path):
    run, attempt = run_of()
    candidate = replace(attempt.candidate, mutations=(8, 13), strength=0.3)
    texts = written(tmp_path, run, replace(attempt, candidate=candidate))
    settings = texts["parameters"].splitlines()[-1]
    assert settings.endswith(", Mutation seeds: 8 13, Mutation strength: 0.3")
    assert "strength" not in json.loads(texts["invokeai_metadata"])
    assert json.loads(texts["gcr"])["candidate"] == {
        "prompt": "a red circle",
        "seed": 5,
        "negative": "",
        "mutations": [8, 13],
        "strength": 0.3,
    }


def test_what_the_pipeline_chose_is_not_guessed(tmp_path):
    run, attempt = run_of()
    object.__setattr__(run, "settings", {"generator": "x/y", "steps": None, "guidance": None})
    texts = written(tmp_path, run, attempt)
    assert texts["parameters"].splitlines()[-1] == "Seed: 5, Size: 64x32, Model: x/y"
    assert "steps" not in json.loads(texts["invokeai_metadata"])


@pytest.mark.parametrize("prompt", ["赤い円", "круг", "🔴 two\nlines", "[bold]\x1b[31m"])
def test_any_prompt_comes_back_as_it_was(tmp_path, prompt):
    texts = written(tmp_path, *run_of(prompt))
    assert texts["parameters"].startswith(prompt + "\n")
    assert json.loads(texts["gcr"])["candidate"]["prompt"] == prompt


def test_a_text_over_the_limit_of_readers_is_left_out(tmp_path):
    texts = written(tmp_path, *run_of("red " * (metadata.MOST_CHUNK_BYTES // 4)))
    assert texts == {}


def test_equal_attempts_make_equal_files(tmp_path):
    run, attempt = run_of()
    other = Run("another id", run.request, run.settings, run.rounds)
    assert metadata.texts(run, 1, attempt, (8, 8)) == metadata.texts(other, 1, attempt, (8, 8))


# Models of files, other formats, and what other programs read

OWN = {
    "steps": 20,
    "guidance": 7.0,
    "generator": "/home/me/models/Juggernaut XL.safetensors",
    "vae": "/home/me/vae/sdxl_vae.safetensors",
    "lora": ["/home/me/loras/fur.safetensors:0.8"],
    "lora_dir": "/home/me/loras",
    "clip_skip": 2,
    "prompt_syntax": "a1111",
}
HASHES = {
    "generator": f"sha256 33e58e8668{'0' * 54}",
    "vae": f"sha256 63aeecb90f{'0' * 54}",
    "lora fur": f"sha256 fd0e0d7d115e{'0' * 52}",
    "lora ink": f"sha256 7163f2e3ce2f{'0' * 52}",
    "critic": "a" * 40,
}
PROMPT = "a (red:1.2) circle <lora:ink:0.5>"


def saved(tmp_path, kind="png", hashes=HASHES, **settings):
    run, attempt = run_of(PROMPT, "a square, 圆")
    run = replace(run, settings={**OWN, **settings})
    attempt = replace(attempt, sampler="DPM++ 2M Karras")
    image = Image.effect_noise((64, 32), 80).convert("RGB")
    path = tmp_path / f"image.{kind}"
    texts = metadata.texts(run, 1, attempt, image.size, hashes)
    path.write_bytes(metadata.encoded(image, texts, kind))
    return path, texts


def test_models_loras_and_vae_are_told_as_a1111_and_invokeai_have_them(tmp_path):
    _, texts = saved(tmp_path)
    assert texts["parameters"] == (
        "a (red:1.2) circle <lora:ink:0.5> <lora:fur:0.8>\n"
        "Negative prompt: a square, 圆\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 64x32, "
        "Model hash: 33e58e8668, Model: Juggernaut XL, VAE hash: 63aeecb90f, VAE: sdxl_vae, "
        'Clip skip: 2, Lora hashes: "fur: fd0e0d7d115e, ink: 7163f2e3ce2f"'
    )
    told = json.loads(texts["invokeai_metadata"])
    assert (told["positive_prompt"], told["scheduler"]) == ("a (red:1.2) circle", "dpmpp_2m_k")
    assert [(lora["model"]["name"], lora["weight"]) for lora in told["loras"]] == [
        ("fur", 0.8),
        ("ink", 0.5),
    ]
    assert (told["vae"]["name"], told["model"]["hash"]) == ("sdxl_vae", "33e58e8668")
    assert "/home/me" not in "".join(texts.values())  # which is private
    _, texts = saved(tmp_path, hashes={}, generator="owner/pipeline", vae="", lora=[])
    assert "hash" not in texts["parameters"]  # there is none of a folder


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_other_programs_read_it_whatever_the_format(kind, tmp_path):
    import sd_parsers

    path, texts = saved(tmp_path, kind)
    told = sd_parsers.ParserManager().parse(path)
    (sampler,) = told.samplers
    assert (sampler.name, sampler.model.name, sampler.model.hash) == (
        *("DPM++ 2M", "Juggernaut XL"),
        "33e58e8668",
    )
    assert sampler.parameters["scheduler"] == "Karras"
    assert sampler.prompts[0].value == "a (red:1.2) circle <lora:ink:0.5> <lora:fur:0.8>"
    assert sampler.negative_prompts[0].value == "a square, 圆"
    # And gcr all of it.
    assert {
        k: json.loads(t) if k != "parameters" else t for k, t in metadata.read(path).items()
    } == {k: json.loads(t) if k != "parameters" else t for k, t in texts.items()}
    carried = provenance.read(path)
    assert [story.form for story in carried.stories] == ["gcr", "A1111", "InvokeAI"]
    assert {story.seed for story in carried.stories} == {5}
    assert carried.stories[1].settings["scheduler"] == "dpm++ 2m karras"
    assert carried.stories[2].clip_skip == carried.stories[1].clip_skip == 2


def test_a1111_and_fooocus_read_the_last_line_by_their_own_rule(tmp_path):
    """`re_param_code` of A1111's repository, which Fooocus has taken over."""
    import re

    _, texts = saved(tmp_path)
    rule = r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)'
    pairs = dict(re.findall(rule, texts["parameters"].splitlines()[-1]))
    assert (pairs["Schedule type"], pairs["Size"], pairs["Clip skip"]) == ("Karras", "64x32", "2")
    assert json.loads(pairs["Lora hashes"]) == "fur: fd0e0d7d115e, ink: 7163f2e3ce2f"


def test_a_jpeg_takes_what_it_has_room_for(tmp_path):
    run, attempt = run_of()
    long = replace(attempt, critique=replace(attempt.critique, summary="x" * 70_000))
    texts = metadata.texts(run, 1, long, (64, 32))
    image = Image.new("RGB", (64, 32))
    for kind, keys in (("jpg", {"parameters"}), ("webp", set(texts))):
        path = tmp_path / f"image.{kind}"
        path.write_bytes(metadata.encoded(image, texts, kind))
        assert metadata.read(path).keys() == keys


def test_nothing_is_said_where_nothing_is_to_be_said(tmp_path):
    path, texts = saved(tmp_path, "jpg", metadata=False)
    assert (texts, metadata.read(path)) == ({}, {})
