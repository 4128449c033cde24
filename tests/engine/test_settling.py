"""What lies within the critic's noise: which image is returned, what settles it, what is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeCritic, seed_of

import gcr
from gcr.core import phrases
from gcr.core.ranking import BRACKET, CONFIDENCE, margin
from gcr.core.records import Critique, Preference
from gcr.engine import settling
from gcr.results.report import charts, report
from gcr.settings.measurements import SPREADS
from gcr.storage import runfolder

SPREAD = 0.125
NOISE = f"within chance (±{CONFIDENCE * 2**0.5 * SPREAD:.2f})".replace("±0", "±")


class Noisy(FakeCritic):
    """Scores by seed, with a known noise. likes: the seeds it prefers side by side, best first."""

    def __init__(self, scores, likes=()):
        says = {seed: Critique(overall=s, spread=SPREAD, raw="x") for seed, s in scores.items()}
        super().__init__(says)
        self.likes = list(likes)
        self.pairs = []

    def compare(self, requests, firsts, seconds):
        found = []
        for first, second in zip(map(seed_of, firsts), map(seed_of, seconds), strict=True):
            self.pairs.append((first, second))
            ranks = [self.likes.index(s) if s in self.likes else 99 for s in (first, second)]
            found.append(
                Preference.TIE
                if ranks[0] == ranks[1]
                else Preference.FIRST
                if ranks[0] < ranks[1]
                else Preference.SECOND
            )
        return found


def refined(cli, scores, likes=(), *options):
    """One image a round, each going on from the best."""
    cli.models["critic"] = Noisy(scores, likes)
    ran = cli(
        *("refine", "a red circle and a blue star", "--strategy", "reflect", "--rounds", "3"),
        *("--images", "1", "-s", "4", "--patience", "9", "--json"),
        *options,
    )
    assert ran.code == 0
    return ran, json.loads(ran.out)


SCORES = {4: 0.83, 5: 0.99, 6: 0.99}


def test_within_the_noise_the_higher_score_is_returned_and_said(cli):
    ran, told = refined(cli, SCORES)
    assert (told["best"]["score"], told["best"]["round"]) == (0.99, 1)
    assert told["noise"] == pytest.approx(CONFIDENCE * 2**0.5 * SPREAD)
    near = [(Path(one["image"]).name, one["score"]) for one in told["within_chance_of"]]
    assert near == [("02-0.png", 0.99), ("00-0.png", 0.83)]
    said = f"{NOISE} of the request as it is (0.83) and 02-0.png (0.99)"
    assert said in ran.err
    page = (Path(told["folder"]) / "index.html").read_text()
    assert said in page
    assert 'class="band"' in page
    assert f"{NOISE} of the best" in page


def test_the_blind_comparison_settles_what_is_within_the_noise(cli):
    ran, told = refined(cli, SCORES, [6, 5, 4])
    assert (told["best"]["score"], told["best"]["round"], told["settled"]) == (0.99, 2, True)
    ran, told = refined(cli, SCORES, [4])
    assert (told["best"]["score"], told["settled"], told["comparison"]) == (0.83, True, None)
    assert "the critic prefers it, side by side, to 01-0.png (0.99)" in ran.err
    page = (Path(told["folder"]) / "index.html").read_text()
    assert "the critic prefers it, side by side, to 01-0.png (0.99)" in page
    assert json.loads((Path(told["folder"]) / "run.json").read_text())["settled"] == "00-0.png"
    assert gcr.load_run(told["folder"]).settled == "00-0.png"


PAIRS = ("--select", "pairwise")


def test_pairs_may_decide_whatever_the_scores_are(cli):
    scores = {4: 0.2, 5: 0.99, 6: 0.5}
    ran, told = refined(cli, scores, [6, 4, 5], *PAIRS)
    assert (told["best"]["score"], told["settled"]) == (0.5, True)
    assert "it won, side by side, though 01-0.png scored higher (0.99)" in ran.err
    # The highest score meets the lowest, and the winner the one between; then first and best.
    order = [(5, 4), (4, 5), (4, 6), (6, 4), (4, 6), (6, 4)]
    assert cli.models["critic"].pairs == order
    _, told = refined(cli, scores, [5], *PAIRS)
    assert (told["best"]["score"], told["settled"]) == (0.99, False)
    _, told = refined(cli, scores, [6], *PAIRS, "--no-compare")
    assert (told["best"]["score"], told["comparison"]) == (0.5, None)
    assert cli.models["critic"].pairs == [(5, 4), (4, 5), (5, 6), (6, 5)]


def test_pairs_are_asked_within_a_budget(cli):
    cli.models["critic"] = Noisy({i: i / 40 for i in range(40)}, range(40))
    options = ("--rounds", "4", "--images", "8", "--no-compare", "--json")
    told = json.loads(cli("refine", "a red circle", *options, *PAIRS).out)
    pairs = cli.models["critic"].pairs
    assert len(pairs) == 2 * (BRACKET - 1)
    drawn = max(max(pair) for pair in pairs)
    assert told["best"]["score"] == (drawn - BRACKET + 1) / 40  # the one it likes best of these


def test_pairs_need_a_rubric_that_asks_for_them(cli, tmp_path):
    rules = tmp_path / "own.yaml"
    rules.write_text("name: own\ndescription: none\nbase: pocket\ncomparison: ''\n")
    ran = cli("refine", "a red circle", "--rubric", str(rules), *PAIRS)
    assert (ran.code, "the rubric own has no comparison" in ran.err) == (2, True)


def test_a_folder_of_before_there_was_a_choice_goes_on(cli):
    _, told = refined(cli, SCORES)
    path = Path(told["folder"]) / "run.json"
    assert "select" not in json.loads(path.read_text())["settings"]
    _, told = refined(cli, SCORES, [], *PAIRS)
    path = Path(told["folder"]) / "run.json"
    assert json.loads(path.read_text())["settings"]["select"] == "pairwise"


def test_a_preference_for_one_place_settles_nothing(cli):
    class First(Noisy):
        def compare(self, requests, firsts, seconds):
            return [Preference.FIRST for _ in requests]

    cli.models["critic"] = First(SCORES)
    ran = cli("refine", "a red circle", "--images", "1", "-s", "4", "--rounds", "3", "--json")
    told = json.loads(ran.out)
    assert (told["best"]["score"], told["best"]["round"], told["settled"]) == (0.99, 1, False)


def test_what_is_clearly_worse_is_not_held_against_the_best(cli):
    refined(cli, {4: 0.2, 5: 0.99, 6: 0.3}, [4, 6])
    assert cli.models["critic"].pairs == [(4, 5), (5, 4)]  # the request as it is, as ever


def test_rivals_are_few_whatever_is_drawn(cli):
    cli.models["critic"] = Noisy(dict.fromkeys(range(40), 0.9), range(39, -1, -1))
    told = json.loads(cli("refine", "a red circle", "--rounds", "4", "--images", "8", "--json").out)
    pairs = cli.models["critic"].pairs
    assert len(pairs) <= 2 * (settling.RIVALS + 1)
    assert told["best"]["image"]


def test_without_a_comparison_nothing_is_settled(cli):
    cli.models["critic"] = Noisy(SCORES, [4])
    told = json.loads(
        cli("refine", "a red circle", "--images", "1", "-s", "4", "--no-compare", "--json").out
    )
    assert (told["best"]["score"], told["settled"]) == (0.99, False)
    assert cli.models["critic"].pairs == []


def test_a_run_that_goes_on_is_settled_anew(cli):
    _, told = refined(cli, SCORES, [4])
    folder = runfolder.RunFolder.open(Path(told["folder"]))
    assert folder.run.settled == ""  # as for the other results of a run that goes on
    path = folder.path / "run.json"  # nobody wrote how it ended, as after a kill
    path.write_text(json.dumps({**json.loads(path.read_text()), "stop": None}))
    cli.models["critic"].likes = []
    again = json.loads(cli("resume", told["folder"], "--json").out)
    assert (again["best"]["score"], again["settled"]) == (0.99, False)


def test_without_known_noise_nothing_is_said_of_chance(cli):
    cli.models["critic"] = FakeCritic(SCORES)
    ran = cli("refine", "a red circle", "--images", "1", "-s", "4", "--rounds", "3", "--json")
    told = json.loads(ran.out)
    assert (told["noise"], told["within_chance_of"], told["settled"]) == (None, [], False)
    assert "chance" not in ran.err
    assert 'class="band"' not in (Path(told["folder"]) / "index.html").read_text()


def test_no_dot_stands_above_the_line_of_the_best_so_far(cli):
    _, told = refined(cli, {4: 0.83, 5: 0.99, 6: 0.9})
    run = gcr.load_run(told["folder"])
    from gcr.results.report.run import _bests

    drawn = charts.scores(run, _bests(run), 0.99, margin(run.attempts))
    for dot in drawn.dots:
        line = [s for s in drawn.line if s.y1 == s.y2 and s.x1 <= dot.x <= s.x2]
        assert all(dot.y >= segment.y1 for segment in line)
    top, bottom = drawn.band
    assert top < bottom
    assert all(top <= dot.y <= bottom for dot in drawn.dots)


def test_a_gain_within_the_noise_is_claimed_nowhere(cli, tmp_path):
    cli.models["critic"] = Noisy({0: 0.83, 1: 0.83, 2: 0.99, 3: 0.99, 7: 0.2, 8: 0.2, 9: 0.99})
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "a red circle", "seed": 0}\n{"prompt": "a blue star", "seed": 7}\n'
    )
    ran = cli("batch", "p.jsonl", "--into", "b", "--rounds", "2", "--no-compare")
    (line,) = [line for line in ran.err.splitlines() if ": 0.83 → 0.99" in line]
    assert f"0.83 → 0.99 {NOISE} · " in line
    page = Path("b/index.html").read_text()
    assert page.count('data-kind="gained"') == 1
    assert page.count('data-kind="same"') == 1
    assert "by more than chance" in page


def test_what_was_settled_is_what_is_exported(cli):
    from gcr.results.pairs import gather

    _, told = refined(cli, {4: 0.2, 5: 0.9, 6: 0.99}, [5])
    (pair,) = gather([Path(told["folder"])]).pairs
    assert pair.chosen.image == "01-0.png"


def test_forgetting_undoes_a_calibration(cli, tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    SPREADS.keep(environ, {"pocket:critic pocket reply": 0.125})
    SPREADS.keep(environ, {"pocket:critic pocket soft": 0.01})
    ran = cli("calibrate", "--forget")
    assert (ran.code, ran.out) == (0, "")
    assert "forgotten: a standard deviation of 0.1250 for pocket:critic, rubric pocket" in ran.err
    assert SPREADS.read(environ) == {"pocket:critic pocket soft": 0.01}
    ran = cli("calibrate", "--forget", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"forgotten": None})
    assert "nothing to forget: nothing was measured for pocket:critic, rubric pocket" in ran.err
    ran = cli("calibrate", "--forget", "--score", "soft", "--json", "-q")
    assert (json.loads(ran.out), ran.err) == ({"forgotten": 0.01}, "")
    ran = cli("calibrate", "--forget", "--judges", "3")
    assert (ran.code, "--forget measures nothing" in ran.err) == (2, True)


def test_the_report_of_a_run_that_a_person_ended_says_nothing_of_what_settled_it(cli):
    _, told = refined(cli, SCORES, [4])
    folder = runfolder.RunFolder(Path(told["folder"]), gcr.load_run(told["folder"]), {})
    kept = replace(folder.run, kept="02-0.png")
    assert phrases.settlement(kept) == ""
    assert "band" in report(folder.path).read_text()
