"""What stands where on the pages, in a real browser."""

import json

import chromium
import pytest
from folders import HOSTILE, make_batch, make_comparison, make_run

from gcr.results.report import report

chromium.needed()

BOX = "document.querySelector('{}').getBoundingClientRect().toJSON()"
EDGES = ("x", "y", "width", "height")
PHONE = {"width": 390, "height": 844, "phone": True}


def boxes(browser, *selectors):
    boxes = [browser.run(BOX.format(selector)) for selector in selectors]
    return [[box[edge] for edge in EDGES] for box in boxes]


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("size", [64, 800])
def test_both_images_of_the_slider_fill_it_and_lie_on_each_other(browser, tmp_path, screen, size):
    browser.open(report(make_run(tmp_path / "run", size=size).path), **screen)
    slider, after, before = boxes(browser, ".slider", ".slider .after", ".slider .before")
    assert after == pytest.approx(slider, abs=0.5)
    assert before == pytest.approx(slider, abs=0.5)


def test_an_edit_and_its_source_lie_on_each_other(browser, tmp_path):
    browser.open(report(make_run(tmp_path / "run", source="source.png").path))
    slider, after, before = boxes(browser, ".slider", ".slider .after", ".slider .before")
    assert after == before == pytest.approx(slider, abs=0.5)


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("size", [(64, 128), (800, 300), (300, 800), (64, 64)])
def test_a_picture_s_box_has_its_own_shape(browser, tmp_path, screen, size):
    """Nothing is cropped, no bars stand beside it, and nothing jumps when it is loaded."""
    folders = (
        make_run(tmp_path / "run", size=size).path,
        make_batch(tmp_path / "batch", 2, size=size),
    )
    for folder in folders:
        browser.open(report(folder), **screen)
        shapes = browser.run(
            "[...document.querySelectorAll('.frame, .slider')].map((e) => [e.clientWidth, "
            "e.clientHeight, ...[...e.querySelectorAll('img')].flatMap((i) => [i.clientWidth, "
            "i.clientHeight])])"
        )
        assert shapes
        for width, height, *images in shapes:
            assert width / height == pytest.approx(size[0] / size[1], rel=0.03)
            assert images == [width, height] * (len(images) // 2)
        browser.run("document.querySelector('.enlarge, .attempts .frame').click()")
        width, height, x, y = browser.run(
            "(({width, height, x, y}) => [width, height, x, y])"
            "(document.querySelector('dialog img').getBoundingClientRect())"
        )
        assert width / height == pytest.approx(size[0] / size[1], rel=0.03)
        assert min(x, y) >= 0
        assert x + width <= browser.run("innerWidth")
        assert y + height <= browser.run("innerHeight")


PLACES = "[...document.querySelectorAll('{}')].map(e => e.getBoundingClientRect().top)"


def suspected(tmp_path, suspicions):
    folder = make_comparison(tmp_path / "comparison")
    record = json.loads((folder / "compare.json").read_text())
    (folder / "compare.json").write_text(json.dumps({**record, "suspicions": suspicions}))
    return report(folder)


SUSPICION = {
    "arm": "refine",
    "against": "raw",
    "prompts": 6,
    "suspects": 5,
    "opposite": 0,
    "p": 0.03125,
    "founded": True,
}


def test_a_comparison_answers_before_it_warns(browser, tmp_path):
    browser.open(suspected(tmp_path, [SUSPICION]))
    order = ("h1", ".answer", "#pairs", "#arms", "#suspects", "#prompts")
    tops = [browser.run(PLACES.format(selector))[0] for selector in order]
    assert tops == sorted(tops)
    assert browser.run("document.querySelector('.answer').textContent") == (
        "Refining helped: judged by truth, 3 of 6 pictures became better and none became worse, "
        "+0.22 on average; you would see this difference by chance about 1 time in 250."
    )
    warning = browser.run("document.querySelector('.note.warn').innerText")
    assert "On 5 of 6 prompts the critic prefers refine to raw" in warning
    assert "on 0 it is the other way round" in warning


@pytest.mark.parametrize(
    "suspicions", [[], [{**SUSPICION, "suspects": 1, "p": 0.5, "founded": False}]]
)
def test_suspects_that_chance_would_give_are_no_warning(browser, tmp_path, suspicions):
    browser.open(suspected(tmp_path, suspicions))
    assert browser.run("document.querySelectorAll('.note.warn').length") == 0


def test_a_card_says_which_arms_its_number_compares(browser, tmp_path):
    """Refined against raw, also where other arms stand before these."""
    folder = make_comparison(tmp_path / "comparison")
    record = json.loads((folder / "compare.json").read_text())
    other = {"name": "best-of-n", "strategy": "best-of-n"}
    record["arms"].insert(1, {**record["arms"][0], **other})
    record["pairs"].insert(0, {**record["pairs"][0], "arm": "best-of-n", "verdict": "worse"})
    for prompt in record["prompts"]:
        prompt["arms"]["best-of-n"] = {**prompt["arms"]["raw"], "score": 0.0}
    (folder / "compare.json").write_text(json.dumps(record))
    browser.open(report(folder))
    card = "document.querySelector('.prompt .gain').textContent.trim().replace(/\\s+/g, ' ')"
    assert browser.run(card) == "+0.10 refine against raw"
    answer = browser.run("document.querySelector('.answer').textContent")
    assert answer.startswith("Refining helped: judged by truth, 3 of 6 pictures became better")
    options = browser.run("[...document.querySelectorAll('[name=sort] option')].map(o => o.text)")
    assert "refine against raw: largest gain" in options


@pytest.mark.parametrize("kind", ["run", "batch", "comparison"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_marks_and_warnings_fit_the_page(browser, tmp_path, kind, screen):
    """Every mark that a score can bear, with text that is out to break it."""
    page = marked_page(tmp_path, kind)
    browser.open(page, **screen)
    width = browser.run("innerWidth")
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.querySelectorAll('.badge.warn')].length") > 0
    assert browser.complaints() == []


def marked_page(path, kind):
    if kind == "run":
        folder = make_run(path / "run", spread=0.12, untrusted=(HOSTILE,)).path
    elif kind == "batch":
        folder = make_batch(path / "batch", 6)
        lines = (folder / "summary.jsonl").read_text().splitlines()
        marks = {"noise": 0.29, "untrusted": f"“{HOSTILE}”"}
        (folder / "summary.jsonl").write_text(
            "".join(json.dumps({**json.loads(line), **marks}) + "\n" for line in lines)
        )
    else:
        folder = make_comparison(path / "comparison")
        record = json.loads((folder / "compare.json").read_text())
        for prompt in record["prompts"]:
            prompt["arms"]["refine"]["untrusted"] = f"“{HOSTILE}”"
        (folder / "compare.json").write_text(json.dumps({**record, "suspicions": [SUSPICION]}))
    return report(folder)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_what_arms_took_and_reached_can_be_read_on_a_phone(browser, tmp_path, screen, dark):
    folder = make_comparison(tmp_path / "comparison")
    record = json.loads((folder / "compare.json").read_text())
    taken = {"critiques": 4.0, "tokens_read": 12345.6, "tokens_written": None, "drawing": 8.1}
    taken |= {"judging": 3.3, "other": 0.2, "gpu_peak_bytes": 3 << 30}
    for arm in record["arms"]:
        arm["cost"] = taken
    reached = {"raw": [0.4], "refine": [0.4, 0.5, 0.6, 0.63]}
    record["curves"] = {
        "prompts": 5,
        "arms": {
            name: {"images": means, "seconds": [[3.0 * i + 3, m] for i, m in enumerate(means)]}
            for name, means in reached.items()
        },
        "equal_seconds": 12.0,
        "at_equal_seconds": {"raw": 0.4, "refine": 0.63},
    }
    (folder / "compare.json").write_text(json.dumps(record))
    browser.open(report(folder), dark=dark, **screen)
    width = screen.get("width", 1280)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert not browser.complaints()
    beyond = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert browser.run(f"{beyond}.length") == 0
    labels = "[...document.querySelectorAll('.plots svg text')].map(e => e.getBoundingClientRect())"
    for box in browser.run(f"{labels}.map(box => box.toJSON())"):
        assert 0 <= box["left"] < box["right"] <= width
        assert box["height"] >= 10
    drawn = "[...document.querySelectorAll('.plots path')].map(e => getComputedStyle(e).stroke)"
    strokes = browser.run(drawn)
    assert len(strokes) == 4
    assert len(set(strokes)) == 2
    words = browser.run("document.querySelector('#cost').closest('section').innerText")
    for text in (
        "12,346",
        "8.1 s",
        "3.0 GiB",
        "After 12.0 s for each prompt: raw 0.40, refine 0.63",
    ):
        assert text in words
