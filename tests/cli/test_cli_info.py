"""gcr info, and gcr refine --from: an image's story read, and a run that begins with it."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

import gcr

LINES = (
    "a red circle\nNegative prompt: blue stars\n"
    "Steps: 30, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, Model: some_model"
)


def picture(name="in.png", size=(32, 32), **texts):
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.new("RGB", size).save(name, pnginfo=info)
    return name


def settings(ran):
    return gcr.load_run(json.loads(ran.out)["folder"]).settings


def test_info_shows_what_an_image_says(cli):
    ran = cli("info", picture(parameters=LINES))
    assert (ran.code, ran.err) == (0, "")
    rows = {line[:15].strip(): line[15:].strip() for line in ran.out.splitlines()[3:]}
    assert ran.out.startswith("in.png  PNG, 32×32\n\nA1111\n")
    assert rows == {
        "prompt": "a red circle",
        "negative prompt": "blue stars",
        "seed": "5",
        "steps": "30",
        "guidance": "7",
        "size": "512×768",
        "model": "some_model",
        "sampler": "Euler a",
    }


def test_info_as_json_has_texts_as_they_are(cli):
    told = json.loads(cli("info", picture(parameters=LINES, Comment="x"), "--json").out)
    assert (told["file"], told["kind"]) == ("in.png", "PNG")
    assert told["stories"][0]["seed"] == 5
    assert told["texts"] == {"parameters": LINES, "Comment": "x"}


def test_info_as_json_is_json_also_of_what_is_none(cli):
    """NaN and infinity, as ComfyUI writes them."""
    text = '{"positive_prompt": "x", "cfg_scale": NaN, "control": [{"weight": Infinity}, 1e999]}'
    ran = cli("info", picture(invokeai_metadata=text), "--json")
    (story,) = json.loads(ran.out, parse_constant=pytest.fail)["stories"]
    assert (story["guidance"], story["more"]) == (None, {"control": [{"weight": None}, None]})


def test_info_of_an_image_of_ours_tells_its_score(cli):
    best = cli("refine", "a red circle", "--rounds", "2").out.strip()
    ran = cli("info", best)
    assert "\ngcr\n" in ran.out
    assert "request" in ran.out
    assert "0.8" in next(line for line in ran.out.splitlines() if line.startswith("score"))
    assert "the same for A1111, InvokeAI" in ran.out


BLUE = "a blue star\nSteps: 14, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 128x128"


@pytest.mark.parametrize(
    ("candidate", "taken"),
    [
        ({}, "A1111"),
        ({"prompt": "a red circle"}, "gcr"),
        ({"prompt": "a blue star", "seed": 6}, "gcr"),
        ({"prompt": "a blue star", "seed": 5}, "gcr"),
    ],
)
def test_info_hides_nothing_that_differs_and_marks_what_is_taken(cli, candidate, taken):
    story = {"candidate": candidate, "settings": {"steps": 14, "guidance": 2.0}}
    picture(size=(128, 128), gcr=json.dumps(story), parameters=BLUE)
    out = cli("info", "in.png").out
    equal = candidate.get("seed") == 5
    assert ("the same for A1111" in out) == equal
    assert ("\nA1111" in out) != equal
    mark = "  gcr refine --from takes this"
    assert out.count(mark) == (0 if equal else 1)  # the only one needs no mark
    assert f"\n{taken}{'' if equal else mark}\n" in out
    ran = cli("refine", "--from", "in.png", "--rounds", "1")
    assert f"from in.png ({taken}): prompt" in ran.err


def test_info_of_an_image_that_says_nothing(cli):
    ran = cli("info", picture())
    assert ran.code == 0
    assert "it says nothing of how it was made" in ran.out
    assert json.loads(cli("info", "in.png", "--json").out)["stories"] == []


def test_words_of_strangers_do_nothing_in_a_terminal(cli):
    ran = cli("info", picture(parameters=LINES.replace("circle", "\x1b]0;x\x07circle\u202e")))
    assert not {"\x1b", "\x07", "\u202e"} & set(ran.out)


def test_a_run_begins_with_what_an_image_says(cli):
    picture(parameters=LINES)
    ran = cli("refine", "--from", "in.png", "--rounds", "1", "--json")
    assert ran.code == 0
    run = gcr.load_run(json.loads(ran.out)["folder"])
    assert (run.request.prompt, run.request.negative) == ("a red circle", "blue stars")
    assert [run.settings[key] for key in ("seed", "steps", "guidance")] == [5, 30, 7.0]
    assert "from in.png (A1111): prompt, negative prompt, seed 5, steps 30, guidance 7" in ran.err
    assert "it was drawn by some_model, Euler a; here pocket:generator draws" in ran.err
    # The embedded generator has one size.
    assert "its size is not taken: pocket:generator draws 128×128 pixels only" in ran.err
    assert run.settings["width"] == 128


def test_a_size_is_taken_where_the_generator_draws_it(cli):
    picture(parameters=LINES)
    ran = cli("refine", "--from", "in.png", "-m", "owner/model", "--json", "--rounds", "1")
    assert [settings(ran)[key] for key in ("width", "height")] == [512, 768]


def test_what_is_given_wins_over_the_image_and_the_image_over_files(cli):
    picture(parameters=LINES)
    Path("gcr.yaml").write_text("steps: 11\nrounds: 1\n")
    ran = cli("refine", "two blue stars", "--from", "in.png", "-s", "9", "-n", "", "--json")
    run = gcr.load_run(json.loads(ran.out)["folder"])
    assert (run.request.prompt, run.request.negative) == ("two blue stars", "")
    assert (run.settings["seed"], run.settings["steps"]) == (9, 30)
    assert len(run.rounds) == 1
    assert "from in.png (A1111): steps 30, guidance 7" in ran.err


def test_a_dry_run_says_where_values_came_from(cli):
    picture(parameters=LINES)
    out = cli("refine", "--from", "in.png", "--dry-run", "-s", "9").out
    origins = {
        line.split()[0]: line.split("  ")[-1].strip()
        for line in map(str.strip, out.splitlines())
        if line
    }
    assert (origins["steps"], origins["seed"]) == ("--from in.png", "--seed")


def test_what_is_not_known_or_out_of_range_is_said(cli):
    story = {"positive_prompt": "a red circle", "seed": 1 << 40, "steps": 0}
    picture(invokeai_metadata=json.dumps(story))
    ran = cli("refine", "--from", "in.png", "--rounds", "1", "--json")
    assert ran.code == 0
    assert (settings(ran)["seed"], settings(ran)["steps"]) == (0, 14)
    assert "it does not say: negative prompt, guidance, width, height" in ran.err
    assert f"its seed of {1 << 40} is not taken: it should be less than 4294967296" in ran.err
    assert "its steps of 0 is not taken" in ran.err


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({}, "in.png names no prompt that it was drawn with"),
        ({"prompt": '{"1": {"class_type": "X"}}'}, "its graph is not plain"),
        ({"gcr": "{"}, "what it says is damaged"),
    ],
)
def test_an_image_without_a_prompt_is_wrong_usage(cli, texts, says):
    picture(**texts)
    ran = cli("refine", "--from", "in.png")
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    ran = cli("refine", "a red circle", "--from", "none.png")
    assert ran.code == 2
    assert "cannot read none.png" in ran.err


def test_a_prompt_beside_an_image_that_says_nothing_is_not_asked_for_again(cli):
    picture()
    ran = cli("refine", "a red circle", "--from", "in.png")
    assert (ran.code, ran.out) == (2, "")
    assert "in.png does not say how it was drawn, so there is nothing to begin with" in ran.err
    assert "PROMPT" not in ran.err


def test_quiet_says_nothing_of_it(cli):
    picture(parameters=LINES)
    assert cli("refine", "--from", "in.png", "--rounds", "1", "-q").err == ""


def test_the_same_image_comes_of_an_image_of_ours(tmp_path, monkeypatch, capsys):
    """With the real pair: its seed, steps and prompt are all there is to it."""
    outcome = gcr.refine("two blue stars", seed=11, steps=6, rounds=1, images=2, output=tmp_path)
    image = outcome.folder / "00-1.png"
    monkeypatch.setattr("sys.argv", ["gcr", "refine", "--from", str(image), "--rounds", "1"])
    monkeypatch.setenv("GCR_OUTPUT", str(tmp_path))
    monkeypatch.setenv("GCR_IMAGES", "2")
    from gcr.__main__ import main

    assert main() == 0
    again = Path(capsys.readouterr().out.strip()).parent / "00-0.png"
    with Image.open(image) as first, Image.open(again) as second:
        # In another place of its batch a pixel's last bits may differ.
        difference = ImageChops.difference(first.convert("RGB"), second.convert("RGB"))
        assert max(high for _, high in difference.getextrema()) <= 2
