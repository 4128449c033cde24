"""The pages: that they say what is there, and that nothing that is written in them can act."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from folders import (
    HOSTILE,
    SETTINGS,
    make_batch,
    make_comparison,
    make_run,
)
from PIL import Image

import gcr
from gcr.core.plaintext import visible
from gcr.core.records import (
    Attempt,
    Branch,
    Candidate,
    Critique,
    EditedPrompt,
    Extension,
    Preference,
    Remark,
    Request,
    Round,
    Run,
    StopReason,
)
from gcr.engine.machine import ThisMachine
from gcr.engine.waves import branched
from gcr.errors import GcrError, UsageError
from gcr.results.report import charts, page, report
from gcr.results.report.pictures import Pictures
from gcr.results.report.run import Again, _word
from gcr.settings.resolving import resolve
from gcr.settings.schema import recorded
from gcr.storage.runfolder import RunFolder

NOTHING = {"XDG_CONFIG_HOME": "/nowhere"}
"""An environment that says nothing of settings."""


class Page(HTMLParser):
    """A page as a browser sees it.

    tags: (name, attributes) of all elements. text: of all but scripts and style.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.tags = []
        self._open = ""
        self._text = []
        self.feed(self.path.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", " ".join(self._text))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self._text.append(data)

    def all(self, tag, **attributes):
        """The attributes of the elements of a name."""
        return [
            found
            for name, found in self.tags
            if name == tag and attributes.items() <= found.items()
        ]

    def addresses(self):
        names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        return [found[name] for _, found in self.tags for name in names if name in found]


def edited(path):
    folder = make_run(path, "make it red", source="source.png")
    return folder.path


KINDS = {
    "run": lambda path: make_run(path).path,
    "edit": edited,
    "batch": make_batch,
    "comparison": make_comparison,
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """A folder of each kind."""
    return KINDS[request.param](tmp_path / request.param)


def flat(text):
    return re.sub(r"\s+", " ", text).strip()


# What is written by users and models stays text


def hostile_run(path):
    return make_run(path, HOSTILE, text=HOSTILE, negative=HOSTILE, keep=(HOSTILE,)).path


HOSTILE_KINDS = {
    "run": hostile_run,
    "batch": lambda path: make_batch(path, 5, prompt=HOSTILE),
    "comparison": lambda path: make_comparison(path, 4, prompt=HOSTILE),
}


@pytest.mark.parametrize("name", HOSTILE_KINDS)
def test_words_cannot_become_markup(tmp_path, name):
    shown = Page(report(HOSTILE_KINDS[name](tmp_path / name)))
    assert len(shown.all("script")) == 2
    assert not [key for _, found in shown.tags for key in found if key.startswith("on")]
    assert shown.text.count("</script><script>alert(1)</script>") >= 3
    assert "7 * 7" in shown.text
    assert "🦄👩\u200d🚀" in shown.text


def test_everything_a_critique_holds_is_shown_as_it_is(tmp_path):
    shown = Page(report(hostile_run(tmp_path / "run")))
    critic = ("seen: ", "advice: ", "rejected: ", "complaint: ", "# Summary: ")
    rewriter = ("avoid: ", "reply: ", "at first: ", "objection: ")
    for text in critic + rewriter:
        assert flat(text + visible(HOSTILE)) in shown.text


@pytest.mark.parametrize("name", HOSTILE_KINDS)
def test_nothing_in_a_page_acts_unseen(tmp_path, name):
    """Control characters and marks that turn the direction are shown as signs."""
    text = report(HOSTILE_KINDS[name](tmp_path / name)).read_text()
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("a\x07b\x7f", "a␇b␡"),
        ("\u202etxt\u202c", "[U+202E]txt[U+202C]"),
        ("\x9b1m", "[U+009B]1m"),
        ("two\n\tlines, \u200fשלום", "two\n\tlines, \u200fשלום"),
    ],
)
def test_what_would_act_unseen_is_made_visible(words, shown):
    assert visible(words) == shown


def test_only_our_own_scripts_may_run(kind):
    shown = Page(report(kind))
    (policy,) = [meta["content"] for meta in shown.all("meta") if "http-equiv" in meta]
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", shown.path.read_text(), re.DOTALL)
    assert scripts
    for script in scripts:
        assert f"'sha256-{page._digest(script)}'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_half_of_a_surrogate_pair_does_not_stop_a_page(tmp_path):
    folder = make_batch(tmp_path / "b", 2)
    summary = folder / "summary.jsonl"
    summary.write_text(summary.read_text().replace("0 red", "\\ud83e red"))
    assert "? red circles" in Page(report(folder)).text


