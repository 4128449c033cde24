"""The pages in a real browser: what they do when somebody uses them."""

import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import chromium
import pytest
from folders import HOSTILE, make_batch, make_comparison, make_run

import gcr
from gcr.results import listing
from gcr.results.report import gallery, report, run
from gcr.results.report.pictures import Pictures

chromium.needed()

SHOWN = "[...document.querySelectorAll('[data-gallery] > li:not([hidden])')].map(e => e.dataset.id)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, with text that is out to break it."""
    path = tmp_path_factory.mktemp("pages")
    text = HOSTILE + "long " * 200
    hostile = make_run(path / "hostile", text, text=text, source="source.png").path
    alone = report(make_run(path / "other").path, path / "alone.html", standalone=True)
    pages = {
        "run": report(make_run(path / "run", "a red circle").path),
        "hostile": report(hostile),
        "batch": report(make_batch(path / "batch", 16, prompt=HOSTILE)),
        "comparison": report(make_comparison(path / "comparison", 6, prompt=HOSTILE)),
        "alone": alone,
    }
    return {**pages, "gallery": gallery.write(path, listing.entries(path))}


KINDS = pytest.mark.parametrize(
    "kind", ["run", "hostile", "batch", "comparison", "alone", "gallery"]
)
PHONE = {"width": 390, "height": 844, "phone": True}
SCREENS = pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])


def choose(browser, name, value):
    """Set a field of the tools, as a person does."""
    browser.run(
        f"(() => {{ const field = document.querySelector('[name={name}]'); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


@KINDS
def test_nothing_goes_wrong_and_nothing_is_asked_of_anyone(browser, pages, kind):
    browser.open(pages[kind])
    browser.run("scrollTo(0, document.body.scrollHeight)")
    assert browser.complaints() == []
    assert browser.requested()
    for address in browser.requested():
        allowed = ("data:",) if kind == "alone" else ("data:", pages[kind].parent.as_uri())
        assert address.startswith(allowed) or address == pages[kind].as_uri(), address
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.run(broken) == 0


@KINDS
@pytest.mark.parametrize("width", [360, 1600])
def test_pages_fit_phones_and_large_screens(browser, pages, kind, width):
    browser.open(pages[kind], width=width, phone=width < 600)
    assert browser.run("document.documentElement.scrollWidth") == width


@KINDS
@SCREENS
def test_nothing_moves_by_itself_when_a_page_is_opened_and_looked_through(
    browser, pages, kind, screen
):
    """So that a click hits what it was meant for, however soon."""
    browser.open(pages[kind], **screen)
    height = browser.run("document.documentElement.scrollHeight")
    # The prompts of a comparison have a size by estimate until they come near.
    for y in range(0, height if kind != "comparison" else 1, 600):
        browser.run(f"scrollTo({{top: {y}, behavior: 'instant'}})")
        browser.run(chromium.PAINTED)
    assert browser.shifts() == []
    if kind != "comparison":  # what is not laid out before it is seen has its size all the same
        assert browser.run("document.documentElement.scrollHeight") == height


@KINDS
def test_text_stands_out_from_what_is_behind_it(browser, pages, kind):
    """WCAG AA: a contrast of 4.5, for all text that is seen."""
    browser.open(pages[kind])
    for theme in ("light", "dark"):
        browser.run(f"document.documentElement.dataset.theme = '{theme}'")
        assert browser.run(FAINT) == [], theme


@pytest.fixture
def served(pages):
    """The address of a run's page on a server.

    Of pages that it opens from files, Chromium 156 shows some an empty localStorage, whatever was
    stored before: 19 of 2,482 in a row, and none of 2,164 from a server.
    """

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

    folder = pages["run"].parent
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{pages['run'].name}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("dark", [False, True])
def test_the_theme_is_the_systems_until_somebody_chooses(browser, served, dark):
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.open(served, dark=dark)
    first = browser.run(colour)
    pressed = "document.querySelector('.theme').getAttribute('aria-pressed')"
    assert browser.run(pressed) == str(dark).lower()
    browser.run("document.querySelector('.theme').click()")
    second = browser.run(colour)
    assert second != first
    assert browser.run(pressed) == str(not dark).lower()
    browser.open(served, dark=dark)  # it is remembered
    assert browser.run(colour) == second


def test_the_slider_moves_by_mouse_and_keyboard(browser, pages):
    browser.open(pages["run"])
    at = "parseFloat(document.querySelector('.slider').style.getPropertyValue('--at'))"
    assert browser.run(at) == 50
    box = browser.run("document.querySelector('.slider').getBoundingClientRect().toJSON()")
    browser.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert browser.run(at) == pytest.approx(25, abs=1)
    browser.press("ArrowRight", 39)
    assert browser.run(at) == pytest.approx(26, abs=1)
    browser.press("Home", 36)
    assert browser.run(at) == 0
    assert browser.run("document.activeElement.getAttribute('aria-valuetext')") == "0%"
    browser.press("End", 35)
    clip = "getComputedStyle(document.querySelector('.slider .before')).clipPath"
    assert browser.run(clip).replace("0px", "0").startswith("inset(0")
    assert browser.run(at) == 100


def test_the_slider_moves_by_touch(browser, pages):
    browser.open(pages["run"], width=360, phone=True)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
    box = browser.run("document.querySelector('.slider').getBoundingClientRect().toJSON()")
    x, width = box["x"], box["width"]
    browser.drag(x + width * 0.5, x + width * 0.8, box["y"] + box["height"] / 2)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=False)
    at = "parseFloat(document.querySelector('.slider').style.getPropertyValue('--at'))"
    assert browser.run(at) == pytest.approx(80, abs=2)


