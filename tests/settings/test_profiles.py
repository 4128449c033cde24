"""Profiles: what each says, and that a pipeline of its class takes it."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from diffusers import DiffusionPipeline
from fakes import FakeMachine
from PIL import Image

import gcr
from gcr.critic import rubric
from gcr.diagnose import doctor
from gcr.drawing import pipelines
from gcr.drawing.pipelines import Sampling
from gcr.errors import UsageError
from gcr.settings import profiles
from gcr.settings.resolving import resolve

ROOT = Path(__file__).parents[2]
QWEN = "Qwen3VLForConditionalGeneration"


def klein(folder):
    return tiny.flux2_klein(folder, layers=28)


# The class of each profile's pipeline and of its critic, the tiny checkpoints that stand for them,
# and what the full-size pipeline's width and height must be multiples of.
CLASSES = {
    "pocket": ("PixArtAlphaPipeline", tiny.pixart, "LlavaForConditionalGeneration", tiny.llava, 8),
    "8gb": ("Flux2KleinPipeline", klein, QWEN, tiny.qwen3_vl, 16),
    "12gb": ("ZImagePipeline", tiny.z_image, QWEN, tiny.qwen3_vl, 16),
    "16gb": ("ZImagePipeline", tiny.z_image, QWEN, tiny.qwen3_vl, 16),
    "24gb": ("ZImagePipeline", tiny.z_image, QWEN, tiny.qwen3_vl, 16),
    "80gb": ("QwenImagePipeline", tiny.qwen_image, QWEN, tiny.qwen3_vl, 16),
}


def test_every_profile_is_known_here():
    assert set(profiles.known()) == set(CLASSES)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A tiny critic of each class, built once."""
    folders = {}

    def build(maker):
        if maker not in folders:
            torch.manual_seed(0)
            folders[maker] = maker(tmp_path_factory.mktemp("critic") / "model")
        return folders[maker]

    return build


@pytest.mark.parametrize("name", CLASSES)
def test_a_run_of_a_profile_with_tiny_models_of_its_classes(name, stand_ins, tmp_path):
    """As published, but for the weights, the size and how much the critic may write."""
    pipeline_class, pipeline, critic_class, critic, _ = CLASSES[name]
    torch.manual_seed(0)
    generator, critic = pipeline(tmp_path / "generator"), stand_ins(critic)
    assert f'"{pipeline_class}"' in (generator / "model_index.json").read_text()
    assert f'"{critic_class}"' in (critic / "config.json").read_text()
    profile = profiles.load(name)
    short = tmp_path / "short.yaml"
    spelled = (ROOT / "prompts" / f"{profile.rubric}.yaml").read_text()
    short.write_text(re.sub("max_new_tokens: .*", "max_new_tokens: 4", spelled))
    own = tmp_path / "own.yaml"
    own.write_text(
        yaml.safe_dump(
            profile.model_dump(mode="json", exclude={"name"})
            | {"generator": str(generator), "critic": str(critic), "rubric": str(short)}
            | {"width": 64, "height": 64, "quantize_generator": "none"}  # which needs a GPU
        )
    )

    outcome = gcr.refine(
        "a red circle", profile=str(own), rounds=1, output=tmp_path / "outputs", compare=False
    )

    assert len(outcome.run.attempts) == (profile.images or 2)
    assert all(attempt.critique.problem for attempt in outcome.run.attempts)  # random weights
    batch = min(2, profile.draw_batch)
    assert {attempt.batch for attempt in outcome.run.attempts} == {batch}
    with Image.open(outcome.folder / "00-0.png") as image:
        assert image.size == (64, 64)
    assert outcome.run.settings["profile"] == "own"
    for key in ("steps", "guidance", "call", "draw_batch", "judge_batch", "dtype"):
        assert outcome.run.settings[key] == getattr(profile, key)


@pytest.mark.parametrize("name", CLASSES)
def test_the_prompt_limit_is_what_the_pipeline_reads(name, tmp_path):
    profile = profiles.load(name)
    pipeline = DiffusionPipeline.from_pretrained(CLASSES[name][1](tmp_path / "generator"))
    limits = [limit for _, _, limit in pipelines.reading_limits(pipeline, profile.call)]
    assert min(limits) == profile.prompt_limit


@pytest.mark.parametrize("name", CLASSES)
def test_a_profile_names_a_rubric_that_exists(name):
    assert rubric.load(profiles.load(name).rubric).name == profiles.load(name).rubric


@pytest.mark.parametrize("name", CLASSES)
def test_the_size_suits_the_published_pipeline(name):
    profile, factor = profiles.load(name), CLASSES[name][4]
    assert profile.width % factor == profile.height % factor == 0


@pytest.mark.parametrize("name", CLASSES)
def test_a_profile_of_ours_says_what_its_weights_may_be_used_for(name):
    profile = profiles.load(name)
    assert "unknown" not in {profile.generator_licence, profile.critic_licence}
    assert profile.gated is not None
    assert profile.download_gb is not None
    assert (profile.ram_gb is None) == (name == "pocket")


