"""Profiles: what each says, and that a pipeline of its class takes it."""

import dataclasses

import pytest
import tiny
import torch

from gcr import generator, pipelines, profiles, rubric
from gcr.errors import UsageError
from gcr.generator import Sampling
from gcr.memory import SharedDevice
from gcr.records import Candidate

# The class of each profile's pipeline, and the tiny checkpoint that stands for it.
CLASSES = {
    "pocket": ("PixArtAlphaPipeline", "pixart"),
    "12gb": ("SanaPipeline", "sana"),
    "24gb": ("ZImagePipeline", "z_image"),
}


def sampling_of(profile):
    return Sampling(
        width=profile.width,
        height=profile.height,
        steps=profile.steps,
        guidance=profile.guidance,
        call=profile.call,
        batch=profile.draw_batch,
        dtype=profile.dtype,
    )


def test_every_profile_is_known_here():
    assert set(profiles.known()) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_pipeline_of_its_class_draws_with_a_profile_s_settings(name, tmp_path):
    class_name, family = CLASSES[name]
    torch.manual_seed(0)
    folder = getattr(tiny, family)(tmp_path / family)
    assert f'"{class_name}"' in (folder / "model_index.json").read_text()
    # All settings but the size: one of random weights draws 64 pixels as badly as 1,024.
    sampling = dataclasses.replace(sampling_of(profiles.load(name)), width=64, height=64)
    drawer = generator.load(str(folder), sampling, SharedDevice("cpu"))
    images = [drawing.image for drawing in drawer.draw([Candidate("a red circle", 1)] * 2)]
    assert [image.size for image in images] == [(64, 64)] * 2


@pytest.mark.parametrize("name", CLASSES)
def test_a_profile_names_a_rubric_that_exists(name):
    assert rubric.load(profiles.load(name).rubric).name == profiles.load(name).rubric


@pytest.mark.parametrize("name", CLASSES)
def test_the_size_suits_every_vae_of_that_class(name):
    profile = profiles.load(name)
    assert profile.width % 32 == profile.height % 32 == 0


def test_sampling_holds_every_setting_of_a_profile_that_is_for_drawing():
    names = {field.name for field in dataclasses.fields(Sampling)}
    assert names - {"batch"} < set(profiles.Profile.model_fields)
    assert pipelines.Sampling is Sampling


def test_an_unknown_profile_names_the_nearest_and_all():
    with pytest.raises(UsageError, match="no profile named 'poket'") as caught:
        profiles.load("poket")
    assert "did you mean 'pocket'?" in caught.value.hint
    assert all(name in caught.value.hint for name in [*CLASSES, "auto"])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("stepps: 3", "stepps", "did you mean 'steps'?"),
        ("width: many", "width", ""),
        ("width: 0", "width", ""),
        ("- a list", "not a mapping", "gcr/profiles/"),
        ("'open", "not a mapping", ""),
    ],
)
def test_what_a_profile_cannot_hold(text, message, hint):
    whole = "\n".join(
        f"{key}: {value}"
        for key, value in profiles.load("pocket").model_dump().items()
        if key not in {"name", "call", text.partition(":")[0]}
    )
    with pytest.raises(UsageError, match=message) as caught:
        profiles.parse("own", f"{whole}\n{text}" if ":" in text else text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("free", "name", "reason"),
    [
        (0.0, "pocket", "no GPU"),
        (7.5, "pocket", "12gb, needs 11"),
        (11.2, "12gb", "11.2 GiB"),
        (16.0, "12gb", "16.0 GiB"),
        (23.0, "24gb", "23.0 GiB"),
        (139.0, "24gb", "139.0 GiB"),
    ],
)
def test_auto_takes_the_largest_that_fits_and_says_why(free, name, reason):
    choice = profiles.automatic(free)
    assert choice.profile.name == name
    assert reason in choice.reason


def test_auto_asks_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiles.automatic().profile.name == "pocket"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (23 * 1024**3, 24 * 1024**3))
    assert profiles.automatic().profile.name == "24gb"
