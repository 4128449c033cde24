"""Models of the hub before a run: told with their sizes, agreed to, and not fetched in vain."""

import io
import logging
import os
import re
import sys

import huggingface_hub
import pytest
import tiny
import torch
from hub import served

import gcr
from gcr import pocket
from gcr.__main__ import main
from gcr.core.records import Candidate
from gcr.device import memory
from gcr.device.memory import SharedDevice
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.engine import plan as plans
from gcr.engine.crew import Worker, environment
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, ModelError, UsageError
from gcr.hub import checkpoints, consent, fetching, weightfiles
from gcr.settings.resolving import resolve

BOTH = {"us/pipeline": True, "us/critic": False}
PROFILE = """
description: for these tests
generator: us/pipeline
critic: us/critic
rubric: pocket
width: 64
height: 64
vram_gb: {}
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    torch.manual_seed(0)
    return tiny.pixart(tmp_path_factory.mktemp("pipeline") / "p")


@pytest.fixture
def hub(pipeline, tmp_path, monkeypatch):
    """A hub, an empty cache, nothing agreed to, and a profile of models that are there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "gcr"))
    monkeypatch.chdir(tmp_path)
    give_profile(tmp_path, 0)
    monkeypatch.delenv(consent.YES, raising=False)
    consent.set_up(agreed=False, quiet=True)  # whatever commands were run before
    repos = {"us/pipeline": pipeline, "us/critic": pocket.CRITIC}
    with served(repos, tmp_path / "hub", monkeypatch) as hub:
        yield hub
    consent.set_up(agreed=False, quiet=True)
    logging.captureWarnings(capture=False)


def give_profile(tmp_path, vram_gb):
    folder = tmp_path / "config" / "gcr" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(PROFILE.format(vram_gb))


def fetched(hub):
    return [path for path in hub.sent if path.endswith(".safetensors")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_fetched_that_nobody_agreed_to(hub, capsys):
    with pytest.raises(UsageError, match="us/pipeline and us/critic would have to be") as refused:
        fetching.provide(BOTH, "mine")
    assert refused.value.hint == "gcr pull mine fetches ahead; --yes, or GCR_YES=1, fetches now"
    assert fetched(hub) == []
    assert capsys.readouterr() == ("", "")  # Python code is told by the error alone
    with pytest.raises(UsageError) as refused:
        fetching.provide({"pocket:generator": True, "us/critic": False}, "pocket")
    assert refused.value.hint.startswith("gcr pull us/critic fetches ahead")


def test_what_was_agreed_to_is_fetched_once_and_used_without_a_hub(hub, monkeypatch):
    monkeypatch.setenv(consent.YES, "1")
    fetching.provide(BOTH, "mine")
    assert {path.split("/")[1] for path in fetched(hub)} == {"pipeline", "critic"}
    monkeypatch.delenv(consent.YES)
    hub.answer = None  # any request from here on is an error
    fetching.provide(BOTH, "mine")
    for model, is_pipeline in BOTH.items():
        folder = checkpoints.fetch(model, is_pipeline=is_pipeline)
        assert checkpoints.cached(model, is_pipeline=is_pipeline) == folder
    assert checkpoints.version("us/critic") == f"us/critic {'a' * 40}"


def test_what_is_half_here_has_to_be_fetched(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(consent.YES, "1")
    fetching.provide(BOTH)
    monkeypatch.delenv(consent.YES)
    for gone in ("model.safetensors", "diffusion_pytorch_model.safetensors"):
        for path in (tmp_path / "hub").glob(f"*/snapshots/**/{gone}"):
            path.unlink()
    with pytest.raises(UsageError, match="us/pipeline and us/critic"):
        fetching.provide(BOTH)


@pytest.mark.parametrize("answer", ["y\n", "Yes\n", "n\n", "\n", ""])
def test_whoever_is_at_the_terminal_is_asked_with_the_sizes(hub, monkeypatch, answer):
    consent.set_up(agreed=False, quiet=False)
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", shown)
    if answer.lower().startswith("y"):
        fetching.provide(BOTH, "mine")
        assert fetched(hub)
    else:
        with pytest.raises(UsageError, match="nothing was done") as refused:
            fetching.provide(BOTH, "mine")
        assert "gcr pull mine" in refused.value.hint
        assert fetched(hub) == []
    printed = [line.partition(":")[0] for line in shown.getvalue().splitlines()]
    assert printed[:2] == ["us/pipeline", "us/critic"]
    assert re.search(
        r"us/critic: \d+ files, 6\.\d MB\nfetch 6\.\d MB into .*\? \[y/N\] ", shown.getvalue()
    )


@pytest.mark.parametrize("silent", ["stdin", "stderr", "quiet"])
def test_nobody_is_asked_where_nobody_would_see_or_answer(hub, monkeypatch, silent):
    consent.set_up(agreed=False, quiet=silent == "quiet")
    streams = {"stdin": Terminal("y\n"), "stderr": Terminal()}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, io.StringIO("y\n") if name == silent else stream)
    with pytest.raises(UsageError, match="would have to be fetched first"):
        fetching.provide(BOTH, "mine")
    assert streams["stdin"].tell() == 0


def test_a_profile_for_a_larger_gpu_is_refused_before_the_hub_is_asked(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(consent.YES, "1")
    give_profile(tmp_path, 22)
    hub.answer = None
    monkeypatch.setattr(memory, "gpu_gib", lambda: (0.0, 0.0))
    with pytest.raises(
        UsageError, match="mine needs a GPU with 22 GiB, and there is none here"
    ) as no:
        fetching.provide(BOTH, "mine")
    assert "gcr pull mine" in no.value.hint
    monkeypatch.setattr(memory, "gpu_gib", lambda: (12.0, 12.0))
    with pytest.raises(UsageError, match=r"and the one here has 12\.0"):
        fetching.provide(BOTH, "mine")


def test_disk_and_memory_are_looked_at_before_anybody_is_asked(hub, monkeypatch):
    monkeypatch.setenv(consent.YES, "1")
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1000)
    with pytest.raises(GcrError, match=r"are to be fetched, and .* has 1\.0 kB free"):
        fetching.provide(BOTH)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"and this machine .* of memory"):
        fetching.check_memory([fetching.Shipment("us/large", True, 1, 1 << 50, 1 << 50)])


