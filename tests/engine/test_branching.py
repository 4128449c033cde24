"""A person goes on from an image instead of the best, and that is right wherever a run is read."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SCORES, FakeCritic, FakeGenerator
from folders import make_batch
from PIL import Image

import gcr
from gcr.core import history, ranking, stopping
from gcr.core.records import Attempt, Branch, Candidate, Critique, Request, Round, Run, Wording
from gcr.core.strategies import BestOfN, Evolve, Refine, Reflect, Rewrite


def attempt(name, prompt, seed, score, refined=None, **candidate):
    critique = Critique(overall=score, refined=refined, raw="fine")
    return Attempt(Candidate(prompt, seed, **candidate), critique, name)


@pytest.fixture
def run():
    """Three rounds of one image, of which the last is the best."""
    attempts = (
        attempt("00-0.png", "a circle", 0, 0.5, "one"),
        attempt("01-0.png", "one", 1, 0.3, "two"),
        attempt("02-0.png", "two", 2, 0.8, "three"),
    )
    rounds = tuple(Round(i, (each,)) for i, each in enumerate(attempts))
    return Run("r", Request("a circle"), {"seed": 0}, rounds)


def names(run):
    return [attempt.image for attempt in run.attempts]


def on_from(run, image, **branch):
    return replace(run, branches=(*run.branches, Branch(len(run.rounds), image, **branch)))


def drawn(run, score, candidate=None):
    image = attempt(f"{len(run.rounds):02d}-0.png", "four", len(run.rounds), score, "five")
    image = replace(image, candidate=candidate or image.candidate)
    return replace(run, rounds=(*run.rounds, Round(len(run.rounds), (image,))))


# What follows from what


def test_a_line_is_what_led_to_the_image_and_what_came_of_it(run):
    assert names(run.line) == ["00-0.png", "01-0.png", "02-0.png"]
    first = drawn(on_from(run, "01-0.png"), 0.4)
    assert names(first.line) == ["00-0.png", "01-0.png", "03-0.png"]
    assert [a.image for a in ranking.parents(first)] == ["03-0.png", "01-0.png"]
    second = drawn(on_from(first, "02-0.png"), 0.1)
    assert names(second.line) == ["00-0.png", "01-0.png", "02-0.png", "04-0.png"]
    third = drawn(on_from(second, "03-0.png"), 0.1)
    assert names(third.line) == ["00-0.png", "01-0.png", "03-0.png", "05-0.png"]
    assert third.line.line == third.line
    assert ranking.best(third).image == "02-0.png"  # all that was drawn competes
    assert names(replace(third, rounds=third.rounds[:2]).line) == ["00-0.png", "01-0.png"]


def test_every_strategy_goes_on_from_the_image(run):
    run = on_from(run, "01-0.png")
    assert Refine(2, 0).propose(run) == (Candidate("two", 1), Candidate("two", 4))
    assert Rewrite(2, 0).propose(run) == (Candidate("two", 1), Candidate("two", 4))
    assert {c.prompt for c in BestOfN(2, 0).propose(run)} == {"one"}
    assert [c.start for c in Reflect(1, 0).propose(run)] == ["01-0.png"]
    assert [(c.seed, c.mutations, c.prompt) for c in Evolve(1, 0).propose(run)] == [
        (1, (3,), "two")
    ]


def test_what_was_drawn_already_is_drawn_on_another_seed(run):
    run = drawn(on_from(run, "01-0.png"), 0.2, Candidate("two", 1))
    again = on_from(run, "01-0.png")
    for strategy in (Refine(1, 0), Rewrite(1, 0)):
        assert strategy.propose(again) == (Candidate("two", 4),)


def test_an_image_without_a_score_is_gone_on_from_too(run):
    *before, last = run.rounds
    blank = replace(last.attempts[0], critique=Critique(problem="blank image"))
    run = on_from(replace(run, rounds=(*before, replace(last, attempts=(blank,)))), "02-0.png")
    assert ranking.parent(run) == blank
    assert [c.start for c in Reflect(1, 0).propose(run)] == ["02-0.png"]


def test_the_rewriter_hears_of_the_line_alone_and_what_must_stay_is_of_the_image(run):
    told = history.describe(drawn(on_from(run, "01-0.png"), 0.4))
    assert [line for line in told.splitlines() if line[:1].isdigit()] == [
        "1. a circle",
        "2. one",
        "3. four",
    ]


def test_a_gain_is_one_on_the_image_and_not_on_the_best(run):
    rule = stopping.StopRule(rounds=99, patience=2)
    run = drawn(drawn(on_from(run, "01-0.png"), 0.4), 0.5)
    assert rule.reason(run) is None  # though neither is as good as 02-0.png
    assert rule.reason(drawn(drawn(run, 0.5), 0.5)) == "plateau"
    over = drawn(drawn(replace(run, branches=()), 0.5), 0.5)
    assert rule.reason(over) == rule.reason(on_from(over, "01-0.png")) == "plateau"


# A run in its folder


@pytest.fixture
def over(cli):
    """Begin a run with options, and come to its end; its folder."""

    def begin(*options):
        usual = ("--rounds", "3", "--images", "1", "--patience", "9")
        assert cli("refine", "a red circle", *usual, *options).code == 0
        (path,) = Path("outputs").glob("*/*")
        return path

    return begin


def story(folder):
    return json.loads((folder / "run.json").read_text())


def candidates(folder):
    return [a.candidate for a in gcr.load_run(folder).attempts]


class Interrupted(FakeGenerator):
    """Stops when it is to draw for the nth time."""

    def __init__(self, nth):
        super().__init__()
        self.nth = nth

    def draw(self, candidates, starts=(), sources=()):
        if len(self.calls) + 1 == self.nth:
            raise KeyboardInterrupt
        return super().draw(candidates, starts, sources)


def test_it_goes_on_from_the_image_and_nothing_is_lost(cli, over):
    folder = over()
    before = (folder / "rounds.jsonl").read_bytes()
    ran = cli("resume", str(folder), "--from-attempt", "01-0")
    assert (ran.code, ran.out) == (0, f"{folder}/best.png\n")
    assert (folder / "rounds.jsonl").read_bytes().startswith(before)
    assert candidates(folder)[3] == Candidate("the prompt after 1", 1)
    told = story(folder)
    assert (told["branches"][0]["after"], told["branches"][0]["image"]) == (3, "01-0.png")
    assert told["extensions"][0]["rounds"] == 6  # three more, as it was over
    assert told["best"]["image"] == "02-0.png"
    words = ("you went on from 01-0.png (0.40) on 20", "the best since you went on from 01-0.png")
    for shown in (ran.err, cli("show", str(folder)).out, (folder / "index.html").read_text()):
        assert all(each in " ".join(shown.split()) for each in words)
    assert 'went on from <a href="#01-0.png">' in (folder / "index.html").read_text()
    known = json.loads(cli("show", str(folder), "--json").out)
    branch = {"after": 3, "image": f"{folder}/01-0.png", "like": False}
    assert known["branches"] == [branch]
    assert "is finished, so nothing is drawn" in cli("resume", str(folder)).err


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_branch_outlasts_an_interruption(cli, over, nth):
    folder = over()
    shutil.copytree(folder, "copy")
    assert cli("resume", "copy", "--from-attempt", "00-0").code == 0
    cli.models["generator"] = Interrupted(nth)
    assert cli("resume", str(folder), "--from-attempt", "00-0").code == 130
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder)).code == 0
    assert candidates(folder) == candidates(Path("copy"))
    assert len(story(folder)["branches"]) == 1


def test_the_page_has_all_branches_after_one_round_and_marks_where_they_begin(cli, over):
    folder = over()
    cli.models["generator"] = Interrupted(1)
    assert cli("resume", str(folder), "--from-attempt", "00-0").code == 130
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder), "--from-attempt", "01-0").code == 0
    page = (folder / "index.html").read_text()
    made = page[page.index("Settings and versions") :]
    words = r"you went on from 00-0\.png \(0\.20\)[^<>]*; then you went on from 01-0\.png \(0\.40\)"
    assert re.search(rf"<dt>after round 2</dt><dd[^>]*>{words}", made)
    chart = page[: page.index('class="legend"')]
    assert re.search(rf'<g role="img" aria-label="{words}', chart)
    assert chart.count('class="turn" x1="50.0%"') == 1  # three rounds of six
    assert "↳ 01-0<" in chart


@pytest.mark.parametrize("name", ["01-0", "01-0.png", "best", "best.png", "{}/01-0.png"])
def test_an_image_is_named_as_people_do(cli, over, name):
    folder = over("--rounds", "2")
    assert cli("resume", str(folder), "--from-attempt", name.format(folder)).code == 0
    assert story(folder)["branches"][0]["image"] == "01-0.png"


def test_what_is_no_image_of_the_run_is_an_error_that_lists_them(cli, over):
    folder = over()
    before = story(folder)
    for name in ("09-0", "elsewhere/01-0.png", "../01-0.png", "run.json"):
        ran = cli("resume", str(folder), "--from-attempt", name)
        assert (ran.code, ran.out) == (2, "")
        assert f"has no image {name!r}" in ran.err
        assert "it has 3 images: 00-0.png, 01-0.png, 02-0.png" in ran.err
    ran = cli("resume", str(folder), "--from-attempt", "")
    assert (ran.code, ran.out) == (2, "")
    assert "the name of the image is empty" in ran.err
    assert story(folder) == before


def test_a_run_that_was_cut_off_draws_what_is_left(cli, over):
    cli.models["generator"] = Interrupted(3)
    usual = ("--rounds", "4", "--images", "1", "--patience", "9")
    assert cli("refine", "a red circle", *usual).code == 130
    (folder,) = Path("outputs").glob("*/*")
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", folder.name[:6], "--from-attempt", "00-0").code == 0
    assert "extensions" not in story(folder)
    assert len(gcr.load_run(folder).rounds) == 4


def test_a_run_without_a_round_is_extended_at_the_beginning(cli):
    cli.models["generator"] = Interrupted(1)
    assert cli("refine", "a red circle", "--images", "1").code == 130
    (folder,) = Path("outputs").glob("*/*")
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder), "--rounds", "+1").code == 0
    assert len(gcr.load_run(folder).rounds) == 1
    assert "<dt>at the beginning</dt>" in (folder / "index.html").read_text()


def test_a_budget_goes_with_it(cli, over):
    folder = over()
    cli("resume", str(folder), "--from-attempt", "00-0", "--max-images", "+2")
    run = gcr.load_run(folder)
    assert (len(run.attempts), run.stop) == (5, "images")
    assert gcr.resume(folder, from_attempt="best", rounds=1).run.branches[1].image == "02-0.png"


def test_a_persons_choice_stays_the_best_and_the_branch_is_gone_on_from(cli, over):
    folder = over()
    from gcr.engine import single

    single.keep(folder, "01-0")
    assert story(folder)["branches"][0]["image"] == "01-0.png"
    assert stopping.is_over(gcr.load_run(folder))
    ran = cli("resume", str(folder), "--rounds", "+1")
    assert "01-0.png stays the best image, as you chose it" in ran.err
    assert candidates(folder)[3] == Candidate("the prompt after 1", 1)
    cli("resume", str(folder), "--from-attempt", "00-0", "--rounds", "+1")
    assert candidates(folder)[4] == Candidate("the prompt after 0", 0)
    assert story(folder)["best"]["image"] == "01-0.png"


def test_the_critic_words_the_next_prompt_anew_and_once(cli, over):
    critic = cli.models["critic"] = FakeCritic(SCORES)
    critic.wordings = {0: Wording("a big circle"), 1: Wording("a blob", "dots"), 2: Wording("fog")}
    folder = over("--rubric", "text-to-image")
    asked = []

    def reword(runs, rejected=(), gallery=None):
        asked.append([names(run.line) for run in runs])
        return [Wording("a red circle, large", "dots", raw="said")]

    critic.reword = reword
    cli.models["generator"] = Interrupted(1)
    assert cli("resume", str(folder), "--from-attempt", "00-0", "--rounds", "+1").code == 130
    wording = story(folder)["branches"][0]["wording"]
    assert (wording["prompt"], wording["raw"]) == ("a red circle, large", "said")
    cli.models["generator"] = FakeGenerator()
    assert cli("resume", str(folder)).code == 0
    assert candidates(folder)[3] == Candidate("a red circle, large", 0, "dots")
    assert asked == [[["00-0.png"]]]
    run = gcr.load_run(folder)
    assert run.seconds > sum(round_.seconds for round_ in run.rounds)
    _, told = (folder / "index.html").read_text().split("with that image in view<")
    shown = ("circle, <ins>large</ins>", ">dots</span>", '<pre dir="auto">said</pre>')
    assert all(words in told.partition("</details>")[0] for words in shown)


def test_where_the_critic_wrote_nothing_its_own_prompt_is_drawn_again_and_that_is_said(cli, over):
    cli.models["critic"] = FakeCritic({0: None, 1: None}, otherwise=None)
    usual = ("--rounds", "2", "--images", "1")
    cli("refine", "a red circle", *usual)
    (folder,) = Path("outputs").glob("*/*")
    ran = cli("resume", str(folder), "--from-attempt", "00-0", "--rounds", "+1")
    assert "the critic wrote no other prompt for 00-0.png" in ran.err
    assert candidates(folder)[2] == Candidate("a red circle", 2)


def test_an_edit_goes_on_editing_the_image_and_is_judged_beside_the_source(cli, tmp_path):
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "in.png")
    usual = ("--rounds", "2", "--images", "1", "--patience", "9", "-m", "owner/editor")
    ran = cli("refine", "make it red", "-i", "in.png", *usual, "--critic", "owner/critic")
    assert ran.code == 0, ran.err
    (folder,) = Path("outputs").glob("*/*")
    generator, critic = FakeGenerator(), FakeCritic(SCORES)
    cli.models.update(generator=generator, critic=critic)
    cli("resume", str(folder), "--from-attempt", "01-0", "--rounds", "+2")
    assert [c.edits for c in candidates(folder)] == ["", "", "01-0.png", "01-0.png"]
    edited = [source.getpixel((0, 0)) for source in generator.sources]
    assert edited == [(0, 0, 1), (0, 0, 1)]  # what the generator of fakes draws from seed 1
    assert {source.getpixel((0, 0)) for source in critic.sources} == {(9, 9, 9)}
    assert "editing 01-0.png" in cli("show", str(folder)).out


def test_runs_of_a_batch_are_of_one_kind(cli, tmp_path):
    batch = make_batch(tmp_path / "shapes", 2)
    for folder in (batch, batch / "runs" / "p0"):
        ran = cli("resume", str(folder), "--from-attempt", "00-0")
        assert (ran.code, ran.out) == (2, "")
        assert "is no single run" in ran.err


def test_a_branch_is_gone_with_the_rounds_before_it(cli, over):
    folder = over()
    cli("resume", str(folder), "--from-attempt", "00-0", "--rounds", "+1")
    log = folder / "rounds.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:1]))
    assert cli("resume", str(folder)).code == 0
    assert candidates(folder)[1:] == [
        Candidate(f"the prompt after {seed}", seed + 1) for seed in range(3)
    ]


@pytest.mark.parametrize(
    "branches",
    [3, [{"after": 1}], [{"after": 3, "image": "09-0.png"}], [{"after": 1, "image": "02-0.png"}]],
)
def test_a_branch_that_cannot_be_is_damage(cli, over, branches):
    folder = over()
    told = {**story(folder), "branches": branches}
    (folder / "run.json").write_text(json.dumps(told))
    ran = cli("resume", str(folder))
    assert ran.code == 1
    assert "run.json, is damaged" in ran.err
    assert cli("show", str(folder)).code == 0  # which shows what can be read
