"""`gcr compare` as a user meets it: streams, exit codes, messages."""

import json
import re
from pathlib import Path

import pytest
from fakes import FakeGenerator, Interrupting

from gcr.comparison import evaluators
from gcr.comparison.statistics import FEWEST
from gcr.engine import models
from gcr.errors import GcrError
from gcr.pocket import world

SUSPICION = (
    "on 5 of 5 prompts the critic prefers refine to raw, and the evaluator does not; the other way "
    "round on 0: 1, 2, 3 and 2 more"
)


class ByArm:
    """An evaluator that likes what the critic does not."""

    def score(self, samples):
        return ((one.id, 0.9 if one.id.startswith("raw/") else 0.4) for one in samples)


@pytest.fixture
def cli(cli, tmp_path, monkeypatch):
    """The tool, in a folder with a prompt file, and an evaluator."""
    (tmp_path / "p.csv").write_text("prompt,tag\na red circle,x\ntwo blue stars,x\n")
    monkeypatch.setattr(evaluators, "load", lambda *_: ByArm())
    return cli


def test_stdout_has_the_path_and_stderr_the_verdicts(cli):
    ran = cli("compare", "p.csv", "--max-images", "4", "--arm", "raw", "--arm", "refine")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    folder = Path(ran.out.strip()).parent
    assert Path(ran.out.strip()).name == "compare.json"
    assert "-p-" in folder.name
    assert re.sub(r"0\.\d s", "0.0 s", ran.err).splitlines() == [
        "refine",
        "2 prompts",
        "1/2 1: 0.20 → 0.80 · 4 images, images, 0 s  a red circle",
        "2/2 2: 0.20 → 0.80 · 4 images, images, 0 s  two blue stars",
        "raw",
        "2 prompts",
        "1/2 1: 0.20 · 1 image, rounds, 0 s  a red circle",
        "2/2 2: 0.20 · 1 image, rounds, 0 s  two blue stars",
        "",
        (
            "Too few prompts to say whether refining helps: judged by truth, 2 of 2 pictures "
            "became worse and none became better, -0.50 on average; about 18 more are needed."
        ),
        "",
        "arm     truth  critic  images  seconds  failed",
        "raw     0.900   0.200     1.0      0.0       0",
        "refine  0.400   0.800     4.0      0.0       0",
        "",
        "a prompt  critiques  tokens in  tokens out  drawing  judging  other  GPU peak",
        "raw             1.0        100          10    0.0 s    0.0 s  0.0 s         –",
        "refine          4.0        400          40    0.0 s    0.0 s  0.0 s         –",
        "after 0.0 s for each prompt: raw 0.900, refine 0.400",
        "",
        "too few prompts to tell refine and raw apart: about 18 more",
        "  -0.500 on average · p 0.500 · 0 won, 0 tied, 2 lost",
        "",
        f"saved in {folder}",
        f"{folder}/index.html shows all of it",
    ]


@pytest.mark.parametrize("count", [4, 5])
def test_suspects_are_warned_of_below_the_answer_where_they_are_more_than_chance(
    cli, tmp_path, count
):
    """Four of four fall one way in one of 16 times, five of five in one of 32."""
    (tmp_path / "more.txt").write_text("".join(f"a {c} {s}\n" for c, s in world.PAIRS[:count]))
    arms = ("--arm", "raw", "--arm", "refine")
    ran = cli("compare", "more.txt", "--max-images", "4", "--json", *arms)
    told = json.loads(ran.out)
    assert len(told["suspects"]) == count
    assert told["suspicions"] == [
        {
            "arm": "refine",
            "against": "raw",
            "prompts": count,
            "suspects": count,
            "opposite": 0,
            "p": pytest.approx(0.5**count),
            "founded": count == 5,
        }
    ]
    lines = ran.err.splitlines()
    warning = f"possible reward hacking: {SUSPICION}"
    assert (warning in lines) == (count == 5)
    answer = next(line for line in lines if line.startswith("too few prompts"))
    assert count == 4 or lines.index(answer) < lines.index(warning)


def test_verdicts_are_plain_words_and_categories_stand_below(cli, tmp_path):
    pairs = world.PAIRS[: FEWEST + 5]
    rows = "".join(f"a {c} {s},{'ab'[i > FEWEST]}\n" for i, (c, s) in enumerate(pairs))
    (tmp_path / "many.csv").write_text(f"prompt,kind\n{rows}")
    ran = cli(
        *("compare", "many.csv", "--max-images", "2", "--by", "kind", "--arm", "raw"),
        *("--arm", "best-of-n", "--evaluator", "command:x", "--json"),
    )
    pairs = json.loads(ran.out)["pairs"]
    assert [(p["category"], p["verdict"]) for p in pairs] == [
        (None, "worse"), ("a", "worse"), ("b", "too few")
    ]  # fmt: skip
    assert "best-of-n is worse than raw" in ran.err.splitlines()
    assert "a" in ran.err.splitlines()
    assert "too few prompts within b" in ran.err.splitlines()