def test_an_edit_can_be_held_against_source_and_first_image(browser, pages):
    browser.open(pages["hostile"])
    seen = "[...document.querySelectorAll('.before')].filter(i => !i.hidden).map(i => i.alt)"
    assert browser.run(seen) == ["the source"]
    browser.run("document.querySelectorAll('.choice input')[1].click()")
    assert browser.run(seen) == ["the request as it is, 0.30"]
    assert browser.run("document.querySelector('[data-name]').textContent").startswith(
        "the request"
    )


BOX = (
    "[document.querySelector('dialog')?.open ?? false, "
    "document.querySelector('dialog .caption')?.textContent, "
    "document.querySelector('dialog .number')?.textContent]"
)
HERE = "document.activeElement.getAttribute('href') ?? document.activeElement.className"


def until(browser, script):
    """Wait until an expression is true."""
    end = time.monotonic() + chromium.PATIENCE
    while not browser.run(script):
        assert time.monotonic() < end, script
        time.sleep(0.05)


def click_on(browser, selector):
    """As a person does: bring it into view, and click in its middle."""
    node = f"document.querySelector({selector!r})"
    browser.run(f"{node}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = browser.run(f"{node}.getBoundingClientRect().toJSON()")
    browser.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_pictures_are_looked_at_one_by_one(browser, pages):
    browser.open(pages["run"])
    click_on(browser, "[data-image='01-0.png'] .frame")
    assert browser.run(BOX) == [True, "round 1, seed 2: 0.80", "3 of 4"]
    browser.press("ArrowRight", 39)
    assert browser.run(BOX)[1:] == ["round 1, seed 3: –", "4 of 4"]
    browser.press("ArrowRight", 39)  # and round again
    assert browser.run(BOX)[1:] == ["round 0, seed 0: 0.30", "1 of 4"]
    for key, code, number in (("ArrowLeft", 37, 4), ("Home", 36, 1), ("End", 35, 4)):
        browser.press(key, code)
        assert browser.run(BOX)[2] == f"{number} of 4"
    assert browser.run("document.querySelector('dialog img').getAttribute('src')") == "01-1.png"
    browser.press("Escape", 27)
    assert browser.run(BOX)[0] is False
    assert browser.run(HERE) == "01-0.png"
    assert browser.run("location.pathname").endswith("index.html")  # and not the image's file
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("kind", "first", "pictures"),
    [
        # Each with its first image, but for those that failed or have only that.
        ("batch", "0.30: 0 ", 24),
        ("comparison", "raw, 0.20: 0 ", 11),
    ],
)
def test_a_gallery_s_pictures_are_looked_at_by_keys_and_buttons(
    browser, pages, kind, first, pictures
):
    browser.open(pages[kind])
    link = browser.run("document.querySelector('[data-gallery] a').getAttribute('href')")
    browser.run("document.querySelector('[data-gallery] a').focus()")
    browser.press(" ", 32)
    _, caption, number = browser.run(BOX)
    assert caption.startswith(first)
    assert number.endswith(f" of {pictures}")
    assert browser.run("document.querySelector('dialog a').getAttribute('href')") == link
    click_on(browser, "dialog .on")
    assert browser.run(BOX)[1] != caption
    click_on(browser, "dialog .back")
    assert browser.run(BOX)[1] == caption
    click_on(browser, "dialog .close")
    assert browser.run(HERE) == link
    choose(browser, "text", "p1")  # and p10 to p14: what is filtered out is not among them
    click_on(browser, "[data-gallery] > :not([hidden]) .enlarge")
    assert int(browser.run(BOX)[2].split()[-1]) < pictures
    browser.press("Escape", 27)
    assert browser.run(HERE) == "enlarge"


