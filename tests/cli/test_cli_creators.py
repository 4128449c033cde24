"""Whole commands with a creator's own models: one file, LoRAs, a sampler, JPEG and WebP."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image

import gcr
from gcr.comparison import comparing
from gcr.engine import models as pairs
from gcr.engine.models import load_models
from gcr.errors import UsageError
from gcr.storage import metadata

PROMPT = "a red circle <lora:fur:0.8>"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny SDXL as one file, with its configuration, and a LoRA."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("models")
    folder = tiny.sdxl(place / "config")
    for part in folder.glob("tokenizer*"):
        shutil.rmtree(part)
        tiny.clip_tokenizer().save_pretrained(part)
    tiny.single_file(folder, place / "tiny xl.safetensors")
    (place / "loras").mkdir()
    tiny.lora(folder, place / "loras" / "fur.safetensors", kohya=True)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        next((folder / part).glob("*.safetensors")).unlink()
    return place


@pytest.fixture
def options(cli, models, monkeypatch, tmp_path):
    """What makes a run of these models and the embedded critic, none of them a fake."""
    monkeypatch.setattr(pairs, "load_models", load_models)
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    return (
        *("-m", str(models / "tiny xl.safetensors"), "--config", str(models / "config")),
        *("--critic", "pocket:critic", "--rubric", "pocket", "--lora-dir", str(models / "loras")),
        *("--scheduler", "DPM++ 2M Karras", "--images", "1", "--steps", "2"),
        *("-W", "64", "-H", "64", "--no-compare"),
    )


def test_a_run_with_all_of_it_is_recorded_resumed_and_begun_from(cli, models, options):
    ran = cli("refine", PROMPT, *options, "--rounds", "2", "--format", "webp")
    assert ran.code == 0, ran.err
    best = Path(ran.out.strip())
    assert (best.name, Image.open(best).format) == ("best.webp", "WEBP")
    folder = best.parent
    story = json.loads((folder / "run.json").read_text())
    assert story["settings"]["scheduler"] == "dpm++ 2m karras"
    assert story["settings"]["generator"] == str(models / "tiny xl.safetensors")
    digest = hashlib.sha256((models / "tiny xl.safetensors").read_bytes()).hexdigest()
    assert story["revisions"]["generator"] == f"sha256 {digest}"
    lora_hash = story["revisions"]["lora fur"].removeprefix("sha256 ")
    attempts = gcr.load_run(folder).attempts
    assert [attempt.image for attempt in attempts] == ["00-0.webp", "01-0.webp"]
    assert all("<lora:fur:0.8>" in attempt.candidate.prompt for attempt in attempts)
    line = metadata.read(best)["parameters"].splitlines()[-1]
    assert "Sampler: DPM++ 2M, Schedule type: Karras" in line
    assert f"Model hash: {digest[:10]}, Model: tiny xl" in line
    assert f'Lora hashes: "fur: {lora_hash[:12]}"' in line
    shown = cli("info", str(best)).out
    assert "dpm++ 2m karras" in shown
    assert "the same for A1111, InvokeAI" in shown

    page = (folder / "index.html").read_text()
    assert "01-0.webp" in page
    again = cli("resume", str(folder), "--rounds", "+1")
    assert again.code == 0, again.err
    assert (folder / "02-0.webp").is_file()

    first = cli("refine", "--from", str(folder / "00-0.webp"), *options[:10], "--rounds", "1")
    assert first.code == 0, first.err
    drawn = Path(first.out.strip()).parent / "00-0.png"
    assert json.loads(metadata.read(drawn)["gcr"])["candidate"]["prompt"] == PROMPT
    assert "Sampler: DPM++ 2M, Schedule type: Karras" in metadata.read(drawn)["parameters"]
    without = [each for each in options[:10] if each not in ("--lora-dir", options[9])]
    first = cli("refine", "--from", str(folder / "00-0.webp"), *without, "--rounds", "1")
    assert first.code == 0, first.err
    assert "its LoRAs are not drawn with: fur:0.8; --lora-dir says where" in first.err
    drawn = Path(first.out.strip()).parent / "00-0.png"
    assert json.loads(metadata.read(drawn)["gcr"])["candidate"]["prompt"] == "a red circle"


def test_an_uninterrupted_run_draws_what_a_resumed_one_does_from_lossy_starts(cli, options):
    # Without metadata, which would name the rounds that were asked for.
    how = (*options, "--format", "jpg", "--no-metadata", "--steps", "4", "--strategy", "reflect")
    how = (*how, "--strength", "0.6", "--patience", "9")
    whole = Path(cli("refine", PROMPT, *how, "--rounds", "3").out.strip()).parent
    part = Path(cli("refine", PROMPT, *how, "--rounds", "2").out.strip()).parent
    assert cli("resume", str(part), "--rounds", "+1").code == 0
    assert (part / "02-0.jpg").read_bytes() == (whole / "02-0.jpg").read_bytes()


def test_a_batch_in_jpeg_is_listed_compared_and_exported(cli, tmp_path, monkeypatch):
    (tmp_path / "p.txt").write_text("a red circle\na blue square\n")
    ran = cli("batch", "p.txt", "--into", "b", "--format", "jpg", "--rounds", "1", "--no-metadata")
    assert ran.code == 0, ran.err
    assert metadata.read(tmp_path / "b/runs/1/00-0.jpg") == {}
    assert cli("report", "b").code == 0
    assert "best.jpg" in (tmp_path / "b" / "summary.jsonl").read_text()
    assert "best.jpg" in cli("list", "--output", ".", "--json").out
    assert cli("batch", "p.txt", "--into", "b", "--format", "png", "--rounds", "1").code == 2
    made = cli("export", "b", "--format", "t2i-compbench")
    assert made.code == 0, made.err
    image = tmp_path / "b/t2i-compbench/refined/samples/a red circle_000000.png"
    assert Image.open(image).format == "PNG"
    assert cli("export", "b", "--format", "t2i-compbench").code == 0


@pytest.mark.parametrize(
    ("prompt", "more", "message"),
    [
        ("a red circle <lora:fir:1>", (), "there is no LoRA 'fir' in"),
        ("a red circle", ("--scheduler", "eular"), "there is no scheduler 'eular'"),
        ("a red circle", ("--lora", "nothing.safetensors"), "there is no file nothing.safetensors"),
        ("a red circle", ("--lora", "fur.pt"), "fur.pt is pickled"),
        ("a red circle", ("--vae", "vae.ckpt"), "vae.ckpt is pickled"),
        ("a red circle", ("-m", "model.ckpt"), "model.ckpt is pickled"),
        ("a red circle", ("--clip-skip", "0"), "--clip-skip"),
        ("a red circle", ("--lora", "fur:nan"), "--lora fur:nan: 'nan' is no scale"),
        ("a red circle", ("--lora", "fur.safetensors:"), "'' is no scale"),
        ("a red circle", ("--lora", "../fur"), "there is no LoRA at ../fur"),
        ("a red circle", ("--lora", "./"), "--lora ./ is a folder"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(cli, options, prompt, more, message):
    for dry in ((), ("--dry-run",)):
        ran = cli("refine", prompt, *options, *more, *dry)
        assert (ran.code, ran.out) == (2, ""), ran.err
        assert message in ran.err


def test_a_scale_that_is_no_number_is_said_to_be_1(cli, options):
    for scale in ("0,7", "nan", "te=0.5", ""):
        tag = f"<lora:fur:{scale}>"
        ran = cli("refine", f"a red circle {tag}", *options, "--rounds", "1")
        assert ran.code == 0, ran.err
        assert f"no scale can be read in {tag}, so it is 1" in ran.err
    assert "scale" not in cli("refine", PROMPT, *options, "--rounds", "1").err


def test_the_forecast_shows_what_is_drawn_with(cli, options):
    told = json.loads(cli("refine", PROMPT, *options, "--dry-run", "--json").out)
    assert told["settings"]["scheduler"] == {"value": "dpm++ 2m karras", "origin": "--scheduler"}
    assert told["files"] == ["tiny xl.safetensors", "LoRA fur (fur.safetensors)"]


def test_a_comparisons_images_are_pngs(cli, monkeypatch):
    """Arms share their first images, and a JPEG of a JPEG is another image."""
    assert cli("compare", "p.txt", "--format", "jpg").code == 2
    with pytest.raises(UsageError, match="a comparison's images are PNGs"):
        comparing.shared({"format": "jpg"}, "images")
    monkeypatch.setenv("GCR_FORMAT", "webp")
    assert comparing.shared({}, "images").format == "png"


def test_a_run_of_an_older_version_goes_on_with_tags_that_are_words(cli):
    folder = Path(cli("refine", "a red circle", "--rounds", "1").out.strip()).parent
    story = json.loads((folder / "run.json").read_text())
    assert story["settings"].pop("prompt_syntax") == "a1111"
    story["request"]["prompt"] = "a red circle <lora:old:1>"
    (folder / "run.json").write_text(json.dumps(story))
    ran = cli("resume", str(folder), "--rounds", "+1")
    assert ran.code == 0, ran.err
    story["settings"]["prompt_syntax"] = "a1111"
    (folder / "run.json").write_text(json.dumps(story))
    assert "the prompt names a LoRA" in cli("resume", str(folder), "--rounds", "+1").err
