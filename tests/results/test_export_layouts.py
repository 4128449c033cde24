"""Layouts for benchmark scorers: read here the way each public scorer reads them."""

import json
import os
import re
from pathlib import Path

import pytest
from fakes import SCORES, FakeCritic, FakeGenerator, seed_of
from PIL import Image

from gcr.engine import models
from gcr.errors import GcrError, UsageError
from gcr.results import benchmarks
from gcr.storage.metadata import read

GENEVAL = (
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 3}], "exclude": [], "prompt": "cows"},
    {"tag": "colors", "include": [{"class": "car", "count": 1}], "prompt": "a red car"},
)
UNIGENBENCH = "index,prompt_en,sub_dims_en\n0,a cat,{}\n7,a dog,{}\n"


@pytest.fixture
def cli(cli, tmp_path, monkeypatch):
    """The tool, in a folder with prompt files; the best image is that of the fourth seed.

    Prompts of benchmarks are outside of the embedded world, so its critic would refuse them.
    """
    monkeypatch.setenv("GCR_CRITIC", "owner/critic")
    (tmp_path / "g.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GENEVAL))
    (tmp_path / "u.csv").write_text(UNIGENBENCH)
    (tmp_path / "t.txt").write_text("a bee on the right of a key\nred/blue, a_b.\n")
    return cli


def drawn(path):
    with Image.open(path) as image:
        return seed_of(image.convert("RGB"))


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def read_as_geneval_does(folder):
    """(row, image) of each image that evaluate_images.py opens."""
    samples = []
    for subfolder in names(folder):
        path = Path(folder, subfolder)
        if not path.is_dir() or not subfolder.isdigit():
            continue
        row = json.loads((path / "metadata.jsonl").read_text())
        images = [name for name in names(path / "samples") if re.match(r"\d+\.png", name)]
        samples += [(row, drawn(path / "samples" / name)) for name in images]
    return samples


def read_as_t2i_compbench_does(folder):
    """{number: prompt} of what its scorers list; they fail on any file of another name."""
    samples = names(Path(folder, "samples"))
    samples.sort(key=lambda name: int(name.split("_")[1].split(".")[0]))
    return {int(name.split("_")[-1].split(".")[0]): name.split("_")[0] for name in samples}


def test_geneval_at_the_end_of_a_batch(cli):
    ran = cli("batch", "g.jsonl", "--into", "b", "--rounds", "2", "--layout", "geneval")
    assert (ran.code, ran.out) == (0, "b/summary.jsonl\n")
    assert "geneval: 3 of 3 prompts\n" in ran.err
    assert read_as_geneval_does("b/geneval/raw") == [(row, 0) for row in GENEVAL]
    assert read_as_geneval_does("b/geneval/refined") == [(row, 3) for row in GENEVAL]
    refined = Path("b/geneval/refined/00001/samples/0000.png")
    assert refined.samefile("b/runs/2/best.png")
    assert "gcr" in read(refined)  # not encoded again


def test_what_failed_is_in_neither_and_comes_when_it_is_done(cli):
    cli.models["generator"] = FakeGenerator(refused=["cows"])
    ran = cli("batch", "g.jsonl", "--into", "b", "--rounds", "1", "--layout", "geneval")
    assert ran.code == 3
    assert "geneval: 2 of 3 prompts\nleft out: 2 (cannot draw cows)\n" in ran.err
    kept = [GENEVAL[0], GENEVAL[2]]
    for side in ("raw", "refined"):
        assert [row for row, _ in read_as_geneval_does(f"b/geneval/{side}")] == kept
    assert json.loads(Path("b/geneval/layout.json").read_text())["left_out"] == {
        "2": "cannot draw cows"
    }
    before = Path("b/geneval/raw/00000/samples/0000.png").stat().st_ino
    cli.models["generator"] = FakeGenerator()
    cli("resume", "b")
    ran = cli("export", "b", "--format", "geneval")
    assert (ran.code, ran.out) == (0, "b/geneval\n")
    assert [row for row, _ in read_as_geneval_does("b/geneval/raw")] == list(GENEVAL)
    assert Path("b/geneval/raw/00000/samples/0000.png").stat().st_ino == before


def test_each_shard_adds_what_is_done(cli):
    for part in ("1/2", "2/2"):
        options = ("--into", "b", "--shard", part, "--rounds", "1", "--layout", "geneval")
        ran = cli("batch", "g.jsonl", *options)
        assert ran.code == 0
        if part == "1/2":
            assert "left out: 2 (not done yet)" in ran.err
    assert [row for row, _ in read_as_geneval_does("b/geneval/refined")] == list(GENEVAL)


def test_a_batch_of_which_all_failed_has_no_layout(cli):
    Path("g.jsonl").write_text(json.dumps(GENEVAL[1]) + "\n")
    cli.models["generator"] = FakeGenerator(refused=["cows"])
    ran = cli("batch", "g.jsonl", "--into", "b", "--layout", "geneval")
    assert ran.code == 3
    assert "1 prompt failed (1: cannot draw cows)" in ran.err
    assert not Path("b/geneval").exists()
    assert "no prompt is done" in cli("export", "b", "--format", "geneval").err


def test_several_batches_are_several_images_of_each_prompt(cli):
    for seed in ("0", "100", "200", "300"):
        cli("batch", "u.csv", "--into", f"b{seed}", "--seed", seed, "--rounds", "1")
    folders = ("b0", "b100", "b200", "b300")
    ran = cli("export", *folders, "--format", "unigenbench", "-o", "u", "--json")
    assert json.loads(ran.out) == {
        "format": "unigenbench",
        "folder": "u",
        "raw": "u/raw",
        "refined": "u/refined",
        "prompts": 2,
        "images": 4,
        "left_out": {},
    }
    for index in (0, 7):  # as the scorer's loop has it
        seeds = [drawn(f"u/raw/{index}_{number}.png") for number in range(4)]
        assert seeds == [0, 100, 200, 300]
        assert Path(f"u/refined/{index}_3.png").samefile(f"b300/runs/{index}/best.png")
    assert len(names("u/raw")) == 8
    alone = cli("export", "b0", "--format", "unigenbench")
    assert "its scorer reads 4 images of each prompt" in alone.err


def test_batches_that_do_not_go_together_are_refused(cli):
    cli("batch", "u.csv", "--into", "a", "--rounds", "1")
    cli("batch", "u.csv", "--into", "same", "--rounds", "1")
    cli("batch", "t.txt", "--into", "other", "--rounds", "1", "--seed", "9")
    for folders, message in (
        (("a", "same"), "draws prompt 0 from seed 0, as another does"),
        (("a", "other"), "has other prompts than a"),
    ):
        ran = cli("export", *folders, "--format", "unigenbench", "-o", "u")
        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err
    assert not Path("u").exists()


def test_geneval2_finds_images_by_their_prompts(cli, tmp_path, monkeypatch):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "2", "--layout", "geneval2")
    monkeypatch.chdir("/")  # the scorer is run from a folder of its own
    for side, seed in (("raw", 0), ("refined", 3)):
        paths = json.loads((tmp_path / "b/geneval2" / side / "image_paths.json").read_text())
        assert {prompt: drawn(path) for prompt, path in paths.items()} == {
            row["prompt"]: seed for row in GENEVAL
        }