# Nothing comes from elsewhere


def test_pages_load_nothing_but_the_images_beside_them(kind):
    shown = Page(report(kind))
    for address in shown.addresses():
        assert not re.match(r"[a-z]+:|//", address.replace("data:,", "")), address
        if not address.startswith(("#", "data:")):
            assert (kind / address).is_file(), address
    assert shown.all("img")
    assert "http" not in re.sub(r"http-equiv", "", shown.path.read_text())
    assert "@import" not in shown.path.read_text()
    assert "url(" not in shown.path.read_text()


def test_a_standalone_page_needs_no_other_file(kind, tmp_path):
    before = sorted(kind.rglob("*"))
    shown = Page(report(kind, tmp_path / "page.html", standalone=True))
    assert shown.path == tmp_path / "page.html"
    assert shown.all("img")
    for address in shown.addresses():
        assert address.startswith(("data:", "#")), address
    assert sorted(kind.rglob("*")) == before


def test_a_page_elsewhere_finds_its_images(kind, tmp_path):
    shown = Page(report(kind, tmp_path / "page.html"))
    images = [image["src"] for image in shown.all("img")]
    assert images
    assert all((tmp_path / source).is_file() for source in images)


def test_a_page_is_titled_by_its_file_or_its_run(kind):
    title = re.search(r"<title>(.*)</title>", report(kind).read_text())[1]
    assert title == (kind.name if kind.name in ("run", "edit") else "shapes.txt")


def test_odd_names_of_folders_are_quoted(tmp_path):
    folder = make_run(tmp_path / "a b#c?d%20é").path
    shown = Page(report(folder, tmp_path / "page.html"))
    assert shown.all("img", src="a%20b%23c%3Fd%2520%C3%A9/00-0.png")


# One run


def test_a_run_is_told_whole(tmp_path):
    folder = make_run(tmp_path / "run", "a red circle", negative="dogs", keep=("red",))
    folder.finish(StopReason.PLATEAU, folder.run.attempts[2], Preference.SECOND)
    shown = Page(report(folder.path))
    for text in (
        *("a red circle", "without: dogs", "“red”", "the score stopped rising"),
        *("better than the request as it is", "0.30 →", "0.80", "4 images in 2 rounds"),
        *("text faithfulness", "1.9 of 4", "n/a", "is there a circle?", "30%", "seed 2"),
        *("Written, but not drawn", "complaint: a circle in the middle", "unscored: unreadable"),
        *("steps", "14", "Versions", "the request as it is"),
        *("knowing all that was tried", "wording:", "avoid: a circle in the middle"),
    ):
        assert text in shown.text, text
    assert len(shown.all("input", type="range")) == 1
    assert len(shown.all("article")) == 4


def test_a_run_whose_first_image_is_its_best_has_nothing_to_compare(tmp_path):
    shown = Page(report(make_run(tmp_path / "run", scores=((0.9, 0.2), (0.5, 0.5))).path))
    assert not shown.all("input", type="range")
    assert "was not surpassed" in shown.text


def test_an_edit_shows_its_source(tmp_path):
    shown = Page(report(edited(tmp_path / "run")))
    assert [radio["data-name"] for radio in shown.all("input", type="radio")] == [
        "the source",
        "the request as it is, 0.30",
    ]
    assert shown.all("a", href="source.png")


def test_an_image_that_a_person_kept_is_the_one_that_is_shown(tmp_path):
    folder = make_run(tmp_path / "run")
    folder.decide(branched(folder.run, folder.run.attempts[1], keep=True))
    folder.finish(StopReason.CHOSEN, folder.run.attempts[1])
    shown = Page(report(folder.path))
    assert "kept: round 0, 0.50" in shown.text
    assert "you had enough" in shown.text


def test_a_run_without_a_score_shows_what_was_drawn(tmp_path):
    shown = Page(report(make_run(tmp_path / "run", scores=((None,), (None,))).path))
    assert "no image could be scored" in shown.text
    assert "an image that could not be scored" in shown.text
    assert shown.text.count("unscored: unreadable reply") == 2


def test_a_run_without_rounds_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    folder = RunFolder.begin(tmp_path / "run", Run("x", Request("a cat"), SETTINGS))
    assert "in progress, or was cut off" in Page(report(folder.path)).text
    folder.finish(StopReason.FAILED, None)
    assert "No image has been drawn: the run failed." in Page(report(folder.path)).text


