"""Comparisons on fakes: what is drawn, what is measured, and what may be said of it."""

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import TRUE, FakeCritic, FakeEvaluator, FakeGenerator, Pair, Recorder
from PIL import Image

import gcr
from gcr.comparison import arms, comparing, evaluators
from gcr.comparison.figures import agreed, said
from gcr.comparison.folder import CompareInterrupted
from gcr.comparison.measuring import Scores
from gcr.comparison.statistics import FEWEST
from gcr.core.events import Notice
from gcr.core.records import Wording
from gcr.core.stopping import MOST_ROUNDS
from gcr.engine import batching
from gcr.engine import plan as plans
from gcr.errors import GcrError, ModelError, UsageError
from gcr.inputs import source
from gcr.pocket import world
from gcr.storage import runfolder

PROMPTS = ["a red circle", "two blue stars", "a green square"]
MANY = [f"a {colour} {shape}" for colour, shape in world.PAIRS[:FEWEST]]
REAL_LOAD = evaluators.load


@dataclass
class Tool(Pair):
    """`gcr.compare` on fakes."""

    evaluator: FakeEvaluator = field(default_factory=FakeEvaluator)

    def __call__(self, prompts=PROMPTS, into="c", **options):
        given = {"evaluator": "command:x", "max_images": 4, **options}
        return gcr.compare(prompts, into=into, **given)


@pytest.fixture
def tool(install, monkeypatch):
    made = install(Tool())
    monkeypatch.setattr(evaluators, "load", lambda *_: made.evaluator)
    return made


def record(folder="c"):
    return json.loads((Path(folder) / "compare.json").read_text())


def pixels(folder):
    found = {}
    for path in sorted(Path(folder).rglob("*.png")):
        with Image.open(path) as image:
            found[str(path.relative_to(folder))] = source.digest(image.convert("RGB"))
    return found


# What is drawn


def test_every_arm_has_the_same_first_image_and_nobody_draws_it_twice(tool):
    tool(PROMPTS[:1])
    first = [pixels(f"c/{arm}/runs/1")["00-0.png"] for arm in arms.USUAL]
    assert len(set(first)) == 1
    assert len(pixels("c/raw")) == 2  # the image, and its copy as the best
    request = [seed for prompt, seed in tool.generator.drawn if prompt == PROMPTS[0]]
    assert request == [0, 1, 2, 3]
    assert len(tool.generator.drawn) == 4 + 2  # refine draws only its second round
    assert tool.loaded == 1


def test_what_is_taken_over_is_what_the_arm_would_have_drawn(tool):
    tool()
    tool(into="alone", arms=["refine", "raw"])
    assert pixels("c/refine") == pixels("alone/refine")
    taken, own = (
        runfolder.RunFolder.open(Path(f"{into}/refine/runs/2")).run for into in ("c", "alone")
    )
    plain = [[(a.candidate, a.critique) for a in run.attempts] for run in (taken, own)]
    assert plain[0] == plain[1]


def test_an_arm_that_screens_takes_nothing_over_from_one_that_does_not(tool):
    found = tool(score="checklist", arms=["refine-screened", "raw", "refine"])
    screened, refined = (
        [runfolder.RunFolder.open(Path(f"c/{arm}/runs/{n}")).run for n in (1, 2, 3)]
        for arm in ("refine-screened", "refine")
    )
    assert [arm.name for arm in found.arms] == ["refine-screened", "raw", "refine"]
    for run, whole in zip(screened, refined, strict=True):
        assert [a.score for a in run.attempts] == [a.score for a in whole.attempts]
        assert [bool(a.critique.raw) for a in run.attempts] == [False, True, False, True]
        assert all(a.critique.raw for a in whole.attempts)
    with pytest.raises(UsageError, match="--arm refine-screened scores by a checklist"):
        tool(into="d", arms=["refine-screened", "raw"])
    assert not Path("d").exists()


def test_an_arm_is_a_batch(tool):
    tool()
    assert len(batching.resume(Path("c/refine")).results) == 3
    assert len(Path("c/refine/summary.csv").read_text().splitlines()) == 4


