import inspect
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
from fakes import FakeMachine
from rich.text import Text

from gcr import pocket
from gcr.cli.refine import refine
from gcr.core.events import ignore
from gcr.core.stopping import MOST_ROUNDS
from gcr.core.strategies import Evolve, Reflect
from gcr.critic import rubric
from gcr.engine import models
from gcr.errors import GcrError, UsageError
from gcr.files import paths
from gcr.settings import keys, profiles
from gcr.settings.measurements import SPEEDS, Speed, device_key
from gcr.settings.resolving import config_files, recalled, resolve
from gcr.settings.schema import (
    FIELDS,
    OF_THE_MACHINE,
    OPTIONS,
    PATHS,
    TYPES,
    ComparisonOptions,
    CriticOptions,
    CritiqueOptions,
    NameOrPath,
    ResumeOptions,
    RunOptions,
    Settings,
    as_begun,
)

ROOT = Path(__file__).parents[2]
POCKET = profiles.load("pocket")


@pytest.fixture
def place(tmp_path):
    """Resolve settings where a test has put files; `environ` is the whole environment."""

    def resolved(environ=None, machine=None, **flags):
        environ = {"XDG_CONFIG_HOME": str(tmp_path), **(environ or {})}
        return resolve(flags, machine or FakeMachine(), folder=tmp_path, environ=environ).settings

    resolved.project = tmp_path / "gcr.yaml"
    resolved.user = tmp_path / "gcr" / "config.yaml"
    resolved.user.parent.mkdir()
    return resolved


def test_of_several_values_the_wrong_one_is_named(place):
    with pytest.raises(UsageError, match=r"^--lora is empty$"):
        place(lora=["fur.safetensors", ""])
    place.project.write_text("keep: [red, 3]")
    with pytest.raises(UsageError, match=r"^keep in .*gcr\.yaml should be text, not 3$"):
        place()
    place.project.write_text("aspect: {mood: calm}")
    with pytest.raises(UsageError, match=r"^aspect in .*gcr\.yaml should be a list, not {'mood'"):
        place()


def test_the_environment_has_one_value_or_a_list_in_json(place):
    assert place({"GCR_KEEP": "red, blue"}).keep == ("red, blue",)
    assert place({"GCR_KEEP": "[soft light]"}).keep == ("[soft light]",)
    assert place({"GCR_KEEP": '["red", "[blue]"]'}).keep == ("red", "[blue]")
    with pytest.raises(UsageError, match=r"^GCR_LORA is no list in JSON") as caught:
        place({"GCR_LORA": '["a.safetensors"'})
    assert "circles" in caught.value.hint
    with pytest.raises(UsageError, match=r"^--judges does nothing with --critique best, which"):
        place(judges=4, critique="best")


def test_help_holds_nothing_that_a_terminal_takes_for_markup():
    for name, option in OPTIONS.items():
        assert Text.from_markup(option.help).plain == option.help, name


def test_defaults_are_those_of_the_embedded_profile(place):
    settings = place()
    assert settings.profile == "pocket"
    assert (settings.generator, settings.critic) == (POCKET.generator, POCKET.critic)
    assert (settings.width, settings.steps) == (POCKET.width, POCKET.steps)
    assert settings.call == POCKET.call
    assert settings.rubric == "pocket"
    assert (settings.rounds, settings.images, settings.seed) == (4, 2, 0)


def test_each_source_wins_over_those_after_it(place):
    sources = {}
    place.user.write_text("steps: 2")
    sources["user"] = place().steps
    place.project.write_text("steps: 3")
    sources["project"] = place().steps
    sources["environment"] = place({"GCR_STEPS": "4"}).steps
    sources["flag"] = place({"GCR_STEPS": "4"}, steps=5).steps
    assert sources == {"user": 2, "project": 3, "environment": 4, "flag": 5}
    assert POCKET.steps not in sources.values()


def mix_of(settings):
    return settings.images, settings.rounds, settings.patience


def test_a_profile_spends_images_as_suits_its_generator(tmp_path):
    alone = {"folder": tmp_path, "environ": {"XDG_CONFIG_HOME": str(tmp_path)}}
    mixes = {
        name: mix_of(resolve({"profile": name}, FakeMachine(), **alone).settings)
        for name in profiles.known()
    }
    few_seeds = dict.fromkeys(("8gb", "12gb", "16gb", "24gb"), (2, 6, 1))
    assert mixes == {**few_seeds, "80gb": (4, 4, 2), "pocket": (2, 4, 2)}
    other = {"profile": "24gb", "generator": "a/b"}
    assert mix_of(resolve(other, FakeMachine(), **alone).settings) == (2, 4, 2)
    budget = {"profile": "80gb", "max_images": 3}
    assert mix_of(resolve(budget, FakeMachine(), **alone).settings) == (1, 100, 2)


