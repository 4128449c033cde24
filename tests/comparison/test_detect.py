"""detect: exact on given boxes and drawn colours, and real detectors that see nothing but noise."""

import json
from types import SimpleNamespace

import pytest
import tiny
from PIL import Image, ImageColor, ImageDraw

from gcr.comparison import evaluators
from gcr.comparison.evaluators import Choice, builtin, detect
from gcr.comparison.evaluators.detect import Box, Detect, Detector, Need, Question, Setup
from gcr.core.events import ignore
from gcr.core.records import Sample, Task
from gcr.errors import ModelError, UsageError

# A row of each of GenEval's six kinds, as it is published.
SINGLE = {"tag": "single_object", "include": [{"class": "bench", "count": 1}]}
TWO = {
    "tag": "two_object",
    "include": [{"class": "bench", "count": 1}, {"class": "dog", "count": 1}],
}
COUNTING = {
    "tag": "counting",
    "include": [{"class": "clock", "count": 2}],
    "exclude": [{"class": "clock", "count": 3}],
}
COLOR = {"tag": "colors", "include": [{"class": "bus", "count": 1, "color": "blue"}]}
POSITION = {
    "tag": "position",
    "include": [
        {"class": "bear", "count": 1},
        {"class": "dog", "count": 1, "position": ["right of", 0]},
    ],
}
BOTH_COLORS = {
    "tag": "color_attr",
    "include": [
        {"class": "glass", "count": 1, "color": "purple"},
        {"class": "apple", "count": 1, "color": "black"},
    ],
}

LEFT, MIDDLE = Box(0, 100, 50, 150, 0.9), Box(100, 100, 150, 150, 0.8)
RIGHT = Box(200, 100, 250, 150)


def right(row, found, colors=None):
    colored = colors or {}
    return detect.is_right(detect.question(row), found, lambda box, kind: colored.get(kind, ""))


@pytest.mark.parametrize(
    ("row", "found", "expected"),
    [
        (SINGLE, {"bench": [LEFT]}, True),
        (SINGLE, {"bench": [LEFT, RIGHT]}, True),
        (SINGLE, {"dog": [LEFT]}, False),
        (TWO, {"bench": [LEFT], "dog": [RIGHT]}, True),
        (TWO, {"bench": [LEFT], "dog": []}, False),
        (COUNTING, {"clock": [LEFT, RIGHT]}, True),
        (COUNTING, {"clock": [LEFT]}, False),
        (COUNTING, {"clock": [LEFT, MIDDLE, RIGHT]}, False),
        (POSITION, {"bear": [LEFT], "dog": [RIGHT]}, True),
        (POSITION, {"bear": [RIGHT], "dog": [LEFT]}, False),
        (POSITION, {"bear": [LEFT], "dog": [LEFT, RIGHT]}, False),  # the surest is looked at
        (POSITION, {"bear": [], "dog": [RIGHT]}, False),
    ],
)
def test_objects_counts_and_positions(row, found, expected):
    assert right(row, found) is expected


def test_colors_belong_to_their_objects():
    assert right(COLOR, {"bus": [LEFT]}, {"bus": "blue"})
    assert not right(COLOR, {"bus": [LEFT]}, {"bus": "red"})
    found = {"glass": [LEFT], "apple": [RIGHT]}
    assert right(BOTH_COLORS, found, {"glass": "purple", "apple": "black"})
    assert not right(BOTH_COLORS, found, {"glass": "black", "apple": "purple"})


@pytest.mark.parametrize(
    ("box", "placed"),
    [
        (Box(200, 100, 250, 150), {"right of"}),
        (Box(0, 100, 50, 150), {"left of"}),
        (Box(100, 0, 150, 50), {"above"}),
        (Box(100, 200, 150, 250), {"below"}),
        (Box(200, 200, 250, 250), {"right of", "below"}),
        (Box(190, 130, 240, 180), {"right of"}),
        (Box(105, 100, 155, 150), set()),  # its centre is too near
        (Box(100, 100, 150, 150), set()),
    ],
)
def test_a_relation_is_told_where_centres_are_apart(box, placed):
    assert detect.relations(box, MIDDLE) == placed