def test_pictures_are_looked_at_by_touch(browser, pages):
    browser.open(pages["alone"], width=390, height=844, phone=True)
    click_on(browser, "[data-image='00-1.png'] .frame")
    assert browser.run(BOX)[2] == "2 of 4"
    browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
    box = browser.run("document.querySelector('dialog img').getBoundingClientRect().toJSON()")
    middle = box["y"] + box["height"] / 2
    for start, end, number in ((300, 80, 3), (80, 300, 2), (100, 120, 2)):
        browser.drag(start, end, middle)
        assert browser.run(BOX)[2] == f"{number} of 4"
    browser.send("Emulation.setTouchEmulationEnabled", enabled=False)
    assert browser.run("document.querySelector('dialog a').hidden")  # there is no file to open
    browser.click(195, 8)  # beside the picture
    assert browser.run(BOX)[0] is False


def test_prompt_and_command_are_copied(browser, pages):
    browser.open(pages["hostile"])
    browser.run("navigator.clipboard.writeText = async (text) => { window.taken = text; }")
    for name, selector in (("label", ".title .copy"), ("told", "[role=status]")):
        browser.run(
            f"(() => {{ const node = document.querySelector({selector!r}); window.{name} = [];"
            f"new MutationObserver(() => window.{name}.push(node.textContent))"
            ".observe(node, {childList: true}); })()"
        )
    click_on(browser, ".title .copy")
    until(browser, "window.label.length === 2 && window.told.length === 2")
    assert browser.run("window.taken").startswith("</script><script>alert(1)")
    assert browser.run("[window.label, window.told]") == [["Copied", "Copy prompt"], ["Copied", ""]]


@pytest.mark.parametrize("can", [True, False])
def test_what_cannot_be_copied_by_the_clipboard_is_copied_otherwise(browser, pages, can):
    browser.open(pages["run"])
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browser.run(
        "addEventListener('copy', () => { window.taken = String(document.activeElement.value); })"
    )
    if not can:
        browser.run("document.execCommand = () => false")
    click_on(browser, "[data-image='01-0.png'] .copy")
    command = "gcr refine 'a circle in the middle'"
    taken = "window.taken" if can else "String(getSelection())"
    until(browser, taken)
    assert browser.run(taken).startswith(command)


def test_a_dot_of_the_chart_leads_to_its_image(browser, pages):
    browser.open(pages["run"])
    click = "new MouseEvent('click', {bubbles: true})"
    browser.run(f"document.querySelector('[href=\"#01-0.png\"] circle').dispatchEvent({click})")
    assert browser.run("document.querySelector(':target').tagName") == "ARTICLE"


def test_filters_filter(browser, pages):
    browser.open(pages["batch"])
    count = "document.querySelector('.tools output').textContent"
    assert browser.run(count) == "15 shown"
    choose(browser, "text", "P13 Quoted")
    assert browser.run(SHOWN) == ["p13"]
    assert browser.run(count) == "1 of 15"
    choose(browser, "text", "no such thing")
    assert browser.run("document.querySelector('[data-empty]').hidden") is False
    choose(browser, "text", "")
    choose(browser, "kind", "failed")
    assert browser.run(SHOWN) == ["p4", "p9", "p14"]
    choose(browser, "kind", "")
    choose(browser, "stop", "target")
    assert browser.run(SHOWN)[:4] == ["p1", "p3", "p5", "p7"]


def test_sorting_sorts(browser, pages):
    browser.open(pages["batch"])
    value = "[...document.querySelectorAll('[data-gallery] > li')].map(e => e.dataset.{} ?? null)"
    for name, field, falling in (
        *(("gain", "gain", True), ("-gain", "gain", False), ("score", "score", True)),
        *(("-score", "score", False), ("images", "images", True), ("order", "order", False)),
    ):
        choose(browser, "sort", name)
        shown = browser.run(value.format(field))
        values = [None if text is None else float(text) for text in shown]
        numbers = [number for number in values if number is not None]
        assert numbers == sorted(numbers, reverse=falling), name
        assert values == [*numbers, *[None] * values.count(None)], name