def test_a_generator_without_a_profile_that_counts_as_distilled_gets_more_rewrites(tmp_path):
    alone = {"folder": tmp_path, "environ": {"XDG_CONFIG_HOME": str(tmp_path)}}
    machine = FakeMachine(few_steps={"a/turbo": "its name says turbo"})
    found = resolve({"generator": "a/turbo", "rounds": 3}, machine, **alone)
    assert mix_of(found.settings) == (2, 3, 1)
    assert found.settings.distilled == "its name says turbo"
    assert found.origins["patience"] == "distilled: its name says turbo"
    assert "distilled" not in found.settings.decisive()
    assert mix_of(resolve({"generator": "a/b", "steps": 4}, machine, **alone).settings) == (2, 6, 1)
    assert mix_of(resolve({"generator": "a/b", "steps": 30}, machine, **alone).settings) == (
        2,
        4,
        2,
    )


def test_several_judges_of_a_profile_and_the_target_of_their_mean(tmp_path):
    alone = {"folder": tmp_path, "environ": {"XDG_CONFIG_HOME": str(tmp_path)}}
    text = resources.files("gcr.settings.profiles").joinpath("pocket.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(f"{text}judges: 4\n")
    mine = {"profile": str(tmp_path / "mine.yaml")}
    found = resolve(mine, FakeMachine(), **alone).settings
    assert (found.judges, found.target) == (4, 0.95)
    checked = resolve({**mine, "score": "checklist"}, FakeMachine(), **alone).settings
    assert checked.judges == 1
    assert resolve({**mine, "critic": "a/b"}, FakeMachine(), **alone).settings.judges == 1
    assert resolve({"judges": 2}, FakeMachine(), **alone).settings.target == 0.95
    assert resolve({"judges": 1}, FakeMachine(), **alone).settings.target == 1.0


@pytest.mark.parametrize(
    ("critic", "rubric", "of_edits"),
    [
        ("TIGER-Lab/RationalRewards-8B-T2I", "rational-rewards", "rational-rewards-editing"),
        ("/models/rationalrewards-8b-edit", "rational-rewards", "rational-rewards-editing"),
        ("http://localhost:8000", "rational-rewards", "rational-rewards-editing"),  # as it says
        ("Qwen/Qwen3-VL-8B-Instruct", "text-to-image", "editing"),
    ],
)
def test_a_critic_has_the_rubric_it_was_trained_on(tmp_path, critic, rubric, of_edits):
    alone = {"folder": tmp_path, "environ": {"XDG_CONFIG_HOME": str(tmp_path)}}
    flags = {"profile": "24gb", "critic": critic}
    machine = FakeMachine(models={"http://localhost:8000": "TIGER-Lab/RationalRewards-8B-T2I"})
    assert resolve(flags, machine, **alone).settings.rubric == rubric
    assert resolve(flags, machine, edit=True, **alone).settings.rubric == of_edits
    targets = {"rational-rewards": 0.9}
    assert resolve(flags, machine, **alone).settings.target == targets.get(rubric, 1.0)
    assert resolve({**flags, "score": "soft"}, machine, **alone).settings.target == 0.95
    assert resolve({**flags, "target": 0.8}, machine, **alone).settings.target == 0.8
    named = {**flags, "rubric": "text-to-image"}
    assert resolve(named, machine, edit=True, **alone).settings.rubric == "text-to-image"


def test_an_edit_has_a_rubric_of_its_own_unless_one_is_named(tmp_path):
    alone = {"folder": tmp_path, "environ": {"XDG_CONFIG_HOME": str(tmp_path)}}
    for profile in profiles.known():
        settings = resolve({"profile": profile}, FakeMachine(), edit=True, **alone).settings
        trained = "RationalRewards" in settings.critic
        assert settings.rubric == ("rational-rewards-editing" if trained else "editing")
    assert (
        resolve({"rubric": "text-to-image"}, FakeMachine(), edit=True, **alone).settings.rubric
        == "text-to-image"
    )
    (tmp_path / "gcr.yaml").write_text("rubric: own.yaml")
    assert resolve({}, FakeMachine(), edit=True, **alone).settings.rubric == "own.yaml"


def test_a_named_generator_brings_no_settings_of_the_profiles_own(place):
    settings = place(generator="owner/name")
    assert (settings.width, settings.steps, settings.guidance) == (None, None, None)
    assert settings.call == {}
    assert settings.critic == POCKET.critic
    assert settings.rubric == "pocket"


def test_folders_can_be_paths(place):
    assert place(generator=Path("models/x")).generator == str(Path("models/x"))


def test_a_named_critic_brings_the_general_rubric(place):
    settings = place(critic="owner/name")
    assert settings.rubric == "text-to-image"
    assert settings.width == POCKET.width
    assert place(critic="owner/name", rubric="editing").rubric == "editing"


@pytest.mark.parametrize("write", ["min-gain: 0.1", "min_gain: 0.1"])
def test_files_take_dashes_and_underscores(place, write):
    place.project.write_text(write + "\n")
    assert place().min_gain == 0.1


@pytest.mark.parametrize("content", ["", "# nothing\n", "steps:\n"])
def test_what_a_file_leaves_open_stays_open(place, content):
    place.project.write_text(content)
    assert place().steps == POCKET.steps


def test_an_unknown_key_names_its_file_and_the_nearest(place):
    place.project.write_text("guidence: 3")
    with pytest.raises(UsageError, match=r"unknown setting 'guidence' in .*gcr\.yaml") as caught:
        place()
    assert caught.value.hint == "did you mean guidance?"


def test_an_unknown_key_near_none_lists_the_known(place):
    place.user.write_text("zzz: 3")
    with pytest.raises(UsageError) as caught:
        place()
    assert "guidance" in caught.value.hint


def test_a_misspelt_variable_is_an_error_and_a_strangers_is_not(place):
    with pytest.raises(UsageError, match="GCR_GUIDENCE") as caught:
        place({"GCR_GUIDENCE": "3"})
    assert caught.value.hint == "did you mean GCR_GUIDANCE?"
    strangers = {"GCR_REGISTRY_HOST": "x", "GCR_DEBUG": "1", "GCR_CACHE": "/x", "GCR_SEED": ""}
    assert place(strangers).seed == 0


def test_an_unknown_flag_of_the_python_form_is_an_error(place):
    with pytest.raises(UsageError, match="no setting 'image'") as caught:
        place(image=3)
    assert caught.value.hint == "did you mean images?"


ENDLESS_IS_MOST = "should be at most 1000000000, not 2000000000"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"width": 3}, "--width should be at least 8, not 3"),
        ({"rounds": 0}, "--rounds should be at least 1, not 0"),
        ({"target": 1.5}, "--target should be at most 1, not 1.5"),
        ({"seed": -1}, "--seed should be at least 0, not -1"),
        ({"guidance": float("nan")}, "--guidance should be a finite number, not nan"),
        ({"min_gain": 2.0}, "--min-gain should be at most 1, not 2.0"),
        ({"keep": [""]}, "--keep is empty"),
        ({"max_images": 0}, "--max-images should be at least 1, not 0"),
        ({"max_images": 2 * 10**9}, f"--max-images {ENDLESS_IS_MOST}"),
        ({"patience": 2 * 10**9}, f"--patience {ENDLESS_IS_MOST}"),
        ({"max_seconds": 0.0}, "--max-seconds should be more than 0, not 0.0"),
        ({"strength": 0.0}, "--strength should be more than 0, not 0.0"),
        ({"strength": 1.1}, "--strength should be at most 1, not 1.1"),
    ],
)
def test_values_out_of_range_are_one_line_that_names_the_option(place, flags, message):
    with pytest.raises(UsageError) as caught:
        place(**flags)
    assert caught.value.message == message
    assert caught.value.exit_code == 2


