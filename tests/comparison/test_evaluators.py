"""Evaluators: which is chosen, which is refused, and what each makes of images."""

import json
import shlex
import sys
from types import SimpleNamespace

import pytest
import tiny
from fakes import paint, written
from PIL import Image

from gcr.comparison import evaluators
from gcr.comparison.evaluators import Choice, builtin
from gcr.comparison.evaluators.builtin import Command, Truth
from gcr.core.events import ignore
from gcr.core.records import Fact, Sample, Task
from gcr.critic import ocr
from gcr.errors import GcrError, ModelError, UsageError
from gcr.pocket import world
from gcr.pocket.world import Scene, Thing

SILENT = ignore


@pytest.fixture
def samples(tmp_path):
    """Three flat pictures."""
    found = []
    for seed, prompt in enumerate(["a red circle", "two blue stars", 'a "sign"\nin two lines']):
        path = tmp_path / f"{seed} image.png"
        paint(seed * 9_999_999).save(path)
        found.append(Sample(f"arm/{seed}", prompt, path))
    return found


def command(tmp_path, body):
    script = tmp_path / "script.py"
    script.write_text(f"import json, sys\n{body}\n")
    return Command(f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")


def test_the_embedded_generator_alone_is_measured_by_truth():
    assert evaluators.choose(None, ["pocket:generator"]) == Choice("truth")
    with pytest.raises(UsageError, match="no evaluator") as caught:
        evaluators.choose(None, ["pocket:generator", "owner/other"])
    for name in ("vqascore:MODEL", "clipscore:MODEL", "command:LINE", "truth"):
        assert name in caught.value.hint


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("truth", Choice("truth")),
        ("vqascore:owner/model", Choice("vqascore", "owner/model")),
        ("clipscore: /a/folder", Choice("clipscore", "/a/folder")),
        ("command:score --mode x:y", Choice("command", "score --mode x:y")),
    ],
)
def test_an_evaluator_is_a_name_and_what_it_needs(text, choice):
    assert evaluators.choose(text, []) == choice
    assert evaluators.choose(str(choice), []) == choice


@pytest.mark.parametrize("text", ["vqascore", "clipscore:", "command: ", "truth:x"])
def test_half_an_evaluator_is_refused(text):
    with pytest.raises(UsageError, match="is not whole"):
        evaluators.choose(text, [])


def test_truth_reads_the_embedded_world_only():
    with pytest.raises(UsageError, match="truth cannot read what owner/other draws"):
        evaluators.choose("truth", ["pocket:generator", "owner/other"])


def test_the_nearest_name_is_told():
    with pytest.raises(UsageError, match="no evaluator named 'vqscore'") as caught:
        evaluators.choose("vqscore:x", [])
    assert "did you mean vqascore?" in caught.value.hint


def test_the_critic_that_steered_is_refused_however_it_is_spelled(tmp_path, monkeypatch):
    tiny.llava(tmp_path / "critic")
    monkeypatch.chdir(tmp_path)
    choice = Choice("vqascore", "./critic/../critic")
    with pytest.raises(UsageError, match="is the critic that steers"):
        evaluators.check(choice, [], [str(tmp_path / "critic")])
    evaluators.check(choice, [], [str(tmp_path / "critic")], force=True)
    evaluators.check(choice, [], ["pocket:critic"])
    with pytest.raises(UsageError, match="is the critic"):
        evaluators.check(Choice("vqascore", "pocket:critic"), [], ["pocket:critic"])


def test_a_model_that_is_nowhere_is_refused_at_once():
    with pytest.raises(UsageError, match="there is no model at nowhere"):
        evaluators.check(Choice("clipscore", "nowhere"), [], ["pocket:critic"])


def test_truth_refuses_requests_that_it_cannot_read():
    tasks = [Task(prompt) for prompt in ("a red circle", "a dragon", "a cat")]
    with pytest.raises(UsageError, match=r"'a dragon' asks for: .*\(and so with 1 more\)"):
        evaluators.check(Choice("truth"), tasks, [])
    evaluators.check(Choice("truth"), tasks[:1], [])


def test_truth_reads_renders(tmp_path):
    scene = Scene("white", (Thing("circle", "red", 64.0, 64.0, 18.0),))
    path = tmp_path / "a.png"
    world.draw(scene).save(path)
    asked = ["a red circle", "a blue circle", "a red circle on a white canvas"]
    samples = [Sample(prompt, prompt, path) for prompt in asked]
    assert list(Truth().score(samples)) == list(zip(asked, [1.0, 0.0, 1.0], strict=True))
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(GcrError, match="truth reads 128×128 images"):
        list(Truth().score(samples))