def test_what_several_evaluators_say_and_how_far_they_agree(cli, tmp_path, monkeypatch):
    class Contrary(ByArm):
        def score(self, samples):
            return ((id_, -score) for id_, score in super().score(samples))

    made = {"x": ByArm(), "-x": Contrary()}
    monkeypatch.setattr(evaluators, "load", lambda choice, _: made[choice.model])
    lines = (f"a {c} {s},{'ab'[i % 2]}\n" for i, (c, s) in enumerate(world.PAIRS[:FEWEST]))
    (tmp_path / "many.csv").write_text(f"prompt,tag\n{''.join(lines)}")
    ran = cli(
        *("compare", "many.csv", "--into", "c", "--max-images", "2", "--arm", "raw", "--arm"),
        *("best-of-n", "--evaluator", "command:x", "--evaluator", "command:-x"),
    )
    assert (ran.code, ran.out) == (0, "c/compare.json\n")
    lines = ran.err.splitlines()
    at = lines.index("best-of-n is worse than raw")
    assert "command:x  command:-x  critic" in lines[at - 9]
    assert lines[at + 2 : at + 8] == [
        "",
        "by command:-x",
        "best-of-n is better than raw",
        "  +0.500 on average · p < 0.001 · 20 won, 0 tied, 0 lost",
        "",
        "command:x and command:-x order 0 of 20 pairs of images alike (tau -1.00)",
    ]
    page = Path("c/index.html").read_text()
    assert "Other evaluators" in page
    assert "order 0 of 20 pairs of images alike" in page
    assert "command:-x -0.40" in " ".join(page.replace("−", "-").split())
    assert cli("resume", "c").code == 2
    again = cli("resume", "c", "--evaluator", "command:-x", "--json")
    assert "others" not in json.loads(again.out)
    assert "Other evaluators" not in Path("c/index.html").read_text()


def test_quiet_and_json(cli):
    ran = cli("compare", "p.csv", "-q", "--json", "--max-images", "2", "--into", "c")
    assert ran.err == ""
    assert json.loads(ran.out) == json.loads(Path("c/compare.json").read_text())


def test_resume_goes_on_with_a_comparison(cli):
    cli.models["critic"] = Interrupting()
    ran = cli("compare", "p.csv", "--into", "c", "--max-images", "4")
    assert (ran.code, ran.out) == (130, "")
    assert "stopping after this round" in ran.err
    assert "gcr resume c goes on from here" in ran.err
    again = cli("resume", "c")
    assert (again.code, again.out) == (0, "c/compare.json\n")
    whole = cli("resume", "c", "--json")
    assert [arm["images"] for arm in json.loads(whole.out)["arms"]] == [1, 4, 4]


def test_results_that_are_missing_are_exit_code_3(cli):
    class Refusing(FakeGenerator):
        def draw(self, candidates, starts=(), sources=()):
            if any("stars" in candidate.prompt for candidate in candidates):
                raise GcrError("no stars tonight")
            return super().draw(candidates, starts, sources)

    cli.models["generator"] = Refusing()
    Path("c/index.html").mkdir(parents=True)  # that there is no page hides nothing
    ran = cli("compare", "p.csv", "--into", "c", "--max-images", "2")
    ran.assert_refused(3, "3 of 6 results are missing")
    assert "warning: c/index.html is a folder" in ran.err
    assert ran.out == "c/compare.json\n"
    assert "no stars tonight" in Path("c/compare.csv").read_text()


def test_batches_are_compared(cli):
    cli("batch", "p.csv", "--rounds", "1", "--into", "one")
    cli("batch", "p.csv", "--rounds", "2", "--into", "two")
    ran = cli("compare", "one", "two", "--into", "c")
    assert (ran.code, ran.out) == (0, "c/compare.json\n")
    assert "too few prompts to tell two and one apart" in ran.err
    ran = cli("compare", "one", "two", "--arm", "raw")
    ran.assert_refused(2, "--arm: nothing is drawn here")


def test_an_interrupted_comparison_of_batches_says_how_to_go_on(cli, monkeypatch):
    class Interrupting:
        def score(self, _):
            raise KeyboardInterrupt

    cli("batch", "p.csv", "--rounds", "1", "--into", "one")
    cli("batch", "p.csv", "--rounds", "2", "--into", "two")
    monkeypatch.setattr(evaluators, "load", lambda *_: Interrupting())
    ran = cli("compare", "one", "two", "--into", "c")
    assert ran.code == 130
    assert "the same command with --into c goes on from here" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nowhere.txt"], "no file 'nowhere.txt'"),
        (["compare", "p.csv", "--evaluator", "vqa:x"], "no evaluator named 'vqa'"),
        (["compare", "p.csv", "-m", "owner/other"], "no evaluator says which arm is better"),
        (["compare", "p.csv", "--arm", "refine"], "one arm has nothing"),
        (["compare", "p.csv", "--equal", "seconds"], "--equal seconds needs to know how many"),
        (["compare", "p.csv", "--evaluator", "vqascore:pocket:critic"], "is the critic that"),
        (["compare", "p.csv", "--strategy", "refine"], "No such option: --strategy"),
        (["compare"], "Missing argument"),
    ],
)
def test_wrong_usage_is_refused_before_models_are_loaded(cli, monkeypatch, arguments, message):
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pytest.fail("loaded"))
    ran = cli(*arguments)
    assert ran.out == ""
    ran.assert_refused(2, message)


def test_help_names_the_options(cli):
    shown = cli("compare", "--help").out
    for option in ("--arm", "--evaluator", "--equal", "--by", "--force", "--max-images"):
        assert option in shown
    assert "--strategy" not in shown
    assert "--no-compare" not in shown
