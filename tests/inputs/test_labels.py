"""Labelled images, in the columns that published sets have."""

import io
import json

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from gcr.core.records import Preference
from gcr.errors import UsageError
from gcr.inputs import labels

FIRST, SECOND, TIE = Preference.FIRST, Preference.SECOND, Preference.TIE


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


RED, BLUE, GREEN = map(png, ("red", "blue", "green"))


@pytest.fixture
def files(tmp_path):
    """Image files beside the labels."""
    (tmp_path / "images").mkdir()
    for name, content in (("a", RED), ("b", BLUE), ("source", GREEN)):
        (tmp_path / "images" / f"{name}.png").write_bytes(content)
    return tmp_path


def as_hub(content):
    """An image as datasets of the hub have it in Parquet."""
    return {"bytes": content, "path": None}


def saved(path, rows):
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def colours(row):
    return [picture.read().getpixel((0, 0)) for picture in row.pictures]


MMRB2 = {
    "pair_id": "1",
    "prompt_text": "a red square",
    "prompt_images": [],
    "response_a_text": "",
    "response_a_images": [as_hub(RED)],
    "response_b_text": "",
    "response_b_images": [as_hub(BLUE)],
    "human_annotations": "{}",
}
GENAI = {
    "left_model": "x",
    "right_model": "y",
    "prompt": "a red square",
    "left_image": as_hub(RED),
    "right_image": as_hub(BLUE),
}
GENAI_EDIT = {
    "source_prompt": "a green square",
    "target_prompt": "a red square",
    "instruct_prompt": "make it red",
    "source_image": as_hub(GREEN),
    "left_output_image": as_hub(RED),
    "right_output_image": as_hub(BLUE),
}
PICK = {"caption": "a red square", "jpg_0": RED, "jpg_1": BLUE, "has_label": True, "user_id": 3}
PUBLISHED = {
    "mmrb2": (MMRB2, [{"chosen": "A"}, {"chosen": "B"}], [FIRST, SECOND]),
    "genai": (
        GENAI,
        [{"vote_type": v} for v in ("leftvote", "rightvote", "tievote", "bothbad_vote")],
        [FIRST, SECOND, TIE, TIE],
    ),
    "genai-edit": (GENAI_EDIT, [{"vote_type": "rightvote"}], [SECOND]),
    "pick": (
        PICK,
        [{"label_0": a, "label_1": 1 - a} for a in (1.0, 0.0, 0.5)],
        [FIRST, SECOND, TIE],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pairs_are_read_from_parquet(tmp_path, name):
    common, own, meant = PUBLISHED[name]
    heavy = {"embedding": b"x" * 1000}  # a column of bytes that is no image is left alone
    read = labels.read(
        saved(tmp_path / "test.parquet", [{**common, **heavy, **row} for row in own])
    )
    assert [row.preference for row in read.rows] == meant
    assert {row.prompt for row in read.rows} <= {"a red square", "make it red"}
    assert all(colours(row) == [(255, 0, 0), (0, 0, 255)] for row in read.rows)
    edited = [row.edited for row in read.rows]
    if name == "genai-edit":
        assert edited[0].read().getpixel((0, 0)) == (0, 128, 0)
    else:
        assert edited == [None] * len(own)


def test_mmrb2_is_read_as_its_own_script_builds_it(files):
    pair = {
        "pair_id": "7",
        "prompt_content": [["text", "make it red"], ["image", "images/source.png"]],
        "response_a": {"model": "x", "response_content": [["image", "images/a.png"]]},
        "response_b": {"model": "y", "response_content": [["image", "images/b.png"], ["text", ""]]},
        "chosen": "B",
    }
    (files / "edit.json").write_text(json.dumps({"pairs": [pair, {**pair, "chosen": "A"}]}))
    for place in (files / "edit.json", files):  # the folder has only one such file
        read = labels.read(place)
        assert [row.preference for row in read.rows] == [SECOND, FIRST]
        assert colours(read.rows[0]) == [(255, 0, 0), (0, 0, 255)]
        assert read.rows[0].edited.read().getpixel((0, 0)) == (0, 128, 0)


def test_scores_are_read_from_a_table(files):
    table = "filename,prompt,overall_score,misalignment_score\n"
    table += "images/a.png,a red square,0.75,1\nimages/b.png,a red square,0.25,0\n"
    (files / "richhf.csv").write_text(table)
    read = labels.read(files / "richhf.csv")
    assert [row.score for row in read.rows] == [0.75, 0.25]
    assert [row.pictures[0].content.name for row in read.rows] == ["a.png", "b.png"]
    other = labels.read(files / "richhf.csv", label="Misalignment_score")
    assert [row.score for row in other.rows] == [1, 0]


def test_a_chosen_and_a_rejected_image_need_no_label(files):
    row = {"prompt": "a red square", "chosen": "images/a.png", "rejected": "images/b.png"}
    (files / "pairs.jsonl").write_text(json.dumps(row))
    assert labels.read(files / "pairs.jsonl").rows[0].preference is FIRST


def test_rows_without_a_label_are_counted_and_a_part_is_spread_evenly(tmp_path):
    rows = [{**PICK, "caption": f"{i}", "label_0": 1.0, "label_1": 0.0} for i in range(10)]
    rows[4]["has_label"] = False
    path = saved(tmp_path / "test.parquet", rows)
    read = labels.read(path)
    assert (len(read.rows), read.unlabelled) == (9, 1)
    some = [row.prompt for row in labels.read(path, most=3).rows]
    assert some == ["3", "6", "9"]


BAD = {
    "no/such.png": "No such file",
    "images/text.png": "not an image",
    "https://host/a.png": "on the net",
    "": "is empty",
}


def test_every_row_that_cannot_be_used_is_named_and_none_is_lost(files):
    (files / "images" / "text.png").write_text("hm")
    good = {"prompt": "a red square", "first": "images/a.png", "second": "images/b.png"}
    rows = [{**good, "first": path, "better": "first"} for path in BAD]
    rows += [{**good, "better": "perhaps"}, {**good, "better": 0}, {**good, "prompt": " "}]
    rows += [{"prompt": "a red square", "better": "first"}, {**good, "better": "tie"}]
    path = files / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    with pytest.raises(UsageError, match=r"line 1: .*No such file.*; and 6 more") as caught:
        labels.read(path)
    assert "--skip-bad" in caught.value.hint
    read = labels.read(path, skip_bad=True)
    assert [row.preference for row in read.rows] == [TIE]
    assert [bad.line for bad in read.skipped] == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    for bad, reason in zip(
        read.skipped, [*BAD.values(), "perhaps", "0", "no prompt"], strict=False
    ):
        assert reason in bad.reason


def test_bytes_are_only_read_as_pictures(tmp_path):
    """Pillow would have another program run an EPS."""
    eps = io.BytesIO()
    Image.new("RGB", (32, 32)).save(eps, "EPS")
    row = {**PICK, "label_0": 1.0, "label_1": 0.0, "jpg_0": eps.getvalue()}
    with pytest.raises(UsageError, match=r"row 1: jpg_0 is not an image"):
        labels.read(saved(tmp_path / "test.parquet", [row]))


def test_what_is_no_set_of_labels_is_refused(files):
    (files / "a.jsonl").write_text(json.dumps({"prompt": "a red square", "seed": 3}))
    with pytest.raises(UsageError, match="no columns of images are among prompt, seed"):
        labels.read(files / "a.jsonl")
    (files / "b.csv").write_text("prompt\nx\n")
    with pytest.raises(UsageError, match=r"several files: a\.jsonl, b\.csv"):
        labels.read(files)
    with pytest.raises(UsageError, match="no labels in the folder"):
        labels.read(files / "images")