def test_a_pipeline_in_4_bits_needs_a_third_of_the_memory(monkeypatch):
    pages = {"SC_PHYS_PAGES": 6 * 10**6, "SC_PAGE_SIZE": 1000}  # 6 GB
    monkeypatch.setattr("os.sysconf", pages.get)
    large = fetching.Shipment("us/large", True, 1, 16 * 10**9, 0)
    fetching.check_memory([large], "nf4")
    with pytest.raises(UsageError, match=r"us/large has 16\.0 GB, and this machine 6\.0 GB"):
        fetching.check_memory([large])
    larger = fetching.Shipment("us/large", True, 1, 20 * 10**9, 0)
    with pytest.raises(UsageError, match=r"us/large in nf4 takes about 7\.0 GB, and"):
        fetching.check_memory([larger], "nf4")


def test_a_profile_in_another_precision_says_nothing_of_the_gpu(hub, monkeypatch, tmp_path):
    monkeypatch.setenv(consent.YES, "1")
    give_profile(tmp_path, 1000)
    with pytest.raises(UsageError, match="profile mine needs a GPU with 1000 GiB"):
        fetching.provide(BOTH, "mine")
    fetching.provide(BOTH, "mine", quantize="nf4")
    assert fetched(hub)


def test_a_modular_pipeline_is_refused_before_it_is_fetched(tmp_path, monkeypatch):
    folder = tmp_path / "modular"
    folder.mkdir()
    (folder / "modular_model_index.json").write_text('{"_class_name": "Flux3ModularPipeline"}')
    refused = pytest.raises(ModelError, match="us/flux is a modular pipeline")
    with served({"us/flux": folder}, tmp_path / "hub", monkeypatch), refused:
        fetching.shipment_of("us/flux")


def test_a_model_of_the_other_kind_is_not_fetched_in_vain(hub, monkeypatch):
    monkeypatch.setenv(consent.YES, "1")
    with pytest.raises(ModelError, match="us/critic is not a diffusers pipeline"):
        fetching.provide({"us/critic": True})
    with pytest.raises(ModelError, match="us/pipeline is a pipeline that draws"):
        fetching.provide({"us/pipeline": False})
    assert fetched(hub) == []


def test_offline_is_one_line_that_names_what_to_pull(hub, monkeypatch):
    monkeypatch.setenv(consent.OFFLINE, "1")
    hub.answer = None
    with pytest.raises(ModelError, match="is not in the cache, or not all of it") as caught:
        fetching.provide(BOTH, "mine")
    assert caught.value.hint == "fetch it while there is a connection: gcr pull mine"


def test_a_hub_out_of_reach_is_one_line_that_names_what_to_pull(hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["gcr", "refine", "a", "--profile", "mine"])
    code = main()
    printed = capsys.readouterr()
    assert (code, printed.out) == (1, "")
    loading, first, second = printed.err.splitlines()
    assert loading == "loading torch, transformers and diffusers"
    assert first.startswith("error: the hub cannot be reached for us/pipeline")
    assert second.endswith("then: gcr pull mine")


@pytest.mark.parametrize(
    "arguments",
    [
        ("refine", "a red circle"),
        ("refine", "a red circle", "-q"),
        ("batch", "prompts.txt"),
        ("compare", "prompts.txt", "--evaluator", "command:true"),
        ("bench",),
        ("calibrate", "a red circle"),
    ],
)
def test_every_command_that_loads_models_refuses(hub, monkeypatch, capsys, tmp_path, arguments):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    monkeypatch.setattr(sys, "argv", ["gcr", *arguments, "--profile", "mine"])
    code = main()
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert "hint:  gcr pull mine fetches ahead" in printed.err
    assert fetched(hub) == []