def test_of_boxes_that_overlap_only_the_surest_is_an_object():
    again, dog = Box(2, 100, 52, 150, 0.7), Box(0, 98, 50, 148, 0.95)
    apart = detect.apart({"bench": [again, LEFT, RIGHT], "dog": [dog]})
    assert apart == {"bench": [RIGHT], "dog": [dog]}
    half = Box(25, 100, 75, 150, 0.5)  # a third of both together
    assert detect.apart({"bench": [LEFT, half]}) == {"bench": [LEFT, half]}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("red crimson firebrick #ff2010", "red"),
        ("orange darkorange coral #f07010", "orange"),
        ("yellow gold #e8d820", "yellow"),
        ("green lime forestgreen darkgreen limegreen #103810", "green"),
        ("blue navy royalblue skyblue steelblue", "blue"),
        ("purple indigo rebeccapurple darkviolet blueviolet", "purple"),
        ("pink hotpink deeppink lightpink magenta", "pink"),
        ("brown saddlebrown sienna #654321 tan", "brown"),
        ("black #151515 #200505", "black"),
        ("white snow ivory whitesmoke", "white"),
        ("gray dimgray darkgray", "gray"),
    ],
)
def test_colors_by_name(names, expected):
    for name in names.split():
        image = Image.new("RGB", (9, 9), ImageColor.getrgb(name))
        assert detect.color_by_rule(image, Box(0, 0, 9, 9)) == expected, name


def test_the_color_of_an_object_is_that_of_its_middle():
    image = Image.new("RGB", (100, 100), "white")
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 20, 80, 80), "blue")
    pen.rectangle((45, 45, 55, 55), "black")
    assert detect.color_by_rule(image, Box(20, 20, 80, 80)) == "blue"
    assert detect.color_by_rule(image, Box(-900, -900, -800, -800)) == "white"


# What is read of a prompt file


def test_rows_of_geneval_and_of_tables():
    assert detect.question(POSITION) == Question(
        (Need("bear", 1), Need("dog", 1, position=("right of", 0)))
    )
    assert detect.question(COUNTING) == Question(
        (Need("clock", 2),), (Need("clock", 3),), counting=True
    )
    cells = {name: v if name == "tag" else json.dumps(v) for name, v in COUNTING.items()}
    assert detect.question(cells) == detect.question(COUNTING)
    for empty in ({}, {"include": []}, {"include": ""}, {"include": None, "tag": "x"}):
        assert detect.question(empty) is None


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("[", "cannot read what has to be seen for 'a dog'"),
        ({"class": "dog"}, "no list of objects"),
        (["dog"], "a class and a count"),
        ([{"class": "dog", "count": 0}], "a class and a count"),
        ([{"class": "dog", "count": 1, "color": "plaid"}], "'plaid' is none of the colors red"),
        ([{"class": "dog", "count": 1, "position": ["left of", 0]}], "which object of the list"),
        ([{"class": "dog", "count": 1, "position": ["near", 0]}], "a position is one of left of"),
    ],
)
def test_columns_that_cannot_be_read_are_refused_before_anything_is_drawn(include, message):
    task = Task("a dog", {"include": include})
    with pytest.raises(UsageError, match=message):
        evaluators.check(Choice("detect", "owner/model"), [task], [])


def test_prompts_without_objects_are_refused():
    with pytest.raises(UsageError, match="no prompt has a column include"):
        evaluators.check(Choice("detect", "owner/model"), [Task("a dog", {"tag": "x"})], [])


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("a/b", Setup("a/b")),
        ("a/b, c/d", Setup("a/b", "c/d")),
        ("a/b,threshold=0.2", Setup("a/b", None, 0.2)),
        ("a/b,c/d,counting=0.4,threshold=0.1", Setup("a/b", "c/d", 0.1, 0.4)),
    ],
)
def test_what_stands_behind_the_colon(argument, expected):
    assert detect.setup(argument) == expected


@pytest.mark.parametrize(
    "argument",
    ["a/b,c/d,e/f", "threshold=0.2", "a/b,", "a/b,threshold=x", "a/b,threshold=1", "a/b,size=0.5"],
)
def test_what_cannot_stand_there(argument):
    with pytest.raises(UsageError, match="cannot be read"):
        evaluators.choose(f"detect:{argument}", [])


def test_folders_of_both_models_are_remembered_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "x=1,y"):
        (tmp_path / name).mkdir()
    choice = evaluators.choose("detect:a,b,threshold=0.3", [])
    assert choice.model == f"{tmp_path}/a,{tmp_path}/b,threshold=0.3"
    assert detect.setup(evaluators.choose("detect:x=1,y", []).model) == Setup(f"{tmp_path}/x=1,y")
    assert evaluators.names_models(choice)


@pytest.mark.parametrize("place", ["detect:critic", "detect:owner/detector,critic"])
def test_the_critic_neither_detects_nor_names_colors(tmp_path, monkeypatch, place):
    tiny.llava(tmp_path / "critic")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluators.fetching, "provide", lambda _: None)
    monkeypatch.setattr(evaluators.checkpoints, "fetch_file", lambda *_: None)
    choice = evaluators.choose(place, [])
    with pytest.raises(UsageError, match="is the critic that steers"):
        evaluators.check(choice, [Task("a bench", SINGLE)], [str(tmp_path / "critic")])


# From images to scores