def test_t2i_compbench_reads_prompts_from_file_names(cli):
    cli("batch", "t.txt", "--into", "b", "--rounds", "1", "--layout", "t2i-compbench")
    for side in ("raw", "refined"):
        samples = read_as_t2i_compbench_does(f"b/t2i-compbench/{side}")
        assert samples == {0: "a bee on the right of a key", 1: "red blue, a b."}


@pytest.mark.parametrize(
    ("form", "name", "content", "message"),
    [
        ("geneval", "x.txt", "a cat\n", "x.txt, line 1: geneval needs the columns tag and include"),
        ("geneval", "x.csv", 'prompt,tag,include\na,b,"[]"\n', "geneval needs the columns"),
        ("geneval", "x.jsonl", '{"prompt": "a", "tag": "b", "include": [{}]}', "class and count"),
        ("geneval2", "x.txt", "a cat\na cat\n", "x.txt, line 1 has the same"),
        ("unigenbench", "x.txt", "a cat\n", "needs the columns index and sub_dims_en"),
        ("unigenbench", "x.csv", "index,prompt,sub_dims_en\n7,a,x\n07,b,x\n", "x.csv, line 3"),
        ("t2i-compbench", "x.txt", "cat " * 70, "is too long for it"),
        ("geneval2", "x.txt", "a {red|blue} cat\n", "wildcards made"),
        ("genevall", "x.txt", "a cat\n", "no layout 'genevall'"),
    ],
)
def test_what_a_layout_lacks_is_said_before_models_are_loaded(
    cli, monkeypatch, form, name, content, message
):
    Path(name).write_text(content)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("models were loaded"))
    ran = cli("batch", name, "--layout", form)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_folder_of_somebody_else_is_left_alone(cli):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "1")
    Path("mine").mkdir()
    Path("mine/00000").touch()
    for target in ("mine", "g.jsonl"):
        ran = cli("export", "b", "--format", "geneval", "-o", target)
        assert ran.code == 2
        assert f"{target} is there already" in ran.err
    assert names("mine") == ["00000"]


def test_without_hard_links_images_are_copied(cli, monkeypatch):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "1")

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    benchmarks.export([Path("b")], "geneval", Path("copied"))
    image = Path("copied/raw/00000/samples/0000.png")
    assert image.read_bytes() == Path("b/runs/1/00-0.png").read_bytes()
    assert not image.samefile("b/runs/1/00-0.png")
    assert names("copied") == [".turn", "layout.json", "raw", "refined"]


def test_an_interrupted_batch_says_how_to_get_its_layout(cli, monkeypatch):
    class Interrupting(FakeCritic):
        def judge(self, requests, images, sources=()):
            raise KeyboardInterrupt

    cli.models["critic"] = Interrupting(SCORES)
    ran = cli("batch", "g.jsonl", "--into", "b", "--layout", "geneval")
    assert ran.code == 130
    assert "then gcr export b --format geneval" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("b", "--format", "jpeg"), "no format 'jpeg'"),
        (("nowhere", "--format", "geneval"), "no batch in nowhere"),
        (("b", "--format", "geneval", "--all-pairs"), "--all-pairs and --min-gap are not for"),
        (("b", "b", "--format", "geneval"), "as another does"),
        (("b",), "Missing option '--format'"),
    ],
)
def test_wrong_usage_of_export(cli, arguments, message):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "1")
    ran = cli("export", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_missing_image_is_named(cli):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "1")
    Path("b/runs/2/best.png").unlink()
    with pytest.raises(GcrError, match=r"cannot read b/runs/2/best\.png"):
        benchmarks.export([Path("b")], "geneval")


def test_geneval2_takes_one_batch(cli):
    cli("batch", "g.jsonl", "--into", "b", "--rounds", "1")
    cli("batch", "g.jsonl", "--into", "c", "--rounds", "1", "--seed", "5")
    with pytest.raises(UsageError, match="one image of each prompt"):
        benchmarks.export([Path("b"), Path("c")], "geneval2", Path("o"))