def test_vqascore_is_the_probability_of_yes(tmp_path, samples):
    evaluator = evaluators.load(Choice("vqascore", str(tiny.llava(tmp_path / "vlm"))), SILENT)
    scored = dict(evaluator.score(samples))
    assert list(scored) == [sample.id for sample in samples]
    assert all(0 < score < 1 for score in scored.values())
    assert dict(evaluator.score(samples[2:])) == pytest.approx({"arm/2": scored["arm/2"]}, abs=1e-4)


def test_vqascore_asks_its_question_of_the_image_and_the_prompt(samples):
    chats = []
    speaker = SimpleNamespace(yes=lambda batch: chats.extend(batch) or [0.25] * len(batch))
    assert list(builtin.VqaScore(speaker).score(samples[:1])) == [("arm/0", 0.25)]
    image, asked = chats[0][0]["content"]
    assert image["image"].tobytes() == paint(0).tobytes()
    assert asked["text"] == 'Does this figure show "a red circle"? Please answer yes or no.'


def test_vqascore_needs_a_model_that_sees(tmp_path):
    with pytest.raises(ModelError, match="cannot see images"):
        builtin.VqaScore.load(str(tiny.text_only(tmp_path / "lm")))


@pytest.mark.parametrize("make", [tiny.clip, tiny.siglip])
def test_clipscore_is_the_cosine_of_the_models_own_embeddings(tmp_path, samples, make):
    import torch

    evaluator = evaluators.load(Choice("clipscore", str(make(tmp_path / "m"))), SILENT)
    scored = dict(evaluator.score(samples))
    with Image.open(samples[1].image) as image:
        pixels = evaluator._images(images=image.convert("RGB"), return_tensors="pt")
    tokens = evaluator._tokenizer(
        samples[1].prompt, padding="max_length", max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        seen = evaluator._model.get_image_features(**pixels).pooler_output
        read = evaluator._model.get_text_features(**tokens).pooler_output
    assert scored["arm/1"] == pytest.approx(torch.cosine_similarity(seen, read).item(), abs=1e-5)
    assert len(set(scored.values())) == 3
    assert all(-1 <= score <= 1 for score in scored.values())


def test_clipscore_says_which_prompts_it_does_not_read_to_the_end(tmp_path, samples, caplog):
    evaluator = builtin.ClipScore.load(str(tiny.clip(tmp_path / "clip")))
    long = Sample("long", "a red circle and " * 9, samples[0].image)
    assert len(list(evaluator.score([*samples[:2], long]))) == 3
    assert caplog.messages == ["1 prompt measured to token 24 only"]


def test_clipscore_needs_a_model_with_one_space_for_both(tmp_path):
    with pytest.raises(ModelError, match="into one space"):
        builtin.ClipScore.load(str(tiny.llava(tmp_path / "vlm")))


def test_a_command_that_prints_numbers(tmp_path, samples):
    body = "for i, line in enumerate(sys.stdin): print(i / 2)"
    scored = list(command(tmp_path, body).score(samples))
    assert scored == [("arm/0", 0.0), ("arm/1", 0.5), ("arm/2", 1.0)]


def test_a_command_gets_id_prompt_and_image(tmp_path, samples):
    body = (
        f"open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read()); print(1, 2, 3, sep='\\n')"
    )
    list(command(tmp_path, body).score(samples))
    got = [json.loads(line) for line in (tmp_path / "got").read_text().splitlines()]
    assert [one["prompt"] for one in got] == [sample.prompt for sample in samples]
    assert [one["id"] for one in got] == ["arm/0", "arm/1", "arm/2"]
    with Image.open(got[1]["image"]) as image:
        assert image.size == (8, 8)


def test_a_command_may_print_json_in_any_order(tmp_path, samples):
    body = (
        "for line in reversed(list(sys.stdin)):\n"
        "    id_ = json.loads(line)['id']\n"
        "    print(json.dumps({'id': id_, 'score': float(id_[-1])}))\n"
    )
    scored = list(command(tmp_path, body).score(samples))
    assert scored == [("arm/2", 2.0), ("arm/1", 1.0), ("arm/0", 0.0)]


def test_scores_of_a_command_come_as_it_prints_them(tmp_path, samples):
    """The first is there while the program still waits for us."""
    body = (
        "import os, time\n"
        "print(0.5, flush=True)\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "print(1)\nprint(1)"
    )
    scores = command(tmp_path, body).score(samples)
    assert next(scores) == ("arm/0", 0.5)
    (tmp_path / "go").touch()
    assert len(list(scores)) == 2


def test_a_command_that_reads_nothing_and_more_than_a_pipe_holds(tmp_path, samples):
    many = [Sample(f"{i}", "word " * 100, samples[0].image) for i in range(400)]
    assert len(list(command(tmp_path, "for _ in range(400): print(1)").score(many))) == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('no GPU here')", "ended with exit code 1: no GPU here"),
        ("print(1)\nsys.exit(3)", "ended with exit code 3"),
        ("print(1)\nprint(1)", "scored 2 of 3 images"),
        ("pass", "scored 0 of 3 images"),
        ("print(1)\nprint('good')", "no score: 'good'"),
        ("print('[1]')", r"no score: '\[1\]'"),
        ("print(json.dumps({'id': 'arm/0'}))", "no score"),
        ("print(json.dumps({'id': 'arm/0', 'score': 10**400}))", "no score"),
        (
            "print(json.dumps({'id': 'arm/9', 'score': 1}))",
            "scored 'arm/9', which is not asked for",
        ),
        ("for _ in range(2): print(json.dumps({'id': 'arm/0', 'score': 1}))", "not asked for"),
        ("for _ in range(4): print(1)", "more than a score for each"),
    ],
)
def test_a_command_that_fails_says_how(tmp_path, samples, body, message):
    with pytest.raises(GcrError, match=message) as caught:
        list(command(tmp_path, body).score(samples))
    assert caught.value.hint