def test_a_wrong_value_names_where_it_was_set(place):
    with pytest.raises(UsageError, match=r"^GCR_STEPS should be a whole number, not 'many'$"):
        place({"GCR_STEPS": "many"})
    for line, message in {
        "images: [1]": r"should be a whole number, not \[1\]",
        "images: 1.5": "should be a whole number, not 1.5",
        f"images: {'9' * 300}": "should be at most [0-9]+, not 9{99}…",
        "target: high": "should be a number, not 'high'",
        "compare: maybe": "should be true or false, not 'maybe'",
        "output: 5": "should be a path, not 5",
        "generator: ''": "is empty",
    }.items():
        place.project.write_text(line)
        name = line.partition(":")[0]
        with pytest.raises(UsageError, match=rf"^{name} in .*gcr\.yaml {message}$"):
            place()


def test_an_unknown_profile_names_the_nearest(place):
    with pytest.raises(UsageError, match="no profile named 'poket'") as caught:
        place(profile="poket")
    assert "pocket" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: [", "line 1: not YAML"),
        ("- seed", "holds no settings"),
        ("just words", "holds no settings"),
    ],
)
def test_a_file_that_is_no_mapping_is_an_error(place, content, problem):
    place.project.write_text(content)
    with pytest.raises(UsageError, match=problem):
        place()