def test_images_that_are_missing_or_damaged_are_named(tmp_path):
    folder = make_run(tmp_path / "run").path
    (folder / "01-0.png").unlink()
    (folder / "00-1.png").write_bytes(b"no image")
    shown = Page(report(folder))
    assert "01-0.png is missing" in shown.text
    assert "00-1.png is damaged" in shown.text


def test_small_images_keep_their_pixels_and_large_ones_are_smooth(tmp_path):
    for size, tiny in ((64, True), (1024, False)):
        shown = Page(report(make_run(tmp_path / str(size), scores=((0.1,),), size=size).path))
        assert all(("tiny" in image["class"]) is tiny for image in shown.all("img"))
        assert {image["width"] for image in shown.all("img")} == {str(size)}


def test_a_run_in_progress_is_read_and_not_touched(tmp_path):
    folder = make_run(tmp_path / "run")
    lines = folder.path / "rounds.jsonl"
    with lines.open("ab") as file:
        file.write(b'{"index": 2, "att')
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.path.iterdir()}
    assert len(Page(report(folder.path)).all("article")) == 4
    assert gcr.load_run(folder.path).rounds == folder.run.rounds
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}


def test_a_run_is_loaded_as_it_was_left(tmp_path):
    folder = make_run(tmp_path / "run", keep=("red",))
    folder.decide(branched(folder.run, folder.run.attempts[1], keep=True))
    folder.finish(StopReason.CHOSEN, folder.run.attempts[1], Preference.TIE)
    loaded = gcr.load_run(str(folder.path))
    assert loaded == folder.run
    assert (loaded.stop, loaded.comparison, loaded.kept) == ("chosen", "tie", "00-1.png")
    with pytest.raises(UsageError, match="no run in"):
        gcr.load_run(tmp_path)
    story = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**story, "stop": "bored"}))
    with pytest.raises(GcrError, match="bored"):
        gcr.load_run(folder.path)


# Commands that do it again