@pytest.fixture
def samples(tmp_path):
    """A blue bus at the left and a red one at the right, asked for in several ways."""
    image = Image.new("RGB", (300, 200), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 100, 50, 150), "blue")
    pen.rectangle((200, 100, 250, 150), "red")
    path = tmp_path / "image.png"
    image.save(path)
    red = {"include": [{"class": "bus", "count": 1, "color": "red"}]}
    counting = {"tag": "counting", "include": [{"class": "bus", "count": 2}]}
    rows = [COLOR, red, counting, {}, SINGLE]
    return [Sample(f"raw/{place}", "a bus", path, row) for place, row in enumerate(rows)]


class Buses:
    """A detector of the two, the blue one the surer."""

    threshold = 0.5

    def __init__(self):
        self.asked = []

    def boxes(self, pairs, threshold):
        self.asked.append([(image.size, kind, threshold) for image, kind in pairs])
        buses = [Box(200, 100, 250, 150, 0.6), Box(0, 100, 50, 150, 0.9), Box(0, 0, 9, 9, 0.3)]
        return [buses if kind == "bus" else [] for _, kind in pairs]


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        (Setup("x"), [1, 0, 1, None, 0]),
        (Setup("x", threshold=0.7), [1, 0, 0, None, 0]),
        (Setup("x", threshold=0.3, counting=0.7), [1, 0, 0, None, 0]),
        (Setup("x", threshold=0.95), [0, 0, 0, None, 0]),
    ],
)
def test_what_is_detected_is_scored(samples, setup, expected):
    detector = Buses()
    scored = dict(Detect(setup, detector).score(samples))
    assert [scored[sample.id] for sample in samples] == expected
    (asked,) = detector.asked
    assert [kind for _, kind, _ in asked] == ["bus", "bus", "bus", "bench"]
    least = 0.5 if setup.threshold is None else min(setup.threshold, setup.counting or 1)
    assert {threshold for _, _, threshold in asked} == {least}


def test_colors_by_clip_are_of_the_box_and_in_genevals_words(samples):
    import torch

    shown = []

    def embedded(images, texts):
        shown.append(([image.getpixel((9, 9)) for image in images], texts))
        near = [float("pink" in text) for text in texts]
        return torch.tensor([[1.0, 0.0]]), torch.tensor([[n, 1 - n] for n in near])

    clip = SimpleNamespace(embedded=embedded)
    scored = dict(Detect(Setup("x", "y"), Buses(), clip).score(samples[:2]))
    assert scored == {"raw/0": 0, "raw/1": 0}  # both are pink to it
    pixels, texts = shown[0]
    assert pixels == [(0, 0, 255)]
    assert texts[:3] == [
        "a photo of a red bus", "a photo of a red-colored bus", "a photo of a red object"
    ]  # fmt: skip
    assert len(texts) == 30


def test_a_real_clip_names_one_of_the_colors(samples, tmp_path):
    clip = builtin.ClipScore.load(str(tiny.clip(tmp_path / "clip")))
    with Image.open(samples[0].image) as image:
        seen = detect.color_by_clip(clip, image.convert("RGB"), Box(0, 100, 50, 150), "bus")
    assert seen in detect.COLORS


@pytest.mark.parametrize(
    ("make", "threshold"), [(tiny.owlv2, 0.1), (tiny.grounding_dino, 0.25)], ids=["owlv2", "dino"]
)
def test_real_detectors_load_and_see_images_in_batches(make, threshold, samples, tmp_path):
    place = str(make(tmp_path / "model"))
    detector = Detector.load(place)
    assert detector.threshold == threshold
    with Image.open(samples[0].image) as image:
        wide = image.convert("RGB")
    tall = wide.resize((64, 90))
    pairs = [(wide, "bus"), (tall, "apple"), (wide, "cell phone")] * 4
    found = detector.boxes(pairs, 0.0)
    assert len(found) == len(pairs)
    assert found[0]
    assert all(0 <= box.score <= 1 for boxes in found for box in boxes)
    alone = detector.boxes(pairs[:1], 0.0)[0]
    assert [box.score for box in alone] == pytest.approx([b.score for b in found[0]], abs=1e-3)
    reaches = [max(image.size) for image, _ in pairs]  # OWLv2 looks at a square
    for reach, boxes in zip(reaches, found, strict=True):
        assert all(-1 < place < reach + 1 for box in boxes for place in box.centre)
    evaluator = evaluators.load(Choice("detect", f"{place},threshold=0"), ignore)
    scored = dict(evaluator.score(samples))
    assert set(scored) == {sample.id for sample in samples}
    assert scored["raw/3"] is None
    assert set(scored.values()) <= {0.0, 1.0, None}


def test_a_model_that_detects_nothing_is_refused(tmp_path):
    with pytest.raises(ModelError):
        Detector.load(str(tiny.clip(tmp_path / "clip")))