def test_a_file_that_cannot_be_read_is_an_error(place):
    place.project.mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        place()


def test_auto_is_resolved_to_a_profile_and_says_why(place):
    settings = place(profile="auto", machine=FakeMachine(gpu_gib=0))
    assert settings.profile == "pocket"
    assert settings.chosen.startswith("no GPU here")
    assert settings.decisive() == place(profile="pocket").decisive()
    assert place(profile="auto", machine=FakeMachine(gpu_gib=23)).profile == "24gb"


def test_the_machine_is_asked_only_for_what_settings_need(place):
    machine = FakeMachine(models={"http://there:1/v1": "m"})
    place(critic="http://there:1/v1#n", machine=machine)
    assert machine.asked == []
    assert place(critic="http://there:1/v1", machine=machine).critic == "http://there:1/v1#m"
    assert machine.asked == [("http://there:1/v1", True)]
    key = device_key("draw", "a/b", "Card", (None, None))
    SPEEDS.keep({"XDG_CONFIG_HOME": str(place.project.parent)}, {key: Speed(4, 0.5, 1, 1)})
    for device, batch in (("Card", 4), ("another", 1)):
        assert place(generator="a/b", machine=FakeMachine(device=device)).draw_batch == batch


RESOLVING = """
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from fakes import FakeMachine
from gcr.settings.resolving import resolve
resolve({}, FakeMachine())
print(sorted({"torch", "httpx2", "huggingface_hub", "numpy"} & set(sys.modules)))
"""