def test_arms_draw_as_many_images_unless_they_have_what_they_want(tool):
    """The score stops rising, and no arm stops for that."""
    tool.critic = FakeCritic({}, 0.5)
    found = tool(PROMPTS[:1], max_images=9)
    assert {arm.name: arm.images for arm in found.arms} == {"raw": 1, "best-of-n": 9, "refine": 9}
    tool.critic = FakeCritic({3: 1.0}, 0.5)
    found = tool(PROMPTS[:1], max_images=9, into="d")
    assert {arm.name: arm.images for arm in found.arms} == {"raw": 1, "best-of-n": 4, "refine": 4}


def test_the_budget_is_what_limits_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GCR_MAX_SECONDS", "9")
    by_default = comparing.shared({}, "images")
    assert (by_default.max_images, by_default.max_seconds) == (8, None)
    assert by_default.rounds == by_default.patience == MOST_ROUNDS
    asked = comparing.shared({"rounds": 3, "patience": 1, "max_images": 5}, "images")
    assert (asked.rounds, asked.patience, asked.max_images) == (3, 1, 5)
    timed = comparing.shared({"max_seconds": 30.0}, "seconds")
    assert (timed.max_images, timed.max_seconds) == (None, 30)


@pytest.mark.parametrize(
    ("flags", "equal", "message"),
    [
        ({}, "seconds", "needs to know how many"),
        ({"max_images": 3, "max_seconds": 3.0}, "seconds", "the budget is --max-seconds"),
        ({"max_seconds": 3.0}, "images", "the budget is --max-images"),
        ({"max_images": 0}, "images", "--max-images should be at least 1"),
        ({}, "money", "--equal should be 'images' or 'seconds', not 'money'"),
        ({"strategy": "refine"}, "images", "several strategies"),
    ],
)
def test_budgets_that_make_no_sense(flags, equal, message):
    with pytest.raises(UsageError, match=message):
        comparing.shared(flags, equal)


def test_at_equal_seconds_every_arm_has_a_round_and_no_more_than_fit(tool):
    found = tool(PROMPTS[:1], max_images=None, equal="seconds", max_seconds=1e-9)
    assert {arm.name: arm.images for arm in found.arms} == {"raw": 1, "best-of-n": 2, "refine": 2}
    assert (record()["equal"], record()["budget"]) == ("seconds", 1e-9)


def test_a_strategy_that_cannot_be_drawn_is_refused_and_not_replaced(tool):
    tool.generator = FakeGenerator(obstacle="it starts from noise alone")
    with pytest.raises(UsageError, match="cannot draw as reflect does"):
        tool(arms=["raw", "reflect"])
    assert not list(Path("c").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ["raw"]}, "nothing to be compared with"),
        ({"arms": ["raw", "raw"]}, "nothing to be compared with"),
        ({"arms": ["raw", "refined"]}, "no strategy named 'refined'"),
        ({"by": "kind"}, "--by 'kind' is no column"),
        ({"evaluator": "vqascore:pocket:critic"}, "is the critic that steers"),
        ({"evaluator": "clipscore:nowhere"}, "there is no model at nowhere"),
        ({"evaluator": None, "generator": "owner/other"}, "no evaluator says"),
        ({"evaluator": "truth", "prompts": ["a dragon"]}, "truth cannot tell what 'a dragon'"),
    ],
)
def test_what_is_wrong_is_said_before_models_are_loaded(tool, options, message):
    with pytest.raises((UsageError, ModelError), match=message):
        tool(**options)
    assert tool.loaded == 0
    assert not Path("c").exists()


# What is measured, and written down