@pytest.fixture
def place(tmp_path):
    """The user's folder of profiles, and the environment that says where it is."""
    folder = tmp_path / "gcr" / "profiles"
    folder.mkdir(parents=True)
    return folder, {"XDG_CONFIG_HOME": str(tmp_path)}


def spelled(**changes):
    values = profiles.load("pocket").model_dump(exclude={"name"}) | changes
    return yaml.safe_dump(values)


def test_users_can_add_profiles_of_their_own(place):
    folder, environ = place
    (folder / "mine.yaml").write_text(spelled(steps=3, vram_gb=9))
    assert profiles.load("mine", environ).steps == 3
    names = [profile.name for profile in profiles.load_all(environ)[0]]
    assert names == ["pocket", "8gb", "mine", "12gb", "16gb", "24gb", "80gb"]
    assert (
        resolve({"profile": "mine"}, FakeMachine(), environ=environ, folder=folder).settings.steps
        == 3
    )
    with pytest.raises(UsageError) as caught:
        profiles.load("mne", environ)
    assert "did you mean 'mine'?" in caught.value.hint


def test_a_profile_of_a_user_cannot_take_the_name_of_one_of_ours(place):
    folder, environ = place
    (folder / "24gb.yaml").write_text(spelled())
    with pytest.raises(UsageError, match="has the name of a profile of gcr's own"):
        profiles.load("pocket", environ)


def test_one_that_is_broken_hides_no_other(place, cli, monkeypatch):
    folder, environ = place
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    values = yaml.safe_load(spelled())
    del values["steps"], values["vram_gb"]
    (folder / "bad.yaml").write_text(yaml.safe_dump(values))
    (folder / "good.yaml").write_text(spelled())
    ran = cli("profiles")
    assert ran.code == 2
    assert all(name in ran.out for name in [*CLASSES, "good"])
    assert f"the profile {folder / 'bad.yaml'} lacks vram_gb" in ran.err
    told = [one for one in doctor._device() if one.state == "broken"]
    assert [one.name for one in told] == ["profiles"]
    (folder / "24gb.yaml").write_text(spelled())
    assert "has the name of a profile" in str(profiles.load_all()[1][0])


def test_a_profile_by_its_path(tmp_path):
    path = tmp_path / "own.yaml"
    with pytest.raises(UsageError, match="cannot read the profile"):
        profiles.load(str(path))
    path.write_text(spelled(steps=5))
    assert (profiles.load(str(path)).name, profiles.load(str(path)).steps) == ("own", 5)


def test_the_list_has_every_profile(cli):
    ran = cli("profiles")
    for name in CLASSES:
        assert name in ran.out
        assert profiles.load(name).critic in ran.out
    listed = json.loads(cli("profiles", "--json").out)
    assert {profile["name"] for profile in listed} == set(CLASSES)
    assert listed[0]["gated"] is False


def test_one_profile_is_shown_whole(cli, tmp_path):
    for name in CLASSES:
        profile = profiles.load(name)
        assert json.loads(cli("profiles", name, "--json").out) == profile.model_dump(mode="json")
        path = tmp_path / f"{name}.yaml"
        path.write_text(cli("profiles", name).out)
        assert profiles.load(str(path)) == profile
    assert "no profile named 'none'" in cli("profiles", "none").err


def test_the_list_fits_a_terminal_of_80_columns(cli, monkeypatch):
    monkeypatch.setattr("gcr.cli.options.PIPED", 80)
    lines = cli("profiles").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for name in CLASSES:
        assert profiles.load(name).critic in "\n".join(lines)


def test_sampling_holds_every_setting_of_a_profile_that_is_for_drawing():
    names = {field.name for field in dataclasses.fields(Sampling)}
    by_no_profile = {"batch", "compile", "step_cache", "rewriter"}
    by_no_profile |= {"scheduler", "clip_skip", "prompt_syntax"}
    names.remove("quantize")
    names.add("quantize_generator")
    assert names - by_no_profile < set(profiles.Profile.model_fields)


def test_an_unknown_profile_names_the_nearest_and_all():
    with pytest.raises(UsageError, match="no profile named 'poket'") as caught:
        profiles.load("poket")
    assert "did you mean 'pocket'?" in caught.value.hint
    assert all(name in caught.value.hint for name in [*CLASSES, "auto"])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("stepps: 3", "stepps", "did you mean 'steps'?"),
        ("generatr: a/b", "has a key 'generatr', which there is not", "did you mean 'generator'?"),
        ("width: many", "width should be a whole number, not 'many'$", ""),
        ("width: 0", "width should be at least 1, not 0", ""),
        ("- a list", "not a mapping", "gcr profiles --json"),
        ("'open", "line [0-9]+: not YAML", ""),
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
        (6.5, "pocket", "8gb, needs 7"),
        (7.5, "8gb", "7.5 GiB"),
        (11.2, "12gb", "11.2 GiB"),
        (15.5, "16gb", "15.5 GiB"),
        (23.0, "24gb", "23.0 GiB"),
        (79.0, "80gb", "79.0 GiB"),
    ],
)
def test_auto_takes_the_largest_that_fits_and_says_why(free, name, reason):
    choice = profiles.largest(free)
    assert choice.profile.name == name
    assert reason in choice.reason