def test_settings_are_resolved_without_large_libraries(tmp_path):
    """Files and the environment are read; nothing is there that could look at anything else."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    ran = subprocess.run(
        [sys.executable, "-c", RESOLVING],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"


def test_images_are_screened_by_checklists_alone(place):
    screened = place(critique="best")
    assert (screened.score, screened.target) == ("checklist", 0.95)
    assert place(critique="best", target=0.8).target == 0.8
    with pytest.raises(UsageError, match="--judges does nothing"):
        place(critique="best", judges=3)


def test_what_is_recorded_decides_the_images(place):
    recorded = place(output=Path("/elsewhere"), residency="swap").decisive()
    assert recorded == place().decisive()
    assert recorded != place(seed=1).decisive()
    later = {"graphs": True, "compile": True, "step_cache": True, "select": "pairwise"}
    later |= {"quantize_generator": "nf4", "quantize_critic": "none", "verify": "ocr"}
    later |= {"critique": "best", "scheduler": "euler a", "clip_skip": 2, "format": "jpg"}
    later |= {"lora": ["fur.safetensors:0.8"], "lora_dir": "loras", "vae": "x/vae", "config": "x/y"}
    later |= {"metadata": False, "aspect": ["mood: calm"]}
    off = {"output", "residency", "overlap", "chosen", "distilled", "trusted", *later}
    assert set(recorded) == set(FIELDS) - off
    assert recorded["prompt_syntax"] == "a1111"  # else it is a folder of an older version
    assert place(**later).decisive().items() >= later.items()


def test_where_a_folder_is_gone_on_with_residency_is_for_this_machine_to_say(place, monkeypatch):
    monkeypatch.chdir(place.project.parent)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place.project.parent))
    before = place(seed=3, residency="swap")
    assert recalled(before.decisive(), FakeMachine()).residency == "auto"
    place.project.write_text("residency: swap\nseed: 4")
    assert recalled(before.decisive(), FakeMachine()) == before
    monkeypatch.setenv("GCR_RESIDENCY", "offload")
    assert recalled(before.decisive(), FakeMachine()).residency == "offload"
    assert recalled(before.decisive(), FakeMachine(), residency="both").residency == "both"
    with pytest.raises(UsageError, match="--residency should be 'auto', 'both'"):
        recalled(before.decisive(), FakeMachine(), residency="all")


def test_folders_of_older_versions_go_on_with_the_rewriters_of_pipelines(place):
    recorded = place().decisive()
    assert recorded["rewriter"] is False
    assert recalled(recorded, FakeMachine()).rewriter is False
    del recorded["rewriter"]
    assert recalled(recorded, FakeMachine()).rewriter is True
    assert as_begun(place(), recorded).rewriter is True


def test_a_folder_of_another_version_is_refused_by_what_it_records(place):
    recorded = {**place().decisive(), "moonlight": 3}
    with pytest.raises(GcrError, match="cannot read the recorded settings: moonlight is not known"):
        recalled(recorded, FakeMachine())


def test_settings_are_in_the_working_folder_and_in_the_folder_of_configuration():
    environ = {"XDG_CONFIG_HOME": "/x"}
    assert config_files(Path("x"), environ) == (
        Path("x/gcr.yaml"),
        paths.config_folder(environ) / "config.yaml",
    )


def test_a_budget_lifts_the_limit_on_rounds_unless_that_is_given_too(place):
    assert place().rounds == 4
    assert place(max_images=30).rounds == place(max_seconds=9.5).rounds == MOST_ROUNDS
    assert place({"GCR_MAX_IMAGES": "30"}).rounds == MOST_ROUNDS
    assert place(max_images=30, rounds=3).rounds == 3


def test_a_small_budget_of_images_leaves_room_for_a_rewritten_prompt(place):
    assert [place(max_images=n).images for n in (1, 2, 3, 4, 8)] == [1, 1, 1, 2, 2]
    assert place({"GCR_MAX_IMAGES": "2"}).images == 1
    assert place(max_images=2, images=2).images == 2
    with pytest.raises(UsageError, match="max-images"):
        place(max_images="few")


def test_every_option_is_a_setting():
    flags = set(inspect.signature(refine).parameters)
    others = {
        *("prompt", "image", "approve", "dry_run", "trust_endpoint", "offline", "yes"),
        *("as_json", "quiet", "verbose", "from_image"),
    }
    assert flags - others == set(OPTIONS) - {"overlap"}  # there is one run only


def keyword_type(name):
    """What Python code may give for a setting, by its type in the schema."""
    declared = get_args(TYPES[name])[0]
    if declared is Path or name in {*PATHS, "profile", "rubric"}:
        return NameOrPath | None
    if name == "lora":
        return Sequence[NameOrPath] | None
    return Sequence[str] | None if get_origin(declared) is tuple else declared | None


def test_the_keyword_options_of_python_are_the_settings_own():
    switch = {keys.TRUST: bool}
    whole = {name: keyword_type(name) for name in OPTIONS} | switch
    assert get_type_hints(RunOptions) == whole
    judging = {"critic", "rubric", "score", "judges", "verify", "quantize_critic"}
    for options, names in (
        (ComparisonOptions, whole.keys() - {"strategy", "compare", "format"}),
        (CriticOptions, {"profile", "aspect", *judging, *switch}),
        (CritiqueOptions, {"negative", *get_type_hints(CriticOptions)}),
        (ResumeOptions, {*OF_THE_MACHINE, *switch}),
    ):
        assert get_type_hints(options) == {name: whole[name] for name in names}
    taken = inspect.signature(recalled).parameters
    assert get_type_hints(ResumeOptions).keys() == taken.keys() - {"recorded", "machine"}


def test_the_helps_defaults_are_the_settings_own():
    shown = {}
    for name, option in OPTIONS.items():
        if default := re.search(r"\(default: (?:the profile's, else )?(.*)\)", option.help):
            shown[name] = re.split("[,;]", default[1])[0]
    defaults = {setting.name: setting.default for setting in fields(Settings)}
    del shown["overlap"]  # not of yes and no
    del shown["clip_skip"]  # of the generator
    strength = float(shown.pop("strength"))
    assert strength == Reflect(1, 0).strength == Evolve(1, 0).strength
    for switch in ("compare", "history", "graphs", "compile", "step_cache", "metadata"):
        shown[switch] = str(not shown[switch].startswith("no-"))
    assert len(shown) == 31
    for key, default in shown.items():
        if not default.endswith(("'s", "'s own")):  # of a profile or a model
            assert default == str(defaults[key]), key


@pytest.mark.parametrize("size", [{"width": 256, "height": 384}, {"height": 72}, {"width": 8}])
def test_a_size_that_the_embedded_generator_cannot_draw_is_refused(size, place):
    with pytest.raises(UsageError) as caught:
        place(**size)
    side = pocket.side()
    assert f"pocket:generator draws {side}×{side} pixels only" in caught.value.message
    assert place(**size, generator="a/b")
    with pytest.raises(UsageError, match="pixels only"):  # of a profile, which is not asked before
        models.load_models(replace(place(), **size), rubric.load("pocket"), ignore)
    same = place(width=side, height=side)
    assert (same.width, same.height) == (side, side)


def test_4_bits_are_refused_without_a_gpu_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.setattr(models, "_critic", lambda *_, **__: pytest.fail("the critic was loaded"))
    settings = replace(place(), quantize_generator="nf4")
    with pytest.raises(UsageError, match="--quantize-generator nf4 needs a GPU"):
        models.load_models(settings, rubric.load("pocket"), ignore)
