"""Benchmarks end to end: arms laid out, and results in the forms that their scorers write."""

import csv
import io
import json
from pathlib import Path

import pytest
from fakes import FakeGenerator

import gcr
from gcr.comparison import evaluators
from gcr.errors import UsageError
from gcr.results import benchmarks

GENEVAL = (
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"},
    {"tag": "counting", "include": [{"class": "cow", "count": 3}], "prompt": "cows"},
    {"tag": "colors", "include": [{"class": "car", "count": 1}], "prompt": 'a "red" car'},
)
CHECKPOINTS = json.dumps({"Testpoints": ["Style", "Grammar - Negation"]})
DPG_HEAD = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple"
ARMS = ("raw", "refine")


class Even:
    """An evaluator that says the same of all."""

    def score(self, samples):
        return ((sample.id, 0.5) for sample in samples)


@pytest.fixture
def cli(cli, tmp_path, monkeypatch):
    """The tool, in a folder with a prompt file of each benchmark; its critic refuses none."""
    monkeypatch.setenv("GCR_CRITIC", "owner/critic")
    monkeypatch.setenv("GCR_GENERATOR", "owner/generator")
    monkeypatch.setattr(evaluators, "load", lambda *_: Even())
    (tmp_path / "geneval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GENEVAL))
    (tmp_path / "geneval2.jsonl").write_text(
        "".join(json.dumps({"prompt": p, "vqa_list": []}) + "\n" for p in ("pig", "cow", "owl"))
    )
    with (tmp_path / "unigenbench.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "prompt_en", "sub_dims_en"])
        rows.writerows([[0, "a cat", CHECKPOINTS], [7, "a dog", CHECKPOINTS]])
    (tmp_path / "t2i-compbench.txt").write_text("a red cat\na blue dog\na key\n")
    (tmp_path / "dpg").mkdir()
    for name, text in (("0", "a long cat"), ("COCOval2014000000010363", "a long dog")):
        (tmp_path / "dpg" / f"{name}.txt").write_text(text)
    return cli


def draw(cli, name, *options):
    files = {"geneval": "geneval.jsonl", "geneval2": "geneval2.jsonl", "dpg": "dpg"}
    files |= {"unigenbench": "unigenbench.csv", "t2i-compbench": "t2i-compbench.txt"}
    arms = [word for arm in ARMS for word in ("--arm", arm)]
    return cli(
        *("compare", files[name], "--benchmark", name, "--into", "c", "--max-images", "4"),
        *(*arms, *options),
    )


def told():
    return json.loads(Path("c/compare.json").read_text())


def scores(arm):
    return {p["id"]: p["arms"][arm]["score"] for p in told()["prompts"]}


# What each scorer writes


def as_geneval(folder, correct):
    """As pandas writes lines of JSON, with its slashes escaped."""
    lines = []
    for number, (row, right) in enumerate(zip(GENEVAL, correct, strict=True)):
        said = {
            "filename": f"{folder}/{number:05}/samples/0000.png",
            "tag": row["tag"],
            "prompt": row["prompt"],
            "correct": right,
            "reason": "" if right else "expected cow>=3, found 1",
            "metadata": json.dumps(row),
            "details": json.dumps({"cow": [[1.5, 2.0, 30.25, 40.0, 0.98]]}),
        }
        lines.append(json.dumps(said, separators=(",", ":")).replace("/", "\\/") + "\n")
    return "".join(lines)


def as_unigenbench(folder, results):
    """As pandas writes a table: a result for each of four images, or none."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", "prompt", "testpoint", "output", "result_json", "img_path"])
    points = ["Style", "Grammar - Negation"]
    for (index, prompt), score in zip(((0, "a cat"), (7, "a dog")), results, strict=True):
        result = {"prompt": prompt, "testpoint": points, "analysis": ["a", "b"], "score": score}
        output = f'<description>\n<score>{score}</score>\n"quoted", of course</description>'
        said = json.dumps(result if score else None, ensure_ascii=False, indent=4)
        rows.writerow([index, prompt, points, output, said, f"{folder}/{index}_0.png"])
    return text.getvalue()


def as_dpg(folder, first, second):
    return (
        f"{folder}/COCOval2014000000010363.png, {second}, {second}\n"
        f"{folder}/0.png, {first}, {first}\n"
        "Model: raw\nL1 category scores:\n\tentity: 92.5\nL2 category scores:\n"
        f"\tentity - whole: 92.5\nImage path: {folder}\nSave results to: x.txt\n"
        "DPG-Bench score: 75.0\n"
    )


# From prompt file to page


def test_geneval_from_its_prompt_file_to_its_page(cli):
    ran = draw(cli, "geneval")
    assert (ran.code, ran.out) == (0, "c/compare.json\n")
    assert told()["evaluator"] == {"name": "scores", "model": "geneval"}
    assert scores("raw") == dict.fromkeys("123")
    assert "no score by geneval for 3 of 3 prompts" in ran.err
    assert "geneval: 3 of 3 prompts for each arm in c/geneval" in ran.err
    assert "gcr compare c --scores raw=FILE --scores refine=FILE" in ran.err
    for arm in ARMS:
        row = json.loads(Path(f"c/geneval/{arm}/00001/metadata.jsonl").read_text())
        assert row == GENEVAL[1]
        image = Path(f"c/geneval/{arm}/00002/samples/0000.png")
        assert image.samefile(f"c/{arm}/runs/3/best.png")

    Path("raw.jsonl").write_text(as_geneval("/elsewhere/geneval/raw", [True, False, False]))
    Path("other.jsonl").write_text(as_geneval("c/geneval/refine", [True, True, True]))
    ran = cli("compare", "c", "--scores", "raw.jsonl", "--scores", "other.jsonl")
    assert (ran.code, ran.out) == (0, "c/compare.json\n")
    assert "no score by" not in ran.err
    assert scores("raw") == {"1": 1, "2": 0, "3": 0}
    assert scores("refine") == {"1": 1, "2": 1, "3": 1}
    assert told()["pairs"][0]["wins"] == 2
    assert {pair["category"] for pair in told()["pairs"]} == {
        None, "single_object", "counting", "colors"
    }  # fmt: skip
    page = Path("c/index.html").read_text()
    assert "measured by geneval&#39;s own scorer" in page

    again = cli("resume", "c", "--json")  # which remembers them
    assert json.loads(again.out)["arms"][1]["mean"] == 1
    Path("raw.jsonl").write_text(as_geneval("raw", [True, True, False]))
    cli("compare", "c", "--scores", "raw.jsonl")
    assert scores("raw") == {"1": 1, "2": 1, "3": 0}


def test_the_official_scorer_stands_beside_an_evaluator_that_decides(cli):
    draw(cli, "geneval", "--evaluator", "ocr")
    found = told()
    assert found["evaluator"]["name"] == "ocr"
    assert [other["label"] for other in found["others"]] == ["geneval"]
    Path("raw.jsonl").write_text(as_geneval("raw", [True, False, False]))
    Path("refine.jsonl").write_text(as_geneval("refine", [False, True, True]))
    ran = cli("compare", "c", "--scores", "raw.jsonl", "--scores", "refine.jsonl")
    assert ran.code == 0
    assert told()["others"][0]["scores"]["2"] == {"raw": 0, "refine": 1}
    assert told()["agreement"][0]["half"] == 3


def test_python_does_as_the_command_line_does(cli):
    arms = {"arms": ARMS, "max_images": 4}
    gcr.compare(Path("geneval.jsonl"), benchmark="geneval", into="c", **arms)
    Path("r.jsonl").write_text(as_geneval("raw", [True, False, True]))
    found = gcr.compare(Path("c"), scores=["raw=r.jsonl"])
    assert [arm.mean for arm in found.arms] == [pytest.approx(2 / 3), None]
    with pytest.raises(UsageError, match="--into: nothing is drawn here"):
        gcr.compare(Path("c"), scores=["raw=r.jsonl"], into="d")
    with pytest.raises(UsageError, match="--benchmark: nothing is drawn here"):
        gcr.compare(Path("c"), benchmark="geneval")
    with pytest.raises(UsageError, match="--scores is for one comparison"):
        gcr.compare("c", scores=["raw=r.jsonl"])


def test_geneval2_by_its_order(cli):
    draw(cli, "geneval2")
    paths = json.loads(Path("c/geneval2/refine/image_paths.json").read_text())
    assert list(paths) == ["pig", "cow", "owl"]
    Path("r.json").write_text(json.dumps([[0.5, 0.5], [1.0, 0.25, 1.0, 1.0], [0.9, 0]]))
    assert cli("compare", "c", "--scores", "refine=r.json").code == 0
    assert scores("refine") == pytest.approx({"1": 0.5, "2": 0.25**0.25, "3": 0.0})
    assert scores("raw") == dict.fromkeys("123")


def test_unigenbench_by_checkpoints_without_what_its_judge_did_not_say(cli):
    draw(cli, "unigenbench")
    Path("raw_en.csv").write_text(as_unigenbench("/data/raw", [[1, 0], None]))
    Path("refine_en.csv").write_text(as_unigenbench("/data/refine", [[1, 1], [0, 1]]))
    ran = cli("compare", "c", "--scores", "raw_en.csv", "--scores", "refine_en.csv")
    assert ran.code == 0
    assert scores("raw") == {"0": 0.5, "7": None}
    assert scores("refine") == {"0": 1.0, "7": 0.5}
    assert "no score by unigenbench for 1 of 2 prompts" in ran.err


def test_t2i_compbench_by_the_number_of_the_image(cli):
    draw(cli, "t2i-compbench")
    for arm, answers in (("raw", ["0.2500", "1.0000", "0.5000"]), ("refine", [1, 0.75, 0])):
        folder = Path(f"c/t2i-compbench/{arm}/annotation_blip")
        folder.mkdir()
        said = [{"question_id": i, "answer": answer} for i, answer in enumerate(answers)]
        (folder / "vqa_result.json").write_text(json.dumps(said))
    files = [f"c/t2i-compbench/{arm}/annotation_blip/vqa_result.json" for arm in ARMS]
    assert cli("compare", "c", "--scores", files[0], "--scores", files[1]).code == 0
    assert scores("raw") == {"1": 0.25, "2": 1.0, "3": 0.5}
    assert scores("refine") == {"1": 1, "2": 0.75, "3": 0}


def test_dpg_by_the_name_of_the_image(cli):
    draw(cli, "dpg")
    names = sorted(path.name for path in Path("c/dpg/raw").iterdir())
    assert names == ["0.png", "COCOval2014000000010363.png"]
    Path("raw_results.txt").write_text(as_dpg("c/dpg/raw", 0.5, "1.0"))
    assert cli("compare", "c", "--scores", "raw_results.txt").code == 0
    assert scores("raw") == {"0": 0.5, "COCOval2014000000010363": 1.0}


def test_the_table_of_dpg_has_its_ids_too(cli):
    rows = ["x1,a cat,cat,1,0,entity,whole,t", "x1,a cat,cat,2,1,entity,whole,u"]
    Path("dpg.csv").write_text("\n".join([DPG_HEAD, *rows, ""]))
    ran = cli("batch", "dpg.csv", "--into", "b", "--rounds", "1", "--layout", "dpg")
    assert ran.code == 0
    assert Path("b/dpg/refined/x1.png").is_file()


def test_prompts_that_failed_in_an_arm_are_in_none(cli):
    cli.models["generator"] = FakeGenerator(refused=["red cat"])
    ran = draw(cli, "t2i-compbench")
    assert ran.code == 3
    assert "t2i-compbench: 2 of 3 prompts for each arm" in ran.err
    names = sorted(path.name for path in Path("c/t2i-compbench/raw/samples").iterdir())
    assert names == ["a blue dog_000000.png", "a key_000001.png"]  # which one scorer counts
    Path("raw.json").write_text(json.dumps([{"question_id": 0, "answer": "0.5000"}]))
    cli("compare", "c", "--scores", "raw.json")
    assert scores("raw") == {"1": None, "2": 0.5, "3": None}
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", "c").code == 0
    names = sorted(path.name for path in Path("c/t2i-compbench/raw/samples").iterdir())
    assert names == ["a blue dog_000001.png", "a key_000002.png", "a red cat_000000.png"]


def test_an_arm_that_is_added_is_laid_out_too(cli):
    draw(cli, "geneval")
    assert draw(cli, "geneval", "--arm", "best-of-n").code == 0
    assert Path("c/geneval/best-of-n/00000/samples/0000.png").is_file()
    assert list(json.loads(Path("c/geneval/layout.json").read_text())["images"]) == list("123")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", "is not what the scorer of geneval writes: KeyError('correct')"),
        ("[\n", "is not what the scorer of geneval writes"),
        (as_geneval("raw", [True, False, "yes"]), "correct is neither true nor false"),
        (as_geneval("raw", [True] * 3).replace("0000.png", "0001.png"), "is not in geneval of"),
        (as_geneval("raw", [True] * 3).replace('"cows"', '"pigs"'), "is not in geneval of"),
        (as_geneval("raw", [True] * 3) * 2, "scores prompt 1 of raw twice"),
        (as_geneval("x", [True] * 3), "which arm is f.jsonl of?"),
    ],
)
def test_files_that_are_not_of_this_comparison_change_nothing(cli, text, message):
    draw(cli, "geneval")
    before = Path("c/compare.json").read_text()
    Path("f.jsonl").write_text(text)
    ran = cli("compare", "c", "--scores", "f.jsonl")
    assert ran.code == 2
    assert message in ran.err
    assert Path("c/compare.json").read_text() == before
    assert not Path("c/scores.jsonl").exists()


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("geneval2", "[[0.5]]", "scores 1 images of 3 prompts"),
        ("geneval2", "{}", "it is no list"),
        ("geneval2", "[[0.5], [0.5], [-1]]", "is not what the scorer of geneval2 writes"),
        (
            "geneval2",
            f"[[0.5], [0.5], [1{'0' * 400}]]",
            "is not what the scorer of geneval2 writes",
        ),
        ("unigenbench", "index,prompt\n0,a cat\n", "KeyError('img_path')"),
        ("t2i-compbench", '[{"question_id": 9, "answer": "1"}]', "scores 9, which is not in"),
        ("t2i-compbench", '[{"question_id": 0, "answer": "NaN"}]', "a score of nan"),
        ("dpg", "raw/0.png, good\n", "has no path and no score"),
    ],
)
def test_files_of_other_scorers(cli, form, text, message):
    draw(cli, form)
    Path("f").write_text(text)
    ran = cli("compare", "c", "--scores", "raw=f")
    assert ran.code != 0
    assert message in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "geneval.jsonl", "--benchmark", "genevall"), "no layout 'genevall'"),
        (("compare", "t2i-compbench.txt", "--benchmark", "geneval"), "geneval needs the columns"),
        (("compare", "t2i-compbench.txt", "--benchmark", "dpg"), "the benchmark's own ids"),
        (("compare", "nowhere", "--scores", "f"), "no comparison in nowhere"),
        (("compare", "c", "d", "--scores", "f"), "--scores is for one comparison"),
        (("compare", "c", "--scores", "f", "--steps", "3"), "--steps: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--arm", "raw"), "--arm: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--equal", "seconds"), "--equal: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--column", "text"), "--column: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--skip-bad"), "--skip-bad: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--wave", "2"), "--wave: nothing is drawn here"),
        (("compare", "c", "--scores", "f", "--force"), "--force: nothing is drawn here"),
        (("compare", "geneval.jsonl", "--evaluator", "scores:geneval"), "no evaluator named"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_drawn(cli, arguments, message):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err


def test_a_comparison_without_a_benchmark_has_no_scores_to_take(cli):
    Path("f").touch()
    Path("p.txt").write_text("a 'sign'\n")
    cli("compare", "p.txt", "--into", "c", "--max-images", "2", "--evaluator", "ocr")
    ran = cli("compare", "c", "--scores", "f")
    assert (ran.code, ran.out) == (2, "")
    assert "c is laid out for no benchmark's scorer" in ran.err


def test_what_is_said_of_a_layout_names_every_arm():
    missing = {"7": "not done in raw"}
    laid = benchmarks.Written("dpg", Path("c/dpg"), ARMS, 3, 1, missing, Path("c"))
    assert laid.summary() == [
        "dpg: 3 of 4 prompts for each arm in c/dpg",
        "left out: 7 (not done in raw)",
        (
            "run its scorer on each of raw, refine there, and then: "
            "gcr compare c --scores raw=FILE --scores refine=FILE"
        ),
    ]


def test_scores_of_one_arm_are_not_taken_for_another(cli):
    draw(cli, "geneval")
    Path("x.jsonl").write_text(as_geneval("c/geneval/raw", [True, True, True]))
    ran = cli("compare", "c", "--scores", "refine=x.jsonl")
    assert (ran.code, ran.out) == (2, "")
    assert "x.jsonl scores images of raw, not of refine" in ran.err
    assert "--scores raw=x.jsonl" in ran.err


def test_a_picture_that_two_arms_share_and_that_is_scored_twice_is_told(cli):
    draw(cli, "geneval")
    for arm in ARMS:  # one picture in both, as where nothing beats the request as it is
        for number in "123":
            Path(f"c/{arm}/runs/{number}/best.png").write_bytes(
                Path("c/raw/runs/1/best.png").read_bytes()
            )
    Path("raw.jsonl").write_text(as_geneval("c/geneval/raw", [True, True, True]))
    Path("refine.jsonl").write_text(as_geneval("c/geneval/refine", [True, False, True]))
    ran = cli("compare", "c", "--scores", "raw.jsonl", "--scores", "refine.jsonl")
    assert ran.code == 0
    assert "geneval scored the very same picture of several arms differently: 2" in ran.err
    for arm in ARMS:  # neither file is righter than the other
        assert scores(arm) == {"1": 1, "2": 0.5, "3": 1}
