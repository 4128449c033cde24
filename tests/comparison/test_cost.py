"""What arms took, and what they had come to for it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import FakeEvaluator

from gcr.comparison import comparing, cost, evaluators
from gcr.comparison.cost import Course, Pick
from gcr.core.events import RoundFinished
from gcr.core.records import (
    Attempt,
    Candidate,
    Critique,
    Request,
    Round,
    Run,
    Tokens,
    Wording,
)
from gcr.errors import GcrError
from gcr.results.report import charts, report


def course(*picks):
    return Course(tuple(Pick(Path(name), at) for name, at in picks), 0, None, 0.0, 0.0)


KNOWN = {
    ("raw", "1"): course(("a", 1.0)),
    ("raw", "2"): course(("d", 2.0)),
    ("refine", "1"): course(("a", 1.0), ("a", 2.0), ("b", 4.0)),
    ("refine", "2"): course(("d", 2.0), ("e", 3.0)),
    ("refine", "3"): course(("x", 1.0), ("y", 9.0)),  # raw failed
}
SCORED = {
    Path(name): score for name, score in zip("abdexy", (0.0, 1.0, 0.0, 0.5, 1, 1), strict=True)
}


def test_a_curve_is_what_a_run_that_was_stopped_earlier_would_have_come_to():
    curves = cost.curves(["raw", "refine"], KNOWN, SCORED)
    assert curves.prompts == 2
    assert curves.arms["raw"].images == (0,)
    assert curves.arms["refine"].images == (0, 0.25, 0.75)
    by_seconds = dict(curves.arms["refine"].seconds)
    assert min(by_seconds) == 2.0  # from when both prompts have an image
    assert [by_seconds[s] for s in (2.0, 3.0, 4.0)] == [0, 0.25, 0.75]
    assert (curves.equal_seconds, curves.at_equal_seconds) == (4, {"raw": 0, "refine": 0.75})


def test_equal_seconds_are_those_of_the_first_arm_that_draws_no_more():
    known = {
        **KNOWN,
        ("slow", "1"): course(("a", 3.0), ("b", 9.0)),
        ("slow", "2"): course(("d", 9.0)),
    }
    curves = cost.curves(["raw", "refine", "slow"], known, SCORED)
    assert curves.equal_seconds == 4
    assert curves.at_equal_seconds == {"raw": 0, "refine": 0.75, "slow": 0}


def test_a_prompt_with_an_image_that_nobody_measured_is_left_out():
    scores = {**SCORED, Path("b"): None}
    assert cost.curves(["raw", "refine"], KNOWN, scores).prompts == 1
    assert cost.curves(["raw", "refine"], KNOWN, {}) is None
    alone = {place: each for place, each in KNOWN.items() if place[0] == "raw"}
    assert cost.curves(["raw"], alone, SCORED).equal_seconds is None


def attempt(name, score, tokens=None, seconds=1.0):
    critique = Critique(overall=score, raw="fine")
    return Attempt(Candidate("a", 1), critique, name, "", seconds, seconds / 2, tokens=tokens)


def test_a_course_goes_image_by_image_and_ends_with_what_was_chosen():
    wording = Wording("b", seconds=2.0, tokens=Tokens(7, 3))
    scores = {"00-0.png": 0.5, "00-1.png": 0.4, "01-0.png": 0.6}
    first, second, third = (attempt(name, s, Tokens(10, 1)) for name, s in scores.items())
    rounds = (Round(0, (first, second), wording), Round(1, (third,)))
    run = Run("1", Request("a"), {"judges": 2}, rounds, settled="00-1.png")
    found = cost._course(Path(), run)
    assert [(str(p.image), p.seconds) for p in found.picks] == [
        *[("00-0.png", 1.5), ("00-0.png", 3.0), ("00-1.png", 6.5)]
    ]
    assert (found.critiques, found.tokens) == (6, Tokens(37, 6))
    assert (found.drawing, found.judging) == (3, 3.5)


@pytest.mark.parametrize("unknown", [None, Tokens(5, 5, uncounted=1)])
def test_tokens_that_were_not_all_counted_are_unknown(unknown):
    run = Run("1", Request("a"), rounds=(Round(0, (attempt("00-0.png", 0.5, unknown),)),))
    assert cost._course(Path(), run).tokens is None


def test_shares_sum_to_the_whole():
    shares = Tokens(10, 5, 1).shares(3)
    assert [(share.read, share.written) for share in shares] == [(3, 1), (3, 2), (4, 2)]
    assert sum(shares, Tokens()) == Tokens(10, 5, 1)


def test_what_an_arm_takes_is_written_down_however_it_ends(tmp_path):
    run = Run("1", Request("a"), rounds=(Round(0, (attempt("00-0.png", 0.5, seconds=2.0),)),))
    models = SimpleNamespace(loading=5.0, device=SimpleNamespace(peak_bytes=99))
    told = []

    def draw():
        with cost.recorded(tmp_path, told.append, models) as emit:
            assert models.device.peak_bytes == 0
            emit(RoundFinished(run, None))
            models.device.peak_bytes = 3 << 30
            models.loading += 1000.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert len(told) == 1
    (line,) = (tmp_path / cost.NAME).read_text().splitlines()
    assert json.loads(line)["in_models"] == 3
    assert json.loads(line)["seconds"] < 0  # a thousand of them were loading
    with cost.recorded(tmp_path, told.append, models):
        pass  # nothing was left to do
    assert cost._beside(tmp_path) == (0, 3 << 30)
    (tmp_path / cost.NAME).write_text('{"seconds": "x"}\n')
    with pytest.raises(GcrError, match="line 1, is damaged"):
        cost._beside(tmp_path)


@pytest.fixture
def compared(cli, monkeypatch):
    """A comparison of two prompts on fakes, by the command."""
    Path("p.txt").write_text("a red circle\ntwo blue stars\n")
    monkeypatch.setattr(evaluators, "load", lambda *_: FakeEvaluator())
    arms = ("--arm", "raw", "--arm", "refine", "--evaluator", "command:x")
    ran = cli("compare", "p.txt", "--into", "c", "--max-images", "4", *arms)
    assert ran.code == 0
    return ran


def test_costs_and_curves_are_told_and_shown(compared):
    record = json.loads(Path("c/compare.json").read_text())
    raw, refine = (arm["cost"] for arm in record["arms"])
    assert (raw["critiques"], raw["tokens_read"], raw["tokens_written"]) == (1, 100, 10)
    assert (refine["critiques"], refine["tokens_read"], refine["tokens_written"]) == (4, 400, 40)
    assert refine["other"] > 0
    assert refine["gpu_peak_bytes"] is None
    assert record["curves"]["arms"]["refine"]["images"] == [0.1, 0.2, 0.5, 0.9]
    head, _, second, equal = compared.err.splitlines()[-10:-6]
    assert head.startswith("a prompt  critiques  tokens in  tokens out  drawing")
    assert second.split()[:4] == ["refine", "4.0", "400", "40"]
    assert equal.endswith("s for each prompt: raw 0.100, refine 0.900")
    page = Path("c/index.html").read_text()
    for words in ("What it took", "against images", "against seconds", "tokens out", "400"):
        assert words in page
    lines = Path("c/refine/runs/1/rounds.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["attempts"][0]["tokens"] == {
        "read": 100, "written": 10, "uncounted": 0
    }  # fmt: skip


def test_folders_of_older_versions_are_compared_and_shown_without(compared):
    for path in Path("c").rglob("rounds.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for attempt in (attempt for line in lines for attempt in line["attempts"]):
            del attempt["tokens"], attempt["critique"]["facts"]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in Path("c").rglob(cost.NAME):
        path.unlink()
    again = comparing.resume(Path("c"), evaluator="command:x")
    costs = again.arms[1].cost
    assert (costs.critiques, costs.tokens_read, costs.other) == (4, None, None)
    assert again.curves is not None
    record = json.loads(Path("c/compare.json").read_text())
    del record["curves"]
    for arm in record["arms"]:
        del arm["cost"]
    Path("c/compare.json").write_text(json.dumps(record))
    assert "What it took" not in report(Path("c")).read_text()


def test_images_that_are_gone_are_in_no_curve(compared):
    Path("c/refine/runs/1/00-1.png").unlink()
    assert comparing.resume(Path("c"), evaluator="command:x").curves.prompts == 1


def test_a_plot_steps_from_point_to_point():
    plot = charts.plot({"a": [(1, 0.0), (2, 0.5)], "b": [(1, 1.0)]}, dotted=True)
    first, second = plot.lines
    assert first.path == "M3.00 212.00H97.00V112.00H97.00"
    assert second.path == "M3.00 12.00H97.00"
    assert [value for _, value in plot.below] == [1, 2]
    assert [score for _, score in plot.across] == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.46, 0.96, [0.4, 0.6, 0.8, 1.0]),
        (0.3, 0.3, [0.3, 0.4]),
        (0.0, 0.0, [0.0, 0.25]),
        (0.28, 0.31, [0.28, 0.29, 0.3, 0.31]),
        (-3.0, 250.0, [-100, 0, 100, 200, 300]),
    ],
)
def test_marks_are_round_and_hold_all_values(low, high, marks):
    found = charts._marks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert found == pytest.approx(marks)