def test_a_model_that_only_measures_is_asked_for_before_anything_is_drawn(
    hub, monkeypatch, capsys, tmp_path
):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    evaluator = ["--evaluator", "vqascore:us/critic"]
    monkeypatch.setattr(sys, "argv", ["gcr", "compare", "prompts.txt", *evaluator])
    code = main()
    assert code == 2
    assert "gcr pull us/critic" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_python_code_is_refused_and_never_asked(hub, monkeypatch):
    answers = Terminal("y\n" * 9)
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(sys, "stderr", Terminal())
    for act in (
        lambda: gcr.refine("a red circle", profile="mine"),
        lambda: gcr.batch(["a red circle"], profile="mine"),
        lambda: gcr.Reward(profile="mine"),
    ):
        with pytest.raises(UsageError, match="would have to be fetched first"):
            act()
    assert answers.tell() == 0
    assert fetched(hub) == []


def test_a_worker_fetches_only_what_was_agreed_to_where_it_was_hired(hub, tmp_path, monkeypatch):
    plan = plans.make(["a red circle"], resolve({"profile": "mine"}, ThisMachine()).settings)
    with pytest.raises(UsageError, match="would have to be fetched first"):
        Worker().load(plan, tmp_path, {})
    monkeypatch.setenv(consent.YES, "1")
    assert environment()[consent.YES] == "1"


def test_yes_agrees_for_this_process_and_those_it_starts(hub, monkeypatch, capsys):
    monkeypatch.setenv(consent.YES, "")
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1000)  # the next thing to fail
    monkeypatch.setattr(sys, "argv", ["gcr", "refine", "a", "--profile", "mine", "-y"])
    assert main() == 1
    assert "1.0 kB free" in capsys.readouterr().err
    assert os.environ[consent.YES] == "1"


# Models of one file


def test_beside_a_checkpoint_in_one_file_only_what_it_lacks_is_fetched(
    hub, tmp_path, monkeypatch, capsys
):
    torch.manual_seed(0)
    for family, weights in (
        ("stable_diffusion", set()),
        ("z_image", {"vae/diffusion_pytorch_model", "text_encoder/model"}),
    ):
        repo = f"us/{family}"
        hub.repos[repo] = getattr(tiny, family)(tmp_path / family)
        path = str(tiny.single_file(tmp_path / family, tmp_path / f"{family}.safetensors"))
        hub.sent.clear()
        single = weightfiles.single_file(path, repo)
        with pytest.raises(UsageError, match=f"{repo} would have to be fetched first") as error:
            fetching.provide({}, around=single)
        assert f"gcr pull {path}" in error.value.hint
        monkeypatch.setenv(consent.YES, "1")
        fetching.provide({}, around=single)
        assert set(fetched(hub)) == {f"{repo}/{name}.safetensors" for name in weights}
        hub.sent.clear()
        monkeypatch.setenv(consent.OFFLINE, "1")
        fetching.provide({}, around=single)
        call = {"max_sequence_length": 64} if weights else {}
        sampling = Sampling(width=32, height=32, steps=1, call=call)
        files = generator.Files(single)
        drawer = generator.load(path, sampling, SharedDevice("cpu"), files=files)
        assert drawer.draw([Candidate("x", 1)])
        assert hub.sent == []
        for variable in (consent.OFFLINE, consent.HUB_OFFLINE, consent.YES):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def test_a_lora_of_the_hub_is_fetched_once_the_user_agrees(hub, tmp_path, monkeypatch):
    for name in ("fur", "ink"):
        folder = tmp_path / name
        folder.mkdir()
        tiny.lora(tiny.stable_diffusion(tmp_path / f"{name} base"), folder / f"{name}.safetensors")
        hub.repos[f"us/{name}"] = folder
    assert fetching.lora("us/fur:0.5", fetch=False) is None
    assert fetching.lora("fur:0.5", str(tmp_path / "fur"), fetch=False).scale == 0.5
    with pytest.raises(UsageError, match="the LoRA us/fur would have to be fetched first"):
        fetching.lora("us/fur", fetch=True)
    monkeypatch.setenv(consent.YES, "1")
    made = fetching.lora("us/fur:0.5", fetch=True)
    assert (made.name, made.scale) == ("fur", 0.5)
    hub.sent.clear()
    assert fetching.lora("us/fur", fetch=True).path == made.path
    assert hub.sent == []
    (tmp_path / "ink" / "other.safetensors").write_bytes(made.path.read_bytes())
    with pytest.raises(UsageError, match="us/ink has 2 files that may be a LoRA") as error:
        fetching.lora("us/ink", fetch=True)
    assert error.value.hint == "name one of us/ink/ink.safetensors, us/ink/other.safetensors"
    assert fetching.lora("us/ink/other.safetensors", fetch=True).name == "other"
    with pytest.raises(ModelError, match="the hub has no model us/nothing"):
        fetching.lora("us/nothing", fetch=True)