def test_the_gallery_is_walked_by_keys(browser, pages):
    browser.open(pages["batch"])
    here = "document.activeElement.closest('li').dataset.order"
    browser.press("/", 191)
    assert browser.run("document.activeElement.name") == "text"
    browser.run("document.querySelector('[data-gallery] a').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(here) == "1"
    browser.press("ArrowDown", 40)
    columns = int(browser.run(here)) - 1
    assert columns == browser.run(
        "getComputedStyle(document.querySelector('.cards')).gridTemplateColumns.split(' ').length"
    )
    browser.press("ArrowUp", 38)
    browser.press("ArrowLeft", 37)
    assert browser.run(here) == "0"
    browser.press("End", 35)
    assert browser.run(here) == "14"
    browser.press("Home", 36)
    raw = "Number(getComputedStyle(document.querySelector('.card .raw')).opacity)"
    assert browser.run(raw) == 1  # the focused one shows its first image
    browser.events.clear()
    browser.press("Enter", 13)
    browser.wait("Page.loadEventFired")
    assert browser.run("location.pathname").endswith("/runs/p0/index.html")


def test_all_first_images_are_shown_at_once(browser, pages):
    browser.open(pages["batch"])
    browser.run("document.querySelector('[data-class]').click()")
    hidden = "[...document.querySelectorAll('.raw')].filter(i => getComputedStyle(i).opacity < 1)"
    assert browser.run(f"{hidden}.length") == 0


def test_a_comparison_is_filtered_by_category_winner_and_suspicion(browser, pages):
    browser.open(pages["comparison"])
    choose(browser, "kind", "suspect")
    assert browser.run(SHOWN) == ["p1"]
    choose(browser, "kind", "won-0")
    assert browser.run(SHOWN) == ["p2"]
    choose(browser, "kind", "")
    choose(browser, "category", "1")
    assert browser.run(SHOWN) == ["p2", "p4"]


# The text of elements that are seen, whose contrast is less than AA asks for.
FAINT = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => {
    const line = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.map((v) => line(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.body.querySelectorAll('*')) {
    const text = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || !node.checkVisibility() || node.closest('script, option')) continue;
    const style = getComputedStyle(node);
    const ink = rgba(node.closest('svg') ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) faint.push(`${node.tagName}.${node.className} ${contrast.toFixed(2)}`);
  }
  return [...new Set(faint)];
})()"""


def test_a_page_that_can_write_nothing_gives_the_command_that_rates(browser, tmp_path):
    made = make_run(tmp_path / "run")
    browser.open(report(made.path))
    browser.run("document.querySelectorAll('.rating')[1].querySelector('[value=\"4\"]').click()")
    said = "document.querySelectorAll('.rating')[1].querySelector('code')?.textContent"
    until(browser, said)
    assert browser.run(said) == f"gcr rate {made.path.name} {made.run.attempts[1].image} 4"
    assert not (made.path / "ratings.jsonl").exists()
    gcr.rate(made.path, made.run.attempts[1].image, 4)
    browser.open(report(made.path))
    lit = "document.querySelectorAll('.rating')[1].querySelectorAll('[data-lit]').length"
    assert browser.run(lit) == 4
    assert browser.complaints() == []


def test_the_page_of_a_run_that_goes_on_is_loaded_again_but_not_while_a_picture_is_looked_at(
    browser, tmp_path
):
    folder = make_run(tmp_path / "run").path
    pictures = Pictures(folder / "index.html", embed=False)
    (folder / "index.html").write_bytes(run.page(folder, pictures, live=True))
    # The test says when the time is up, as a slow machine would take longer than any time.
    script = "setInterval = (act, milliseconds) => { Object.assign(window, {act, milliseconds}); }"
    kept = browser.send("Page.addScriptToEvaluateOnNewDocument", source=script)
    browser.open(folder / "index.html")
    browser.send("Page.removeScriptToEvaluateOnNewDocument", **kept)
    assert browser.run("milliseconds") == 5000
    browser.run("document.querySelector('.attempts .frame').click()")
    browser.events.clear()
    browser.run("act()")
    browser.run(chromium.PAINTED)
    assert not any("frame" in event["method"] for event in browser.events)
    browser.press("Escape", 27)
    browser.run("act()")
    browser.wait("Page.loadEventFired")
    assert browser.run("document.querySelector('dialog')") is None