# ocr: read for real, in texts that Pillow draws


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """The scores, near and exact, of an image with texts for a prompt."""
    folder = tmp_path_factory.mktemp("ocr")
    both = [evaluators.load(Choice(name), ignore) for name in ("ocr", "ocr-exact")]

    def score(prompt, *texts, turned=0):
        path = folder / "image.png"
        written(*texts).rotate(turned, expand=True, fillcolor="white").save(path)
        sample = Sample("raw/1", prompt, path)
        scored = [list(evaluator.score([sample])) for evaluator in both]
        assert [id_ for ((id_, _),) in scored] == ["raw/1"] * 2
        return tuple(score for ((_, score),) in scored)

    return score


def test_what_is_written_as_asked_is_right(measure):
    assert measure('a shop with a sign "OPEN LATE"', "OPEN LATE") == (1, 1)


def test_a_wrong_letter_costs_its_share(measure):
    near, exact = measure('a sign "BAKERY"', "BAKLRY")
    assert (near, exact) == (pytest.approx(5 / 6), 0)


def test_what_is_missing_is_0(measure):
    assert measure('a sign "OPEN"') == (0, 0)


@pytest.mark.parametrize("turned", [90, 180, 25])
def test_turned_writing_is_read(measure, turned):
    assert measure('a sign "OPEN LATE"', "OPEN LATE", turned=turned) == (1, 1)


def test_every_text_counts(measure):
    prompt = "a door with 'OPEN' above and \"Welcome home\" below"
    assert measure(prompt, "OPEN", "Welcome home") == (1, 1)
    assert measure(prompt, "Welcome home", "OPEN") == (1, 1)
    near, exact = measure(prompt, "OPEN")
    assert (0.5 < near < 0.8, exact) == (True, 0)


def test_a_text_may_be_drawn_in_two_lines_and_among_others(measure):
    assert measure('a poster "Grand Opening"', "MONDAY", "Grand", "Opening") == (1, 1)


def test_a_request_without_quotes_has_no_score(measure):
    assert measure("a red circle", "OPEN") == (None, None)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ('"OPEN", he said, on a sign', ["OPEN"]),
        ('a sign saying "OPEN," and a dog', ["OPEN"]),
        ("the dog's bowl says 'REX' and “REX”", ["REX"]),
        ("a sign that says 「営業中」", ["営業中"]),
        ('an empty sign " "', []),
    ],
)
def test_texts_that_are_wanted(prompt, texts):
    assert ocr.wanted(prompt) == texts


@pytest.mark.parametrize(
    ("text", "lines", "seen", "near"),
    [
        ("OPEN", ["open"], "open", 1),
        ("it's 5", ["it’s5"], "it's5", 1),
        ("OPEN", ["REOPENED"], "REOPENED", 0.5),
        ("OPEN", ["x", "OPEN", "y"], "OPEN", 1),
        ("Grand Opening", ["SALE", "GRAND", "Opening", "now"], "GRAND Opening", 1),
        ("営業中", ["本日営業中です"], "営業中", 1),
        ("HELLO WORLD", ["HELLOWORLD"], "HELLOWORLD", 1),
        ("abcd", ["wxyz"], "", 0),
        ("a", ["bb", "c d"], "", 0),
    ],
)
def test_what_comes_nearest_of_what_was_read(text, lines, seen, near):
    assert ocr.nearest(text, lines) == Fact(text, seen, near, "ocr")


@pytest.mark.parametrize("name", ["ocr", "ocr-exact"])
def test_prompts_that_ask_for_no_writing_are_refused_at_once(name):
    with pytest.raises(UsageError, match="no prompt has text in quotes"):
        evaluators.check(Choice(name), [Task("a red circle")], [])
    evaluators.check(Choice(name), [Task("a red circle"), Task('a "sign"')], [])


def test_what_has_to_be_installed_is_said_before_anything_is_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UsageError, match="no rapidocr to read") as caught:
        evaluators.check(Choice("ocr"), [Task('a "sign"')], [])
    assert caught.value.hint == "pip install 'gcr[ocr]'"