def test_compare_json_has_what_others_read(tool):
    found = tool()
    told = record()
    assert told == json.loads(json.dumps(found.as_json()))
    assert set(told) == {
        *("id", "started", "seconds", "files", "settings", "versions", "evaluator", "critic"),
        *(
            "equal",
            "budget",
            "answer",
            "arms",
            "pairs",
            "prompts",
            "suspects",
            "suspicions",
            "curves",
        ),
    }
    assert told["evaluator"] == {"name": "command", "model": "x"}
    assert (told["critic"], told["equal"], told["budget"]) == ("pocket:critic", "images", 4)
    assert [(arm["name"], arm["folder"], arm["strategy"]) for arm in told["arms"]] == [
        ("raw", "raw", "raw"), ("best-of-n", "best-of-n", "best-of-n"), ("refine",) * 3
    ]  # fmt: skip
    refine = told["arms"][2]
    assert (refine["mean"], refine["critic_mean"], refine["images"]) == pytest.approx((0.9, 0.8, 4))
    shown = told["prompts"][0]["arms"]["raw"]
    assert shown == {
        "run": "raw/runs/1",
        "image": "raw/runs/1/best.png",
        "score": 0.1,
        "critic": 0.2,
        "images": 1,
        "seconds": shown["seconds"],
        "failure": "",
        "untrusted": "",
    }
    assert (Path("c") / shown["image"]).is_file()
    assert [(p["arm"], p["against"]) for p in told["pairs"]] == [
        ("best-of-n", "raw"), ("refine", "raw"), ("refine", "best-of-n")
    ]  # fmt: skip
    pair = told["pairs"][1]
    assert (pair["prompts"], pair["wins"], pair["ties"], pair["losses"]) == (3, 3, 0, 0)
    assert pair["difference"] == pytest.approx(0.8)
    assert (pair["verdict"], pair["needed"]) == ("too few", FEWEST - 3)


def test_the_table_has_a_row_for_each_prompt_and_arm(tool):
    rows = list(csv.DictReader(tool().table.read_text().splitlines()))
    assert len(rows) == 9
    assert {row["arm"] for row in rows} == set(arms.USUAL)
    assert [float(row["score"]) for row in rows if row["arm"] == "refine"] == [0.9] * 3


def test_spreadsheets_find_no_formula_in_the_table(tool):
    found = tool(['=cmd|"/C calc"', "-1 dog", "a red circle"])
    rows = list(csv.DictReader(found.table.read_text().splitlines()))
    assert {row["prompt"] for row in rows} == {'\'=cmd|"/C calc"', "'-1 dog", "a red circle"}
    assert found.prompts[0].prompt[0] != "'"


def test_what_the_evaluator_prefers_is_called_better(tool):
    found = tool(MANY, arms=["raw", "refine"])
    assert [said(pair) for pair in found.pairs] == ["refine is better than raw"]
    tool.evaluator = FakeEvaluator({0: 0.9})
    found = tool(MANY, arms=["raw", "refine"], evaluator="command:y")
    assert [said(pair) for pair in found.pairs] == ["refine is worse than raw"]
    tool.evaluator = FakeEvaluator({})
    found = tool(MANY, arms=["raw", "refine"], evaluator="command:z")
    assert [said(pair) for pair in found.pairs] == ["no difference shown between refine and raw"]
    few = tool(arms=["raw", "refine"], into="few").pairs[0]
    assert said(few) == "too few prompts to tell refine and raw apart: about 17 more"


def test_an_image_is_measured_once(tool):
    tool()
    assert sorted(tool.evaluator.measured) == sorted((p, s) for p in PROMPTS for s in range(4))
    drawn = len(tool.generator.drawn)
    tool()
    tool(arms=["raw", "rewrite"])  # whose best image is new
    assert len(tool.evaluator.measured) == len(set(tool.evaluator.measured))
    assert len(tool.generator.drawn) > drawn


def test_scores_that_were_given_survive_an_evaluator_that_fails(tool):
    tool.evaluator.most = 2
    with pytest.raises(GcrError, match="exit code 1"):
        tool()
    assert len(Path("c/scores.jsonl").read_text().splitlines()) == 2
    drawn, loaded = len(tool.generator.drawn), tool.loaded
    tool.evaluator.most = 10_000
    assert tool().arms[0].mean == pytest.approx(0.1)
    assert len(tool.evaluator.measured) == 12
    assert (len(tool.generator.drawn), tool.loaded) == (drawn, loaded)


