import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gcr.core.records import AspectScore, Attempt, Candidate, Critique, Request, Round, Run
from gcr.drawing import pipelines
from gcr.storage import metadata

SETTINGS = {"steps": 20, "guidance": 2.0, "generator": "pocket:generator", "rubric_sha256": "ab"}


def run_of(prompt="a red circle", negative="", raw="the reply"):
    critique = Critique((AspectScore("Quality", 3.0, "clean"),), 0.67, "good", raw=raw)
    attempt = Attempt(Candidate(prompt, 5, negative), critique, "01-0.png")
    run = Run("id", Request("a circle", negative), SETTINGS, (Round(1, (attempt,)),))
    return run, attempt


def written(tmp_path, run, attempt):
    image = Image.new("RGB", (64, 32), "red")
    path = tmp_path / "image.png"
    path.write_bytes(metadata.png(image, metadata.texts(run, 1, attempt, image.size)))
    return metadata.read(path)


def test_texts_stand_where_pillow_puts_them():
    image = Image.effect_noise((64, 32), 80).convert("RGB")
    texts = {"parameters": "a circle", "gcr": '{"prompt": "круг 圆"}'}
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=info, compress_level=metadata.COMPRESSION)
    assert metadata.png(image, texts) == file.getvalue()


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
