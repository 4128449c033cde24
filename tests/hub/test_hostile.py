"""Checkpoints that attack: none runs code, asks anything, or is called a defect of gcr."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import hostile
import pytest

from gcr.errors import ModelError
from gcr.hub import processors, vetting

CODE = "needs code of its own, and gcr runs none"
SAFE = "only safetensors are read"
QUICK = (
    "critic: auto_map in config.json, known type, theirs.Theirs",
    "critic: auto_map in processor_config.json, known type, theirs.Theirs",
    "critic: index that names outside",
    "critic: config.json text_config num_attention_heads=0",
    "critic: chat_template.jinja a_fifo",
    "critic: template, loops",
    "pipeline: a part from a file of the part",
    "pipeline: scheduler/scheduler_config.json mistyped",
    "pipeline: vae/config.json  norm_num_groups=3",
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return hostile.bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def spoilt(bases, tmp_path, monkeypatch):
    """Makes one case; returns its folder and whether diffusers would load it."""
    (tmp_path / "outside").mkdir()
    monkeypatch.setenv("HOSTILE_CANARY", str(tmp_path / hostile.CANARY))
    monkeypatch.setenv("HOSTILE_OUTSIDE", str(tmp_path / "outside"))

    def make(name):
        model, spoil = hostile.CASES[name]
        folder = tmp_path / "spoilt"
        shutil.copytree(bases[model], folder)
        spoil(folder)
        return folder, model == "pipeline"

    return make


def test_there_are_enough():
    assert len(hostile.CASES) > 400


def test_what_is_as_it_should_be_is_not_refused(bases):
    vetting.check(bases["critic"], "ours", is_pipeline=False)
    vetting.check(bases["pipeline"], "ours", is_pipeline=True)


@pytest.mark.parametrize("name", hostile.CASES)
def test_a_look_at_it_ends_at_once_in_nothing_or_in_an_error_of_one_line(spoilt, name, tmp_path):
    folder, is_pipeline = spoilt(name)
    begun = time.process_time()
    refusal = refused(folder, is_pipeline)
    if refusal is not None:
        assert "theirs" in refusal.message
        assert refusal.hint
        assert "\n" not in refusal.message + refusal.hint
    assert time.process_time() - begun < 10
    assert not (tmp_path / hostile.CANARY).exists()


def refused(folder, is_pipeline):
    """Why a checkpoint is refused; None if it is not. Any other error comes through."""
    try:
        vetting.check(folder, "theirs", is_pipeline=is_pipeline)
    except ModelError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("auto_map in", CODE),
        ("kernel", CODE),
        ("class_in_a_file", CODE),
        ("custom_pipeline", CODE),
        ("a part from a file", CODE),
        ("a part from a module", CODE),
        ("pipeline_index_as_a_blind", CODE),
        ("pickled_weights", SAFE),
        ("pickled_part", SAFE),
        ("other_formats", SAFE),
        ("explicit", SAFE),
        ("speakers", SAFE),
        *((f"index that names {name}", SAFE) for name in ("bin", "outside", "absolute", "nested")),
        *((f"index that names {name}", SAFE) for name in ("control", "backslash", "url", "device")),
        ("a_link_outside", "leads out of its folder"),
        ("part_that_links_outside", "leads out of its folder"),
        ("adapter", "is an adapter"),
        ("fifo_beside", "is no file"),
        ("a pickle under its name", "are damaged"),
    ],
)
def test_what_is_refused_before_any_library_reads_it(spoilt, tmp_path, part, expected):
    names = [name for name in hostile.CASES if part in name]
    assert names
    for name in names:
        folder, is_pipeline = spoilt(name)
        refusal = refused(folder, is_pipeline)
        assert refusal is not None, name
        assert expected in f"{refusal.message} ({refusal.hint})", name
        shutil.rmtree(folder)
        for place in (tmp_path / "outside").iterdir():
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def test_files_of_the_hubs_own_store_are_in_the_folder(bases, tmp_path):
    repository = tmp_path / "models--us--critic"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in bases["critic"].iterdir():
        blob = repository / "blobs" / file.name
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    vetting.check(snapshot, "us/critic", is_pipeline=False)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(bases["critic"] / "config.json")
    with pytest.raises(ModelError, match="leads out of its folder"):
        vetting.check(snapshot, "us/critic", is_pipeline=False)


@pytest.mark.parametrize(
    "config",
    [
        # Qwen3-VL: areas under the names of edges. A tokenizer without a limit. SDXL. SD 3.5.
        {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16},
        {"model_max_length": 1000000000000000019884624838656, "vocab_size": 151936},
        {"block_out_channels": [320, 640, 1280, 2560], "sample_size": 128, "layers_per_block": 2},
        {"num_train_timesteps": 1000, "sample_size": 1024, "rope_theta": 5000000},
        {"max_position_embeddings": 10485760, "num_hidden_layers": 94, "attn_implementation": None},
    ],
)
def test_what_real_configs_say_is_not_refused(config):
    vetting.check_config(config, "config.json", "theirs")


def test_templates_may_pass_arguments_on_and_be_several():
    processors.check_template(
        {"default": "{{ f(**x) }}{{ f(1, **x) }}", "tools": "** {# ** #}"}, "theirs"
    )
    with pytest.raises(ModelError, match="computes powers"):
        processors.check_template("{{ 9 ** 9 ** 9 }}", "theirs")


def ran(folder, *names):
    """What the tool did with each case, in processes of their own; all of them without names."""
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests/support")]),
    }
    done = subprocess.run(
        [sys.executable, hostile.__file__, folder, *names],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(ended):
    name, code, printed = ended["case"], ended["code"], ended["err"]
    assert not ended["canary"], name
    assert code in (0, 1, 2), (name, code, printed)  # neither killed nor out of time
    assert "defect of gcr" not in printed, (name, printed)
    assert "Traceback" not in printed, (name, printed)
    assert "RAW" not in printed, (name, printed)
    if code:
        lines = [line for line in printed.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == 2, (name, printed)
        assert lines[0].startswith("error: "), (name, printed)
        assert lines[1].startswith("hint:  "), (name, printed)
        assert ended["out"] == "", name
    else:
        assert ended["images"], name


def test_the_tool_names_what_is_wrong(tmp_path):
    done = ran(tmp_path, *QUICK)
    assert {ended["case"] for ended in done} >= set(QUICK)
    for ended in done:
        check(ended)


@pytest.mark.slow
def test_the_tool_survives_all_of_them(tmp_path):
    done = ran(tmp_path)
    assert len(done) == len(hostile.CASES)
    for ended in done:
        check(ended)