def test_another_evaluator_measures_the_same_images_anew(tool):
    tool()
    drawn = len(tool.generator.drawn)
    tool.evaluator = FakeEvaluator({0: 1.0})
    assert tool(evaluator="command:y").arms[0].mean == 1.0
    assert len(tool.generator.drawn) == drawn
    assert len(tool.evaluator.measured) == 12
    assert len(Path("c/scores.jsonl").read_text().splitlines()) == 24


@pytest.mark.parametrize("score", [math.nan, math.inf, 1.7e308, -1.7e308])
def test_a_score_that_is_no_number_is_refused(tool, score):
    tool.evaluator = FakeEvaluator({0: score})
    with pytest.raises(GcrError, match=re.escape(f"scored an image {score}")):
        tool()
    assert not Path("c/compare.json").exists()


def test_what_has_no_score_counts_for_nothing_and_is_not_measured_again(tool):
    tool.evaluator = FakeEvaluator({0: None, 3: 0.9})
    events = []
    found = tool(arms=["raw", "refine"], on_event=events.append)
    assert [(arm.mean, arm.failed) for arm in found.arms] == [(None, 0), (pytest.approx(0.9), 0)]
    assert (found.pairs[0].prompts, found.pairs[0].difference) == (0, None)
    assert record()["prompts"][0]["arms"]["raw"]["score"] is None
    (warning,) = [event.message for event in events if isinstance(event, Notice)]
    assert warning.startswith("command has nothing to measure in 3 of 3 prompts")
    tool(arms=["raw", "refine"])
    assert len(tool.evaluator.measured) == 12
    assert len(Path("c/scores.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("scored", "message"),
    [([], "scored 0 of 4 images"), ([("raw/9", 1.0)], "scored 'raw/9', which is not")],
)
def test_an_evaluator_that_scores_other_images_than_asked_is_refused(tool, scored, message):
    tool.evaluator.score = lambda _: iter(scored)
    with pytest.raises(GcrError, match=message):
        tool(PROMPTS[:1], arms=["raw", "refine"])


def test_a_torn_score_is_measured_again_and_a_damaged_one_is_an_error(tool):
    tool()
    path = Path("c/scores.jsonl")
    path.write_bytes(path.read_bytes()[:-9])
    tool()
    assert len(tool.evaluator.measured) == 13
    assert len(path.read_text().splitlines()) == 12
    path.write_text('{"score": "x"}\n')
    with pytest.raises(GcrError, match="line 1, is damaged: a score of x"):
        Scores(Path("c"))


# Several evaluators


@pytest.fixture
def panel(tool, monkeypatch):
    """The tool with an evaluator for each command line: x, which goes by the seed, and others."""
    says = {"x": TRUE, "contrary": {0: 3.0, 3: -4.0}, "none": {}}
    made = {line: FakeEvaluator(scores) for line, scores in says.items()}
    monkeypatch.setattr(evaluators, "load", lambda choice, _: made[choice.model])
    return tool, made


def test_the_first_evaluator_decides_and_others_stand_beside_it(panel):
    tool, made = panel
    alone = tool(MANY, arms=["raw", "refine"], evaluator="command:x", into="alone").as_json()
    both = ["command:x", "command:contrary", "command:x"]
    found = tool(MANY, arms=["raw", "refine"], evaluator=both)
    told = record()
    assert told == json.loads(json.dumps(found.as_json()))
    same = ("evaluator", "pairs", "suspects", "suspicions")
    assert [told[key] for key in same] == [json.loads(json.dumps(alone[key])) for key in same]
    assert {"others", "agreement"} & set(alone) == set()
    (other,) = told["others"]
    assert other["evaluator"] == {"name": "command", "model": "contrary"}
    assert other["label"] == "command:contrary"
    assert other["means"] == {"raw": 3.0, "refine": -4.0}
    assert [(pair["arm"], pair["verdict"]) for pair in other["pairs"]] == [("refine", "worse")]
    assert other["scores"]["7"] == {"raw": 3.0, "refine": -4.0}
    assert told["agreement"] == [
        {
            "first": "command:x",
            "second": "command:contrary",
            "prompts": 20,
            "alike": 0,
            "opposite": 20,
            "half": 0,
            "tau": -1.0,
            "interval": None,
        }
    ]
    rows = list(csv.DictReader(found.table.read_text().splitlines()))
    assert [row["command:contrary"] for row in rows[:2]] == ["3.0", "-4.0"]
    assert len(made["contrary"].measured) == 40


def test_evaluators_are_remembered_and_may_be_changed(panel):
    tool, made = panel
    given = ["command:x", "command:contrary"]
    tool(arms=["raw", "refine"], evaluator=given)
    with pytest.raises(UsageError, match="with a command line: x") as caught:
        comparing.resume(Path("c"))
    assert caught.value.hint.endswith("--evaluator command:x --evaluator command:contrary")
    assert comparing.resume(Path("c"), evaluator=given).others
    assert [len(one.measured) for one in made.values()] == [12, 6, 0]
    again = comparing.resume(Path("c"), evaluator=["command:contrary", "command:none"])
    assert (str(again.about.evaluator), again.others[0].label) == (
        "command:contrary", "command:none"
    )  # fmt: skip
    assert [len(one.measured) for one in made.values()] == [12, 12, 6]
    assert agreed(again.agreement[0]) == (
        "command:contrary and command:none order no two images of a prompt both"
    )
    assert comparing.resume(Path("c"), evaluator="command:x").others == ()
    with pytest.raises(UsageError, match="is the critic that steers"):
        comparing.resume(Path("c"), evaluator="vqascore:pocket:critic")


def test_folders_are_measured_by_several_evaluators_too(panel):
    tool, _ = panel
    tool(PROMPTS, arms=["raw", "refine"])
    found = gcr.compare(Path("c"), evaluator=["command:x", "command:contrary"], into="d")
    assert [agreement.opposite for agreement in found.agreement] == [3]


def test_evaluators_of_which_one_steered_are_refused(tool):
    with pytest.raises(UsageError, match="is the critic that steers"):
        tool(evaluator=["command:x", "vqascore:pocket:critic"])


# Evaluators of other distributions

PLUGIN = """
from gcr.core.records import Evaluator


class Brightness(Evaluator):
    takes = "FACTOR"
    columns = ("goal",)

    @classmethod
    def check(cls, argument, tasks):
        assert [task.columns["goal"] for task in tasks] == ["dark", "light"]

    @classmethod
    def load(cls, argument):
        made = cls()
        made.factor = float(argument)
        return made

    def score(self, samples):
        for sample in samples:
            assert set(sample.columns) == {"goal"} and sample.image.is_file()
            yield sample.id, self.factor * (sample.columns["goal"] == "light")
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A distribution with an evaluator, as pip would have installed it: its entry points."""
    site = tmp_path / "site"
    about = site / "brightness-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "brightness_plugin.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    points = about / "entry_points.txt"
    points.write_text("[gcr.evaluators]\nbrightness = brightness_plugin:Brightness\n")
    monkeypatch.syspath_prepend(site)
    return points


def test_other_distributions_add_evaluators(tool, plugin, monkeypatch):
    monkeypatch.setattr(evaluators, "load", REAL_LOAD)
    Path("p.csv").write_text("prompt,goal,kind\na red circle,dark,x\na blue star,light,x\n")
    arms = ["raw", "refine"]
    found = tool(Path("p.csv"), arms=arms, evaluator="brightness: 0.5")
    assert [prompt.arms["raw"].score for prompt in found.prompts] == [0.0, 0.5]
    assert record()["evaluator"] == {"name": "brightness", "model": "0.5"}
    with pytest.raises(UsageError, match=r"with a command line: 0\.5"):
        comparing.resume(Path("c"))  # who knows what it does with it
    with pytest.raises(UsageError, match="no evaluator named 'brightnes'") as caught:
        tool(evaluator="brightnes:x")
    assert "did you mean brightness?" in caught.value.hint
    with pytest.raises(UsageError, match="is not whole") as caught:
        tool(evaluator="brightness")
    assert caught.value.hint.startswith("--evaluator brightness:FACTOR; there are vqascore:MODEL")


@pytest.mark.parametrize(
    ("line", "name", "message"),
    [
        ("truth = brightness_plugin:Brightness", "truth", "2 evaluators are called truth"),
        ("broken = brightness_plugin:Missing", "broken", "broken cannot be loaded: .*'Missing'"),
        ("broken = nowhere:Missing", "broken", "broken cannot be loaded: No module named"),
    ],
)
def test_evaluators_that_cannot_be_had(tool, plugin, line, name, message):
    plugin.write_text(f"[gcr.evaluators]\n{line}\n")
    with pytest.raises(GcrError, match=message):
        tool(evaluator=name)


# Where critic and evaluator differ


def test_what_pleases_the_critic_alone_is_suspected_and_comes_first(tool):
    """On the third prompt the evaluator finds the critic's favourite worse."""
    found = tool(arms=["raw", "refine"])
    assert found.suspects == ()

    class Deceived(FakeEvaluator):
        def score(self, samples):
            for sample in samples:
                refined = sample.id.startswith("refine/")
                gain = {"a red circle": 0.3, "two blue stars": 0.0}.get(sample.prompt, -0.2)
                yield sample.id, 0.5 + gain * refined

    tool.evaluator = Deceived()
    found = tool(arms=["raw", "refine"], evaluator="command:y")
    assert [(one.id, one.arm, one.against) for one in found.suspects] == [
        ("3", "refine", "raw"), ("2", "refine", "raw")
    ]  # fmt: skip
    assert found.suspects[0].critic_gain == pytest.approx(0.6)
    assert found.suspects[0].evaluator_gain == pytest.approx(-0.2)
    assert [prompt.id for prompt in found.prompts] == ["3", "2", "1"]
    assert [prompt["id"] for prompt in record()["prompts"]] == ["3", "2", "1"]


def test_two_images_that_are_both_right_are_not_suspected(tool):
    tool.evaluator = FakeEvaluator({0: 1.0, 3: 1.0})
    assert tool(arms=["raw", "refine"]).suspects == ()


# Categories


def test_categories_are_compared_apart_and_do_not_change_the_whole(tool, tmp_path):
    lines = [{"prompt": p, "tag": "even" if i % 2 else "odd", "n": i} for i, p in enumerate(MANY)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = tool(path, arms=["raw", "refine"])
    assert [(pair.category, pair.prompts, pair.verdict) for pair in found.pairs] == [
        (None, 20, "better"), ("even", 10, "too few"), ("odd", 10, "too few")
    ]  # fmt: skip
    assert found.pairs[0].adjusted == found.pairs[0].p
    assert found.prompts[0].category == "odd"
    assert len(tool(path, arms=["raw", "refine"], by="n").pairs) == 21


# Failures


def test_a_prompt_that_fails_in_one_arm_is_not_compared_there(tool):
    tool.generator = FakeGenerator(refused=["prompt after 1"])
    found = tool()
    assert [(arm.name, arm.failed, arm.mean) for arm in found.arms] == [
        ("raw", 0, pytest.approx(0.1)), ("best-of-n", 0, 0.9), ("refine", 3, None)
    ]  # fmt: skip
    assert [(p.prompts, p.difference is None) for p in found.pairs] == [
        (3, False), (0, True), (0, True)
    ]  # fmt: skip
    assert record()["prompts"][0]["arms"]["refine"]["failure"] == "cannot draw the prompt after 1"
    tool.generator = FakeGenerator()
    assert [arm.failed for arm in comparing.resume(Path("c"), evaluator="command:x").arms] == [
        0,
        0,
        0,
    ]


# Going on


def interrupted(tool, judged):
    """A comparison stopped when the critic was called so often."""
    plan = plans.make(PROMPTS, comparing.shared({"max_images": 4}, "images"))
    given = {"evaluator": "command:x", "equal": "images", "by": "", "force": False}
    contest = comparing.prepare(plan, arms=arms.USUAL, **given)
    with pytest.raises(CompareInterrupted) as caught:
        comparing.run(contest, Path("c"), stop=lambda: len(tool.critic.calls) == judged)
    assert caught.value.folder == Path("c")


@pytest.mark.parametrize("judged", [1, 3])
def test_a_stopped_comparison_goes_on_where_it_was(tool, judged):
    tool(into="whole")
    tool.generator.calls.clear()
    tool.critic.calls.clear()
    interrupted(tool, judged)
    found = comparing.resume(Path("c"), evaluator="command:x")
    assert pixels("c") == pixels("whole")
    assert len(tool.generator.drawn) == 3 * (4 + 2)
    whole = record("whole")
    for pair, other in zip(found.as_json()["pairs"], whole["pairs"], strict=True):
        assert pair == {**other, "interval": other["interval"] and tuple(other["interval"])}


def test_a_comparison_may_get_another_arm(tool):
    tool(arms=["raw", "best-of-n"])
    drawn = len(tool.generator.drawn)
    assert [arm.name for arm in tool(arms=["refine"]).arms] == list(arms.USUAL)
    assert len(tool.generator.drawn) == drawn + 3 * 2  # the first two of each are there
    assert [arm.name for arm in comparing.resume(Path("c"), evaluator="command:x").arms] == list(
        arms.USUAL
    )


@pytest.mark.parametrize("order", [("raw", "best-of-n", "refine"), ("best-of-n", "refine")])
def test_arms_that_have_no_use_for_wordings_are_not_asked_for_them(tool, order):
    tool.critic.wordings = {0: Wording("a thin cat"), 1: Wording("a fat cat")}
    tool(arms=order, rubric="text-to-image", max_images=4)
    worded = {
        name: [gcr.load_run(path).rounds[0].wording for path in Path("c", name, "runs").iterdir()]
        for name in order
    }
    assert {found.prompt for found in worded["refine"]} == {"a thin cat"}
    assert set(worded["best-of-n"]) == {None}


def test_an_arm_that_is_asked_takes_over_from_none_that_was_not(tool):
    tool.critic.wordings = {0: Wording("a thin cat")}
    tool(arms=["raw", "best-of-n"], rubric="text-to-image")
    tool(arms=["refine"], rubric="text-to-image")
    runs = [gcr.load_run(path) for path in Path("c/refine/runs").iterdir()]
    assert {run.rounds[0].wording.prompt for run in runs} == {"a thin cat"}


def test_settings_of_the_environment_count_too(tool, monkeypatch):
    monkeypatch.setenv("GCR_ROUNDS", "2")
    monkeypatch.setenv("GCR_MAX_IMAGES", "5")
    assert [(s.rounds, s.max_images, s.patience) for s in [comparing.shared({}, "images")]] == [
        (2, 5, MOST_ROUNDS)
    ]
    monkeypatch.delenv("GCR_MAX_IMAGES")
    assert comparing.shared({}, "images").max_images == comparing.IMAGES


@pytest.mark.parametrize("name", ["batch.json", "run.json"])
def test_a_folder_of_something_else_is_refused(tool, name):
    Path("c").mkdir()
    Path("c", name).write_text("{}")
    with pytest.raises(UsageError, match=f"holds no comparison, but {name}"):
        tool()


@pytest.mark.parametrize("options", [{"prompts": PROMPTS[:2]}, {"max_images": 5}, {"seed": 1}])
def test_other_prompts_or_settings_are_refused(tool, options):
    tool(arms=["raw", "refine"])
    with pytest.raises(UsageError, match="was begun with other prompts or settings"):
        tool(**{"arms": ["best-of-n", "rewrite"], **options})


def test_folders_that_hold_no_comparison(tool, tmp_path):
    with pytest.raises(UsageError, match="no comparison in nowhere"):
        comparing.resume(Path("nowhere"))
    for content in ("{", "[]", "{}", '{"entries": [{}]}', '{"entries": [], "id": "x"}'):
        (tmp_path / "arms.json").write_text(content)
        with pytest.raises(GcrError, match="is damaged"):
            comparing.resume(tmp_path)


# What is drawn already


def test_batches_are_compared_by_the_prompts_they_share(tool):
    gcr.batch([*PROMPTS, "only here"], into="one", rounds=1)
    gcr.batch(PROMPTS, into="two", rounds=2)
    drawn = len(tool.generator.drawn)
    recorder = Recorder()
    found = gcr.compare(
        [Path("one"), Path("two")], evaluator="command:x", into="c", on_event=recorder
    )
    assert len(tool.generator.drawn) == drawn
    assert [(arm.name, arm.folder, arm.images) for arm in found.arms] == [
        ("one", "../one", 2), ("two", "../two", 4)
    ]  # fmt: skip
    assert [(pair.arm, pair.wins) for pair in found.pairs] == [("two", 3)]
    assert (Path("c") / record()["prompts"][0]["arms"]["two"]["image"]).is_file()
    warned = [notice.message for notice in recorder.notices]
    assert warned == ["1 prompt not in all of the batches, so left out"]
    assert (record()["budget"], record()["files"]) == (4, ["one", "two"])


def test_other_seeds_are_said_to_be(tool):
    gcr.batch(PROMPTS, into="one", rounds=1)
    gcr.batch(PROMPTS, into="two", rounds=1, seed=2)
    recorder = Recorder()
    gcr.compare([Path("one"), Path("two")], evaluator="command:x", on_event=recorder)
    warned = [notice.message for notice in recorder.notices]
    assert warned == ["the batches began with other seeds"]


def test_a_comparison_is_its_arms(tool):
    tool()
    gcr.batch(PROMPTS, into="refine", rounds=1)
    alone = gcr.compare(Path("c"), evaluator="command:y", into="d")
    assert [arm.name for arm in alone.arms] == list(arms.USUAL)
    both = gcr.compare([Path("c"), Path("refine")], evaluator="command:y", into="e")
    assert [arm.name for arm in both.arms] == ["raw", "best-of-n", "c/refine", "refine"]


def test_critics_that_differ_suspect_nothing(tool):
    """What one critic prefers says nothing of another's scores."""
    tool.evaluator = FakeEvaluator({0: 0.5})
    gcr.batch(PROMPTS, into="one", rounds=1, images=1)
    gcr.batch(PROMPTS, into="two", rounds=2, images=2)
    same = gcr.compare([Path("one"), Path("two")], evaluator="command:x")
    assert len(same.suspects) == 3
    gcr.batch(PROMPTS, into="three", rounds=2, images=2, critic="owner/critic")
    other = gcr.compare([Path("one"), Path("three")], evaluator="command:x")
    assert other.suspects == ()
    assert other.about.critic == "pocket:critic, owner/critic"


def test_what_cannot_be_compared(tool):
    gcr.batch(PROMPTS[:1], into="one", rounds=1)
    gcr.batch(PROMPTS[1:], into="two", rounds=1)
    Path("p.txt").write_text("a red circle\n")
    for given, options, message in (
        (["one", "two"], {}, "no prompt in common"),
        (["one"], {}, "compared with another"),
        (["one", "one"], {}, "compared with another"),
        (["one", "p.txt"], {}, "p.txt is no folder of a batch"),
        (["one", "two"], {"steps": 3}, "--steps: nothing is drawn"),
    ):
        with pytest.raises(UsageError, match=message):
            gcr.compare([Path(name) for name in given], evaluator="command:x", **options)


# The real pair


def test_the_embedded_pair_is_compared_by_truth(tmp_path):
    prompts = ["a red circle", "a green square above a red heart"]
    found = gcr.compare(prompts, max_images=3, into=tmp_path / "c")
    assert found.about.evaluator.name == "truth"
    scores = [one.score for prompt in found.prompts for one in prompt.arms.values()]
    assert set(scores) <= {0.0, 1.0}
    assert [len(scores), *(arm.failed for arm in found.arms)] == [6, 0, 0, 0]
    for id_ in "12":
        first = {pixels(tmp_path / "c" / arm / "runs" / id_)["00-0.png"] for arm in arms.USUAL}
        assert len(first) == 1
