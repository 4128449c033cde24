"""gcr critique: the critic alone, on pictures that somebody else may have made."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import serving
from fakes import FakeCritic, paint
from PIL import Image
from replies import REPLY
from serving import completion

import gcr
from gcr.core.records import AspectScore, Critique
from gcr.engine import models

ROOT = Path(__file__).parents[2]
LOW = Critique(
    (AspectScore("Text Faithfulness", 1.9, "the circle is blue"),),
    0.3,
    "the colour is wrong",
    "name the colour first",
    "a circle, red all over",
    raw="reply",
)
HIGH = replace(LOW, overall=0.9, summary="all is there", refined=None)


@pytest.fixture
def critic(cli, monkeypatch, tmp_path):
    """The critic that is loaded, and three pictures in three formats: 1.png, 2.jpg, 3.webp."""
    critic = FakeCritic({})
    monkeypatch.setattr(models, "load_critic", lambda *_, **__: critic)
    monkeypatch.setattr(models, "load_models", lambda *_, **__: 1 / 0)  # no generator
    for seed, kind in ((1, "png"), (2, "jpg"), (3, "webp")):
        picture = paint(seed << 20).resize((32, 32))
        options = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(kind, {})
        picture.save(tmp_path / f"{seed}.{kind}", **options)
    judge = critic.judge

    def rounded(requests, images, sources=()):
        """What a JPEG loses of a colour, a fake critic would take for another seed."""
        reds = [round(image.getpixel((0, 0))[0] / 16) for image in images]
        return judge(requests, [paint(red) for red in reds], sources)

    critic.judge = rounded
    return critic


def test_pictures_are_ranked_and_said_what_is_wrong_with(cli, critic):
    critic.says = {1: LOW, 2: HIGH, 3: 0.5}
    ran = cli("critique", "1.png", "2.jpg", "3.webp", "a red circle")
    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert [line for line in lines if line[:2] in ("1.", "2.", "3.")] == [
        "1. 2.jpg",
        "2. 3.webp",
        "3. 1.png",
    ]
    for words in (
        "text faithfulness 1.9  the circle is blue",
        "the colour is wrong",
        "name the colour first",
        "try: a circle, red all over",
    ):
        assert words in lines
    assert [request.prompt for request, _ in critic.calls[0]] == ["a red circle"] * 3


def test_json_has_all_of_it_best_first(cli, critic):
    critic.says = {1: LOW, 2: HIGH}
    ran = cli("critique", "1.png", "2.jpg", "a red circle", "-n", "dogs", "--json", "-q")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)
    assert (told["prompt"], told["negative"], told["best"]) == ("a red circle", "dogs", "2.jpg")
    assert [(each["image"], each["score"]) for each in told["images"]] == [
        ("2.jpg", 0.9),
        ("1.png", 0.3),
    ]
    assert told["images"][1]["aspects"][0]["justification"] == "the circle is blue"
    assert told["images"][1]["refined"] == "a circle, red all over"


def test_a_refined_prompt_keeps_to_the_guards(cli, critic):
    critic.says = {1: replace(LOW, refined="a circle, score 4")}
    ran = cli("critique", "1.png", "a red circle")
    assert "not drawn: a circle, score 4" in ran.out
    assert "try:" not in ran.out


def test_scores_within_chance_of_the_best_are_named(cli, critic):
    critic.says = {1: replace(LOW, overall=0.8, spread=0.1), 2: replace(HIGH, spread=0.1)}
    ran = cli("critique", "1.png", "2.jpg", "a red circle")
    assert "within chance (±.23) of the best: 1.png" in ran.out


@pytest.mark.parametrize(("says", "code"), [({1: LOW}, 3), ({}, 1)])
def test_what_could_not_be_scored_is_in_the_exit_code(cli, critic, says, code):
    critic.says, critic.otherwise = says, None
    ran = cli("critique", "1.png", "2.jpg", "a red circle")
    assert ran.code == code
    assert "unscored: unreadable reply" in ran.out
    assert "error: " in ran.err


def test_phrases_that_the_embedded_critic_does_not_know_are_marked(cli, critic):
    critic.otherwise = replace(HIGH, untrusted=("on wood",))
    ran = cli("critique", "1.png", "a red circle on wood")
    assert ran.code == 0
    assert "warning: the embedded pair does not understand “on wood”" in ran.err
    assert "0.90 untrusted" in ran.out
    assert "untrusted: the score says nothing of “on wood”" in ran.out


def test_pictures_from_elsewhere_are_warned_of_with_the_embedded_critic(cli, critic):
    Image.new("RGB", (128, 128)).save("own.png")
    ran = cli("critique", "own.png", "1.png", "a red circle")
    assert "warning: 1 of 2 images cannot be of the embedded generator" in ran.err
    assert "warning" not in cli("critique", "own.png", "a red circle").err
    assert "warning" not in cli("critique", "1.png", "a cat", "--critic", "owner/critic").err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("1.png", "2.jpg"), "there is no prompt: the last argument, 2.jpg, is a file"),
        (("1.png", " "), "the prompt is empty"),
        (("1.png", "a cat"), "the embedded critic understands nothing of “a cat”"),
        (("1.png", "no.png", "a red circle"), "cannot read no.png: No such file"),
        (("1.png", "text.png", "a red circle"), "text.png is not an image"),
        (("1.png",), "there is no prompt: the last argument, 1.png, is a file"),
        (("a red circle",), "there are no images to judge"),
        ((), "Missing argument 'PROMPT'"),
        (("1.png", "a cat " * 50), "the embedded critic understands nothing of “a cat a cat"),
        (("1.png", "a red circle", "--judges", "0"), "--judges"),
    ],
)
def test_wrong_usage_is_refused_before_a_model_is_loaded(
    cli, critic, monkeypatch, tmp_path, arguments, says
):
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(models, "load_critic", lambda *_, **__: 1 / 0)
    ran = cli("critique", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_from_python_with_the_embedded_critic(tmp_path):
    outcome = gcr.refine("a red circle", rounds=1, images=2, output=tmp_path)
    first, second = (outcome.folder / attempt.image for attempt in outcome.run.attempts)
    with Image.open(second) as picture:
        ranking = gcr.critique([first, picture], "a red circle", profile="pocket")
    assert {judged.image for judged in ranking.judgements} == {str(first), "image 2"}
    scores = {attempt.image: attempt.score for attempt in outcome.run.attempts}
    assert {judged.score for judged in ranking.judgements} == set(scores.values())
    alone = gcr.critique(first, "a red circle")
    assert alone.judgements[0].score == scores[first.name]
    with pytest.raises(gcr.UsageError, match="no images"):
        gcr.critique([], "a red circle")


def test_behind_a_server_none_of_the_libraries_of_models_is_imported(tmp_path):
    """They take longer to import than the server to answer."""
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    code = (
        "import sys; from gcr.__main__ import main; code = main();"
        "loaded = {'torch', 'transformers', 'diffusers'} & {*sys.modules};"
        "sys.exit(f'{loaded} were imported' if loaded else code)"
    )
    stage = serving.Staged()
    stage.answer = lambda _: completion(REPLY)
    try:
        ran = subprocess.run(
            [
                *(sys.executable, "-c", code, "critique", "image.png", "a red cat"),
                *("--json", "--critic", stage.url),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        stage.close()
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["images"][0]["score"] is not None