@pytest.fixture
def shell(tmp_path):
    """Runs a command line in a POSIX shell, where `gcr` is this one; returns stdout's last line."""
    (tmp_path / "bin").mkdir()
    script = f'#!/bin/sh\nexec "{sys.executable}" -m gcr "$@"\n'
    (tmp_path / "bin" / "gcr").write_text(script)
    (tmp_path / "bin" / "gcr").chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    home = {"XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(Path(gcr.__file__).parents[1])}
    environ = {**os.environ, **home, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def run(line):
        ran = subprocess.run(
            ["/bin/sh", "-c", line],
            env=environ,
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return tmp_path / "elsewhere" / ran.stdout.splitlines()[-1]

    return run


def seen(path):
    with Image.open(path) as image:
        return image.size, image.convert("RGB").tobytes()


def test_the_page_s_commands_draw_the_same_pictures(tmp_path, shell):
    """Also where the prompt is all that a shell could take amiss."""
    prompt = 'two red circles, it\'s "$HOME" `id` \\ & a blue star; *'
    outcome = gcr.refine(
        prompt, output=tmp_path / "out", seed=5, images=2, rounds=2, steps=6, negative="a 'cross'"
    )
    run = gcr.load_run(outcome.folder)
    shown = Page(report(outcome.folder))
    copies = [button["data-copy"] for button in shown.all("button") if "data-copy" in button]
    whole, *others = [text for text in copies if text.startswith("gcr refine ")]
    assert prompt in copies
    assert len(others) == len(run.attempts) == 4
    again = gcr.load_run(shell(whole).parent)
    assert [a.candidate for a in again.attempts] == [a.candidate for a in run.attempts]
    folder = next((tmp_path / "elsewhere" / "outputs").glob("*/*"))
    for attempt in run.attempts:
        assert seen(folder / attempt.image) == seen(outcome.folder / attempt.image)
    last = run.attempts[-1]
    assert seen(shell(others[-1])) == seen(outcome.folder / last.image)
    assert seen(outcome.folder / last.image) != seen(outcome.folder / "00-0.png")


def test_a_command_has_what_decides_and_nothing_else():
    def command(settings, prompt="a cat", **attempt):
        run = replace(scored((0.5,)), request=Request(prompt), settings=settings)
        again = Again(run, Path("run"), Pictures(Path("run/index.html"), embed=False))
        drawn = Candidate(prompt, 7, **attempt)
        return again.whole, again.of(Attempt(drawn, Critique(), "00-0.png"))

    flags = {"profile": "pocket", "seed": 3, "rounds": 6, "max_images": 8, "compare": False}
    settings = resolve(flags, ThisMachine(), environ=NOTHING).settings
    kept = recorded(replace(settings, lora=("-x.safetensors:0.5", "y")), "0")
    whole, image = command(kept, negative="a dog")
    models = "--lora=-x.safetensors:0.5 --lora y"
    assert whole == (
        f"gcr refine 'a cat' --profile pocket --seed 3 {models} --rounds 6 --max-images 8 "
        "--no-compare"
    )
    assert image == (
        f"gcr refine 'a cat' --profile pocket --seed 7 {models} --negative 'a dog' --no-compare "
        "--rounds 1 --images 1"
    )
    assert command(kept, "-x")[0].endswith(" -- -x")
    # What a page shows as a sign is written by its bytes, and so is what UTF-8 cannot hold.
    odd = "it's a \u202ecat\x1b \\n 5%d `id` $HOME! \udcff" + "7"
    words = command(kept, odd)[0].partition(" --profile")[0].removeprefix("gcr refine ")
    ended = _word(f"-n{odd}\n\n")
    for text, written in {odd: words, f"-n{odd}\n\n": ended}.items():
        assert visible(written) == written
        assert written.isascii()
        assert "!" not in written  # which a shell that is typed into would look up
        shells = {shutil.which(name) for name in ("sh", "dash", "bash", "busybox", "zsh")} - {None}
        for shell in shells:
            name = ["sh"] if shell.endswith("busybox") else []
            printed = subprocess.check_output([shell, *name, "-c", f"printf %s {written}"])
            assert os.fsdecode(printed) == text, shell
    # Neither an image's start nor a profile that is not there any more can be given.
    assert command(kept, start="00-0.png")[1] == ""
    assert command({**kept, "profile": "gone"}) == ("", "")


@pytest.mark.parametrize(
    ("decided", "upto"),
    [
        ({}, ""),
        ({"stop": StopReason.TARGET}, ""),
        ({"branches": (Branch(2, "00-0.png"),)}, "up to round 1"),
        ({"remarks": (Remark(1, "x"),), "branches": (Branch(2, "00-0.png"),)}, "up to round 0"),
        ({"edited_prompts": (EditedPrompt(1, "x"),)}, "up to round 0"),
        ({"extensions": (Extension(0, 5),)}, "as it was begun"),
        ({"stop": StopReason.CHOSEN}, "up to round 1"),
    ],
)
def test_a_command_says_what_a_person_decided_that_is_not_in_it(decided, upto):
    run = replace(scored((0.5,), (0.6,)), **decided)
    told = Again(run, Path("run"), Pictures(Path("run/index.html"), embed=False)).left_out
    assert told == (
        upto and f"the command draws this run {upto}; what you decided after that is not in it"
    )


def test_a_command_edits_what_its_image_was_an_edit_of():
    """The source, or the image that a person went on from."""
    settings = resolve(
        {"profile": "8gb", "seed": 3}, ThisMachine(), environ=NOTHING, edit=True
    ).settings
    request = Request("make it red", source="source.png")
    run = replace(scored((0.5,)), request=request, settings=recorded(settings, "0"))

    def edited(edits, *, embed):
        again = Again(run, Path("/run"), Pictures(Path("/run/index.html"), embed=embed))
        image = again.of(Attempt(Candidate("make it red", 7, edits=edits), Critique(), "02-0.png"))
        return [shlex.split(command)[-1] for command in (again.whole, image)]

    assert edited("", embed=False) == ["/run/source.png", "/run/source.png"]
    assert edited("01-0.png", embed=False) == ["/run/source.png", "/run/01-0.png"]
    assert edited("01-0.png", embed=True) == ["source.png", "01-0.png"]


# The charts


def scored(*rounds):
    return Run(
        "x",
        Request("a cat"),
        {"target": 0.9},
        tuple(
            Round(
                index,
                tuple(
                    Attempt(Candidate("a cat", place), Critique(overall=score), f"{index}-{place}")
                    for place, score in enumerate(row)
                ),
            )
            for index, row in enumerate(rounds)
        ),
    )


def test_a_chart_has_a_dot_for_each_image_and_a_line_for_the_best():
    chart = charts.scores(scored((0.5, None), (0.25, 1.0)), [0.5, 1.0])
    assert [(dot.x, dot.y, dot.score) for dot in chart.dots] == [
        (pytest.approx(50 / 3), charts.TOP + charts.HEIGHT / 2, 0.5),
        (pytest.approx(100 / 3), charts.TOP + charts.HEIGHT, None),
        (pytest.approx(50 + 50 / 3), charts.TOP + charts.HEIGHT * 0.75, 0.25),
        (pytest.approx(50 + 100 / 3), charts.TOP, 1.0),
    ]
    ends = [(s.x1, s.y1, s.x2, s.y2) for s in chart.line]
    assert ends == [(0, 102, 50, 102), (50, 102, 50, 12), (50, 12, 100, 12)]
    assert chart.ticks == ((25, 0), (75, 1))
    assert chart.target == pytest.approx(30)


def test_a_line_begins_where_something_is_scored():
    chart = charts.scores(scored((None,), (0.5,)), [None, 0.5])
    assert [(s.x1, s.x2) for s in chart.line] == [(50, 100)]
    assert charts.scores(scored(), []).line == ()


@pytest.mark.parametrize(
    "scores", [(0.0, 5e-324), (0.0, 1e-14), (1e15, 1e15 + 0.125), (-1e15, 1e15)]
)
def test_a_plot_of_any_scores_has_its_points_inside(scores):
    plot = charts.plot({"a": [(1.0, scores[0]), (2.0, scores[1])]}, dotted=True)
    places = [y for _, y in plot.lines[0].dots]
    assert all(charts.TOP - 1 <= y <= charts.TOP + charts.PLOT + 1 for y in places)


def test_a_scale_shows_all_differences_and_is_even():
    scale = charts.Scale.of([0.22, -0.31, 0.08])
    assert scale.reach == pytest.approx(0.35)
    assert scale.place(0) == 50
    assert scale.place(0.35) == pytest.approx(93)
    assert scale.place(-0.35) == pytest.approx(7)
    assert scale.whisker(0.1, None).low is None
    assert charts.Scale.of([]).reach > 0
    assert charts.Scale.of([1.0, -0.2]).reach == 1


# Batches and comparisons


def test_a_batch_is_counted_and_every_prompt_has_its_page(tmp_path):
    folder = make_batch(tmp_path / "b", 12)
    shown = Page(report(folder))
    cards = shown.all("li")
    kinds = [card["data-kind"] for card in cards if "data-kind" in card]
    assert [kinds.count(kind) for kind in ("gained", "same", "failed")] == [6, 3, 2]
    assert "12 1 not done" in shown.text
    assert "of 9 with both scores" in shown.text
    links = [link["href"] for link in shown.all("a") if link.get("href", "").startswith("runs/")]
    assert len(links) == 9
    assert Page(folder / links[0]).all("a", href="../../index.html")
    assert shown.text.count("no stars") == 2
    assert "the target score was reached" in shown.text


def test_a_batch_that_has_just_begun_has_a_page(tmp_path):
    folder = make_batch(tmp_path / "b", 1)
    shown = Page(report(folder))
    assert "No prompt is done yet." in shown.text
    assert "1 1 not done" in shown.text


def test_thumbnails_are_made_once_and_only_of_large_images(tmp_path):
    assert not (report(make_batch(tmp_path / "small", 3)).parent / "thumbnails").exists()
    folder = make_batch(tmp_path / "large", 3, size=800)
    shown = Page(report(folder))
    made = sorted((folder / "thumbnails").iterdir())
    assert len(made) == 4
    assert {image["src"] for image in shown.all("img")} == {f"thumbnails/{p.name}" for p in made}
    times = [path.stat().st_mtime_ns for path in made]
    report(folder)
    assert [path.stat().st_mtime_ns for path in made] == times
    later = max(times) // 10**9 + 10
    os.utime(folder / "runs/p0/best.png", (later, later))
    report(folder)
    assert sum(p.stat().st_mtime_ns != t for p, t in zip(made, times, strict=True)) == 1


def test_a_comparison_tells_what_was_shown_and_then_what_is_suspected(tmp_path):
    folder = make_comparison(tmp_path / "c")
    record = json.loads((folder / "compare.json").read_text())
    suspicion = {"arm": "refine", "against": "raw", "prompts": 6, "suspects": 5, "opposite": 0}
    record["suspicions"] = [{**suspicion, "p": 0.03125, "founded": True}]
    (folder / "compare.json").write_text(json.dumps(record))
    shown = Page(report(folder))
    parts = ("Refining helped: judged by truth", "Differences", "Arms", "Possible reward hacking")
    order = [shown.text.index(words) for words in parts]
    assert order == sorted(order)
    for text in (
        *("critic +0.40, evaluator −0.20", "3 wins, 3 ties, 0 losses", "better", "too few"),
        *("+0.22, +0.08 to +0.36 · p = 0.004", "about 410 more prompts", "out of memory"),
        *("measured by truth, steered by pocket:critic", "at most 4 images a prompt"),
    ):
        assert text in shown.text, text
    assert shown.all("a", href="#prompt-1")
    assert shown.all("li", id="prompt-1")[0]["data-kind"] == "won-1 suspect"
    assert shown.all("li", id="prompt-2")[0]["data-kind"] == "won-0 failed"
    assert shown.all("a", href="refine/runs/p0/index.html")
    assert (folder / "refine/runs/p0/index.html").is_file()


def test_a_comparison_without_figures_says_what_there_is(tmp_path):
    """As where everything failed, and no prompt has a category."""
    folder = make_comparison(tmp_path / "c", 2)
    record = json.loads((folder / "compare.json").read_text())
    nothing = {"difference": None, "interval": None, "p": None, "wins": 0, "ties": 0}
    record["pairs"] = [{**record["pairs"][0], **nothing, "adjusted": None, "verdict": "too few"}]
    for arm in record["arms"]:
        arm.update(mean=None, critic_mean=None)
    unreached = {"run": "", "image": "", "score": None, "critic": None, "failure": "not finished"}
    for prompt in record["prompts"]:
        prompt["category"] = None
        prompt["arms"]["refine"].update(unreached)
    (folder / "compare.json").write_text(json.dumps({**record, "suspects": []}))
    shown = Page(report(folder))
    assert "too few –" in shown.text
    assert shown.text.count("not finished") == 2
    assert "reward hacking" not in shown.text
    assert not shown.all("select", name="category")
    assert not shown.all("a", href="index.html")


def test_a_comparison_that_is_none_is_said(tmp_path):
    folder = make_comparison(tmp_path / "c", 2)
    record = json.loads((folder / "compare.json").read_text())
    del record["prompts"][1]["arms"]["raw"]["score"]
    (folder / "compare.json").write_text(json.dumps(record))
    with pytest.raises(GcrError, match=r"compare\.json is not the record of a comparison"):
        report(folder)
    (folder / "compare.json").write_text("[")
    with pytest.raises(GcrError, match="is not the record of a comparison"):
        report(folder)


def test_numbers_read_as_a_person_writes_them():
    shown = [page.signed(value) for value in (0.254, -0.1, 0.001, -0.001, None)]
    assert shown == ["+0.25", "−0.10", "±0.00", "±0.00", "–"]
    values = ([], ["a", "b"], True, None, "", 0, {"a": [1]})
    assert [page.written(v) for v in values] == ["–", "a, b", "yes", "–", "–", "0", "a: 1"]


def test_a_comparison_that_is_not_done_says_what_to_do(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "arms.json").write_text("{}")
    with pytest.raises(UsageError, match="not done") as caught:
        report(tmp_path / "c")
    assert "gcr resume" in caught.value.hint


def test_runs_of_batches_elsewhere_keep_their_pages(tmp_path):
    folder = make_comparison(tmp_path / "c", 2)
    figures = json.loads((folder / "compare.json").read_text())
    (tmp_path / "elsewhere").mkdir()
    for prompt in figures["prompts"]:
        for arm in prompt["arms"].values():
            arm["run"], arm["image"] = f"../c/{arm['run']}", f"../c/{arm['image']}"
    (tmp_path / "elsewhere" / "compare.json").write_text(json.dumps(figures))
    report(folder)
    pages = {path: path.read_bytes() for path in folder.rglob("index.html")}
    report(tmp_path / "elsewhere")
    assert len(pages) > 2
    assert pages == {path: path.read_bytes() for path in folder.rglob("index.html")}


def test_of_many_rounds_every_fifth_is_named_below_the_chart(tmp_path):
    page = report(make_run(tmp_path / "run", scores=[(n / 30,) for n in range(30)]).path)
    named = re.findall(r'text-anchor="middle">(\d+)<', page.read_text())
    assert named == ["0", "5", "10", "15", "20", "25"]
