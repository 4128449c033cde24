"""`gcr ui`: who may use it, and whole sessions in a real browser on the embedded pair."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tiny
from chromium import needed
from fakes import SCORES, FakeCritic, FakeGenerator
from PIL import Image

import gcr
from gcr.core.records import GoOn
from gcr.device.memory import SharedDevice
from gcr.drawing import generator
from gcr.drawing.generator import Sampling
from gcr.engine import models
from gcr.engine.machine import ThisMachine
from gcr.errors import ModelError, UsageError
from gcr.settings.resolving import resolve
from gcr.storage import ratings
from gcr.ui import web
from gcr.ui.site import LONGEST, Site
from gcr.ui.studio import Studio

needed()
PATIENCE = 300  # seconds that anything may take, on a machine that has much else to do
PHONE = {"width": 390, "height": 844, "phone": True}
TOKEN = "a token of this session"
PROMPT = "two red circles, a blue star and a green square"
UNNAMED = [
    "article",
    "button",
    "link",
    "textbox",
    "combobox",
    "checkbox",
    "spinbutton",
    "slider",
    "searchbox",
]
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba("white");
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    if (!node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest("option, .sr, :disabled, script, style")) continue;
    const lights = [light(rgba(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    if (ratio < 4.5) low.push([walker.currentNode.data.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return low;
})()"""


@contextmanager
def serving(output, **flags):
    """A studio that is served by this process; gives its address."""
    studio = Studio({"output": str(output), **flags})
    with web.listen(0) as listening:
        server = web.server(studio, output, TOKEN, listening)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Address(listening.getsockname()[1], studio)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            studio.close()


class Address:
    """Where a studio is served. studio: itself."""

    def __init__(self, port, studio):
        self.port = port
        self.studio = studio
        self.page = f"http://127.0.0.1:{port}/?token={TOKEN.replace(' ', '%20')}"
        self.ours = {
            "Host": f"127.0.0.1:{port}",
            "Origin": f"http://127.0.0.1:{port}",
            "Cookie": f'gcr-{port}="{TOKEN}"',
        }

    def ask(self, method, path, body=None, **headers):
        """Status and text; a header of None is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host=True)
        content = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        for name, value in {**self.ours, "Content-Length": len(content), **headers}.items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), str(value))
        connection.endheaders(content)
        with closing(connection):
            response = connection.getresponse()
            self.headers = dict(response.getheaders())
            return response.status, response.read().decode(errors="replace")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a run of fakes, and one beside it."""
    output = tmp_path_factory.mktemp("place") / "outputs"
    with pytest.MonkeyPatch.context() as patch:
        pair = FakeGenerator(), FakeCritic(SCORES)
        patch.setattr(models, "load_models", lambda *_, **__: pair)
        gcr.refine("a red circle", rounds=1, output=output)
    (output / "page.html").write_text("<script>fetch('/release')</script>")
    (output.parent / "secret.png").write_bytes(b"\x89PNG secret")
    (output / "link.png").symlink_to(output.parent / "secret.png")
    return output


@pytest.fixture(scope="module")
def site(drawn):
    with serving(drawn) as address:
        yield address


# Who may use it


def test_without_the_token_nothing_is_shown_and_nothing_done(site):
    for method, path in (
        ("GET", "/"),
        ("GET", "/gallery"),
        ("GET", "/events"),
        ("POST", "/release"),
    ):
        assert site.ask(method, path, Cookie=None)[0] == 403
        assert site.ask(method, path, Cookie=f"gcr-{site.port}=guess")[0] == 403
    assert site.ask("GET", "/?token=guess", Cookie=None)[0] == 403


def test_the_first_address_hands_the_token_to_a_cookie_that_scripts_and_other_sites_lack(site):
    status, _ = site.ask("GET", site.page.partition(str(site.port))[2], Cookie=None)
    cookie = site.headers["set-cookie"].lower()
    assert status == 200
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_two_of_them_do_not_log_each_other_out(site, drawn, browser):
    """Browsers keep cookies by host, whatever the port."""
    with serving(drawn) as other:
        for each in (site, other, site):
            browser.open(each.page)
            until(browser, "document.querySelector('#loaded')?.textContent")
        for each in (site, other):
            browser.open(f"http://127.0.0.1:{each.port}/")
            until(browser, "document.querySelector('#loaded')?.textContent")


def test_a_link_on_another_page_opens_it(site, browser, tmp_path):
    """As in a terminal that is itself a page."""
    page = tmp_path / "terminal.html"
    page.write_text(f'<a href="{site.page}">{site.page}</a>')
    browser.open(page.as_uri())
    click(browser, "a")
    until(browser, "document.querySelector('#loaded')?.textContent")


def test_a_foreign_name_that_points_here_is_refused(site):
    for host in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example", ""):
        assert site.ask("GET", "/", Host=host)[0] == 421
    assert site.ask("GET", "/", Host="localhost:9999")[0] == 200  # through a tunnel


def test_another_page_can_press_no_button(site):
    for origin in (None, "null", "https://evil.example", "http://127.0.0.1:1", "http://localhost"):
        assert site.ask("POST", "/release", {}, Origin=origin)[0] == 403
    assert site.ask("GET", "/gallery", Sec_Fetch_Site="cross-site")[0] == 403
    assert site.ask("POST", "/release", {})[0] == 200


def test_only_pictures_of_the_output_folder_are_served(site, drawn):
    image = next(drawn.glob("*/*/00-0.png")).relative_to(drawn)
    assert site.ask("GET", f"/files/{image}")[0] == 200
    for path in (
        "../secret.png",
        "%2e%2e/secret.png",
        "link.png",
        "page.html",
        f"{image.parent}/run.json",
        "/etc/passwd",
    ):
        assert site.ask("GET", f"/files/{path}")[0] == 404, path


def test_a_page_may_load_and_ask_nothing_but_its_own_server(site):
    _, html = site.ask("GET", "/")
    policy = html.partition('http-equiv="Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src &#39;none&#39;" in policy
    assert "connect-src &#39;self&#39;" in policy
    assert "http:" not in policy
    assert (site.headers["x-frame-options"], site.headers["cache-control"]) == ("DENY", "no-store")


# What each address takes, and wrong values by their names, each of which goes to every address.
RUN = {"folder": "RUN"}  # where the run that there is stands for
ASKED = {"prompt": "a red circle", "flags": {}}
ACTS = {
    "/refine": ASKED,
    "/resume": {**RUN, "rounds": 1, "flags": {}},
    "/go-on": {**RUN, "image": "00-0.png", "how": "from", "flags": {}},
    "/critique": {"images": ["files/RUN/00-0.png"], **ASKED},
    "/begin": {"image": "files/RUN/00-0.png"},
    "/settings": {"flags": {}},
    "/decide": {"number": 1, "action": "go"},
    "/stop": {"number": 1},
    "/rate": {**RUN, "image": "00-0.png", "value": "3"},
    "/release": {},
}
LONG, MANY, HUGE = "x" * 60_000, "9" * 5000, 10**400
NOT_TEXT, WORD = (None, 1, [], {}), ("x", "\ud800", "<b>")
PATHS = (
    *NOT_TEXT,
    *WORD,
    "",
    LONG,
    "a\0b",
    "../..",
    "/etc/passwd",
    "$(id)",
    "~nobody/x",
    "files/RUN",
)
WRONG = {
    "folder": PATHS,
    "image": PATHS,
    "images": (*NOT_TEXT, "x", *([path] for path in PATHS)),
    "edit": (*PATHS[:7], "files/../../secret.png", "brought/x"),
    "prompt": (*NOT_TEXT, "\ud800"),
    "remark": NOT_TEXT,
    "flags": (*NOT_TEXT[:3], "x", {"rounds": 2}, {"rounds": ["2"]}, {"generator": "\ud800"}),
    "number": (None, "x", "1.5", [], {}, -1, 0, 99, 1.5, HUGE),
    "rounds": (None, "x", 1.5, -1, 101, HUGE),
    "how": (*NOT_TEXT, *WORD, ""),
    "action": (*NOT_TEXT, *WORD, ""),
    "value": (*NOT_TEXT, *WORD, "", "6", "-1", MANY),
    "approve": (2, [], "x"),
    "func": (1,),
    "self": (1,),
}
WRONG_SETTINGS = {
    "rounds": "many",
    "images": "-1",
    "guidance": "nan",
    "strategy": "x",
    "profile": "a\0b",
    "width": "1e999",
    "score": "<b>",
    "seed": MANY,
    "steps": "[" * 9999,
}
NOT_JSON = (
    *(b"{", b"[]", b"null", b"5", b"\xff\xfe", b"\xc3", b'{"a": 1, "a": 2}', b"[" * 100_000),
    *(b'{"flags":' * 9999 + b"1" + b"}" * 9999, b'{"number": ' + MANY.encode() + b"}"),
    b"x" * (LONGEST + 1),
)
READS = {
    "/": (),
    "/events": (),
    "/run": ("", "?x=1", *(f"?folder={name}" for name in ("", "%00", "%ff", "..", "2026", LONG))),
    "/gallery": ("?x=1", *(f"?within={name}" for name in ("..", "%00", "x", "page.html", LONG))),
    "/ranking": ("", *(f"?number={number}" for number in ("abc", "", "1.5", "99", "-1", MANY))),
    "/files/{path:path}": ("", "x", "%00", "%ff.png", "..%2f..", LONG, f"{LONG[:300]}.png"),
    "/brought/{name}": ("x", "%00", "..", "%ff", LONG),
}
PICTURES = (b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(99))


def wrong(place):
    """A method, an address and a body for each way of asking for what cannot be."""
    for path, queries in READS.items():
        address = path.partition("{")[0]
        yield "POST", address, b""
        yield from (("GET", address + query, None) for query in queries)
    yield from (("POST", "/upload", content) for content in PICTURES)
    yield from (("GET", path, None) for path in ("/upload", *ACTS, "/nothing"))
    for path, takes in ACTS.items():
        yield from (("POST", path, body) for body in NOT_JSON)
        bodies = [{key: takes[key] for key in takes if key != name} for name in takes]
        bodies += [{**takes, name: value} for name in WRONG for value in WRONG[name]]
        if path in ("/refine", "/critique", "/settings"):
            bodies += [{**takes, "flags": {name: v}} for name, v in WRONG_SETTINGS.items()]
        if path in ("/refine", "/critique"):
            bodies += [{**takes, "prompt": blank} for blank in ("", " \n")]
        for body in bodies:
            yield "POST", path, json.dumps(body).replace("RUN", place).encode()


def test_whatever_is_asked_wrongly_is_told_in_a_line_and_nothing_is_begun(site, drawn, caplog):
    with closing(Site(site.studio, drawn)) as answers:
        assert {route.path for route in answers.routes()} == {*READS, *ACTS, "/upload"}
    place = str(next(drawn.glob("*/*/run.json")).parent.relative_to(drawn))
    for method, path, body in wrong(place):
        asked = f"{method} {path[:80]} {str(body)[:200]}"
        status, told = site.ask(method, path, body)
        assert 400 <= status < 500, (asked, status, told[:300])
        lines = json.loads(told).values() if told.startswith("{") else [told]
        for line in lines:
            assert len(line.splitlines()) == 1, asked
            assert len(line) <= 400, asked
        assert "Traceback" not in told
        assert not caplog.records, asked
    assert site.studio.state()["works"] == []
    assert not ratings.read(drawn / place)


def test_whoever_leaves_in_the_middle_of_a_sentence_is_no_defect(site, caplog):
    for path in ("/upload", "/refine"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as client:
            lines = [f"{name}: {value}" for name, value in site.ours.items()]
            head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "Content-Length: 99", "", ""])
            client.sendall(head.encode() + b"half")
            client.shutdown(socket.SHUT_WR)
            client.recv(1 << 16)  # nothing, or that it could not be read
    assert site.ask("GET", "/gallery")[0] == 200
    assert not caplog.records


def test_a_defect_is_told_and_ends_nothing(site, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(site.studio, "release", broken)
    status, told = site.ask("POST", "/release", {})
    assert (status, json.loads(told)["message"]) == (500, "RuntimeError: no such luck")
    assert "in broken" in caplog.text
    assert site.ask("GET", "/gallery")[0] == 200


def test_a_run_of_a_batch_stays_as_its_batch_has_it(site, drawn):
    run = next(drawn.glob("*/*/run.json")).parent
    inside = drawn / "batch" / "runs" / "1"
    shutil.copytree(run, inside)
    image = {"image": "00-0.png"}
    asked = [("/resume", {"rounds": 1, "flags": {}})]
    asked += [("/go-on", {**image, "how": how, "flags": {}}) for how in ("from", "like", "keep")]
    for path, body in asked:
        status, told = site.ask("POST", path, {"folder": "batch/runs/1", **body})
        assert status == 400
        assert "no single run" in json.loads(told)["message"]


def test_a_form_cannot_move_the_output_or_trust_a_server(site):
    flags = {"output": "elsewhere", "trust_endpoint": "yes", "rounds": "2"}
    status, told = site.ask("POST", "/settings", {"flags": flags})
    assert status == 200
    assert told.count("this page") == 1
    assert "elsewhere" not in told


def test_a_port_that_is_taken_is_an_error_with_a_hint(site):
    with pytest.raises(UsageError, match="taken"):
        web.listen(site.port)


# One after another


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A studio on fakes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        models, "load_models", lambda *_, **__: (FakeGenerator(), FakeCritic(SCORES))
    )
    monkeypatch.setattr(models, "adapt", lambda drawer, critic, *_: (drawer, critic))
    studio = Studio({"output": "outputs", "patience": 9})
    yield studio
    studio.close()


def reached(work, *statuses):
    end = time.monotonic() + PATIENCE
    while work.status not in statuses:
        assert time.monotonic() < end, work
        time.sleep(0.01)


def test_what_is_asked_for_meanwhile_waits_and_can_be_taken_back(studio):
    first = studio.refine("a red circle", {"rounds": 2}, approve=True)
    second, third = (studio.refine("a blue star", {"rounds": 1}) for _ in range(2))
    reached(first, "asking")
    assert [work.status for work in (second, third)] == ["waiting", "waiting"]
    assert first.proposal == ["the prompt after 1", "the prompt after 0"]
    studio.stop(second.number)
    studio.decide(first.number, GoOn("a large red circle"))
    reached(third, "done")
    assert (first.status, second.status, second.folder) == ("done", "stopped", None)
    assert gcr.load_run(first.folder).attempts[2].candidate.prompt == "a large red circle"
    assert (third.folder / "index.html").exists()


def test_closing_ends_the_run_at_hand_where_all_is_saved_and_begins_no_other(studio):
    first = studio.refine("a red circle", {"rounds": 3}, approve=True)
    second = studio.refine("a blue star", {})
    reached(first, "asking")
    studio.close()
    run = gcr.load_run(first.folder)
    assert (len(run.rounds), run.stop) == (1, "chosen")
    assert second.folder is None
    assert studio.warm.names == ()


def test_what_fails_is_told_and_the_next_is_done(studio, monkeypatch):
    def broken(*_, **__):
        raise ModelError("no such model", "take another")

    works = models.load_models
    monkeypatch.setattr(models, "load_models", broken)
    first = studio.refine("a red circle", {"rounds": 1})
    reached(first, "failed")
    assert first.error == ("no such model", "take another")
    monkeypatch.setattr(models, "load_models", works)
    reached(studio.refine("a red circle", {"rounds": 1}), "done")


def test_more_rounds_are_drawn_as_the_studio_was_started(tmp_path, monkeypatch):
    """With what a run's folder does not keep, so that models stay as they were loaded."""
    loads = []

    def load(settings, *_, **__):
        loads.append(settings.residency)
        return FakeGenerator(), FakeCritic(SCORES)

    monkeypatch.setattr(models, "load_models", load)
    monkeypatch.setattr(models, "adapt", lambda drawer, critic, *_: (drawer, critic))
    studio = Studio({"output": str(tmp_path), "residency": "swap"})
    first = studio.refine("a red circle", {"rounds": 1})
    reached(first, "done")
    for flags in ({}, {"residency": "both"}):
        more = studio.resume(first.folder, 1, flags)
        reached(more, "done", "failed")
    studio.close()
    assert loads == ["swap", "both"]


def test_stopped_while_models_load_says_what_is_lost_and_what_is_not(studio, monkeypatch):
    pair = FakeGenerator(), FakeCritic(SCORES)
    works = []

    def load(*_, **__):
        studio.stop(works[-1].number)
        return pair

    def begin(ask, *arguments):
        monkeypatch.setattr(models, "load_models", lambda *_, **__: gate.wait(60) and load())
        gate = threading.Event()
        works.append(ask(*arguments))
        gate.set()
        reached(works[-1], "stopped")
        return works[-1].end

    assert begin(studio.refine, "a red circle", {}) == "stopped before anything was drawn"
    monkeypatch.setattr(models, "load_models", lambda *_, **__: pair)
    done = studio.refine("a red circle", {"rounds": 1})
    reached(done, "done")
    studio.release()
    assert begin(studio.resume, done.folder, 1) == "stopped before anything more was drawn"


def test_a_prompt_that_is_left_as_it_is_proposed_is_no_edit(studio):
    """Also where it has two lines, which a field of the page makes one."""
    work = studio.refine(
        "a red circle\nat the top", {"rounds": 2, "strategy": "best-of-n"}, approve=True
    )
    reached(work, "asking")
    decided = []
    studio.decide, decide = lambda _, decision: decided.append(decision), studio.decide
    site = Site(studio, Path("outputs"))
    site.decide(work.number, "go", "a red circle at the top")
    site.close()
    assert decided == [GoOn()]
    decide(work.number, decided[0])


def test_a_run_that_is_over_goes_on_from_any_image(studio):
    first = studio.refine("a red circle", {"rounds": 1})
    reached(first, "done")
    studio.go_on(first.folder, "00-1.png", "like")
    reached(studio.work(2), "done")
    run = gcr.load_run(first.folder)
    assert len(run.rounds) == 2
    assert {a.candidate.seed for a in run.rounds[1].attempts} == {1}
    assert all(a.candidate.mutations for a in run.rounds[1].attempts)
    studio.go_on(first.folder, "00-0.png", "from")
    reached(studio.work(3), "done")
    run = gcr.load_run(first.folder)
    assert (len(run.rounds), run.rounds[2].attempts[0].candidate.seed) == (5, 0)
    studio.go_on(first.folder, "00-0.png", "keep")
    assert gcr.load_run(first.folder).kept == "00-0.png"
    assert len(studio.state()["works"]) == 3
    with pytest.raises(UsageError, match=r"no image '09-0\.png'"):
        studio.go_on(first.folder, "09-0.png", "from")


@pytest.fixture
def slow(studio):
    """What is set once the second round of a run is being drawn, and what it waits for then."""
    drawing, chosen = threading.Event(), threading.Event()
    load = models.load_models

    class Slow(FakeGenerator):
        def draw(self, *wave):
            if len(self.calls) == 1:
                drawing.set()
                assert chosen.wait(PATIENCE)
            return super().draw(*wave)

    models.load_models = lambda *_, **__: (Slow(), load()[1])
    return drawing, chosen


@pytest.mark.parametrize(("rounds", "works"), [(3, 1), (2, 2)])
def test_a_run_that_goes_on_takes_an_image_up_after_the_round_in_hand(studio, slow, rounds, works):
    """And where that was its last round, a piece of work of its own does."""
    drawing, chosen = slow
    work = studio.refine("a red circle", {"rounds": rounds})
    assert drawing.wait(PATIENCE)
    studio.go_on(work.folder, "00-0.png", "from")
    assert work.as_json()["then"] == "then on from 00-0.png"
    chosen.set()
    reached(work, "done")
    end = time.monotonic() + PATIENCE
    while len(studio.state()["works"]) < works:  # the second one comes after the first is done
        assert time.monotonic() < end
        time.sleep(0.01)
    reached(studio.work(works), "done")
    run = gcr.load_run(work.folder)
    assert [(b.after, b.image) for b in run.branches] == [(2, "00-0.png")]
    assert run.rounds[2].attempts[0].candidate.seed == 0
    assert (work.as_json()["then"], len(studio.state()["works"])) == ("", works)


def test_what_is_chosen_while_a_run_is_being_stopped_is_not_lost(studio, slow):
    drawing, chosen = slow
    work = studio.refine("a red circle", {"rounds": 4})
    assert drawing.wait(PATIENCE)
    studio.stop(work.number)
    studio.go_on(work.folder, "00-0.png", "keep")
    assert work.as_json()["then"] == "then 00-0.png is kept"
    chosen.set()
    reached(work, "stopped")
    run = gcr.load_run(work.folder)
    assert (len(run.rounds), run.kept) == (2, "00-0.png")


# Sessions


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """A studio on the embedded pair, with all that a session leaves."""
    with serving(tmp_path_factory.mktemp("session") / "outputs", patience=9) as address:
        address.studio.warm.loads = count_loads(address.studio.warm)
        yield address


def count_loads(warm):
    """How often models are loaded from here on."""
    loads, release = [], warm.release

    def counted():
        loads.append(warm.names)
        release()

    warm.release = counted
    return loads


def until(browser, script):
    end = time.monotonic() + PATIENCE
    while not browser.run(script):
        if time.monotonic() > end:
            pytest.fail(f"{script}: {browser.complaints()}")
        time.sleep(0.05)


def click(browser, selector):
    """As a mouse does: where the middle of it is, once that has stopped moving."""
    place = f"document.querySelector({json.dumps(selector)})"
    middle = "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
    before, end = None, time.monotonic() + PATIENCE
    while True:
        browser.run(f"{place}.scrollIntoView({{block: 'center'}})")
        at = browser.run(f"{middle}({place}.getBoundingClientRect())")
        hit = browser.run(f"{place}.contains(document.elementFromPoint({at[0]}, {at[1]}))")
        if hit and at == before:  # a card has its place only once it is painted
            break
        assert time.monotonic() < end, f"{selector} cannot be clicked"
        before = at
        time.sleep(0.05)
    browser.click(*at)


def type_into(browser, selector, text):
    click(browser, selector)
    browser.run(f"document.querySelector({json.dumps(selector)}).select()")
    browser.send("Input.insertText", text=text)


def opened(browser, site, **screen):
    browser.open("about:blank", **screen)
    browser.open(site.page, **screen)
    until(browser, "document.querySelector('#loaded')?.textContent")


AT_REST = (
    "[...document.querySelectorAll('#works button')].every((each) => each.hidden)"
    " && document.querySelector('#run').ariaBusy === 'false'"
)
"""Nothing is going on, and what is shown is what came of it."""


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["desktop", "phone"])
def test_nothing_moves_by_itself_when_a_view_is_opened(browser, site, drawn, screen):
    folder = next(drawn.glob("*/*/run.json")).parent.relative_to(drawn)
    for view, shown in (
        ("work", "#empty:not([hidden])"),
        (f"run/{folder}", "#run article"),
        ("gallery", "#cards .card"),
        ("settings", "#rows tr"),
    ):
        opened(browser, site, **screen)
        browser.open("about:blank", **screen)
        browser.open(f"http://127.0.0.1:{site.port}/#{view}", **screen)
        until(browser, f"document.querySelector({shown!r}) !== null")
        assert browser.shifts() == [], view


def check(browser):
    """What holds of every view: it fits, all that can be used has a name, all can be read."""
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named = {
        node["role"]["value"]
        for node in nodes
        if not node["ignored"]
        and node.get("role", {}).get("value") in UNNAMED
        and not node.get("name", {}).get("value")
    }
    assert named == set()
    assert browser.run(CONTRAST) == []
    assert browser.complaints() == []


def look_through(browser, count):
    """See what the next prompt changes; open the first image, go on to the next, come back."""
    assert browser.run("document.querySelectorAll('#changes ins').length") > 0
    click(browser, "[data-image='00-0.png'] .frame")
    browser.press("ArrowRight", 39)
    assert browser.run("document.querySelector('dialog .number').textContent") == f"2 of {count}"
    browser.press("Escape", 27)
    where = "document.activeElement.closest('[data-image]').dataset.image"
    assert browser.run(where) == "00-0.png"


def test_a_session_by_mouse(browser, pocket, tmp_path):
    opened(browser, pocket)
    type_into(browser, "#prompt", PROMPT)
    type_into(browser, "[name=seed]", "5")
    click(browser, "[name=approve]")
    click(browser, "#ask .primary")
    until(browser, "!document.querySelector('#asking').hidden")
    until(browser, "document.querySelectorAll('#run article').length === 2")
    assert browser.run("document.querySelector('#next').value") not in ("", PROMPT)
    check(browser)
    look_through(browser, 2)
    type_into(browser, "#next", "a red circle at the top")
    click(browser, "#asking .primary")
    until(browser, "document.querySelectorAll('#run article').length === 4")
    until(browser, "!document.querySelector('#asking').hidden")
    click(browser, "[data-image='00-0.png'] [data-go=like]")
    until(browser, "document.querySelectorAll('#run article').length === 6")
    until(browser, "!document.querySelector('#asking').hidden")
    click(browser, "#enough")
    until(browser, AT_REST)
    (folder,) = pocket.studio.warm and list((Path(pocket.studio.flags["output"])).glob("*/*/"))
    run = gcr.load_run(folder)
    assert {a.candidate.prompt for a in run.rounds[1].attempts} == {"a red circle at the top"}
    assert [a.candidate.mutations != () for a in run.rounds[2].attempts] == [True, True]
    assert {a.candidate.seed for a in run.rounds[2].attempts} == {5}

    click(browser, "[data-image='01-1.png'] [value='4']")
    until(browser, "document.querySelectorAll('[data-image=\"01-1.png\"] [data-lit]').length === 4")
    assert ratings.read(folder)["01-1.png"].value == 4
    click(browser, "[data-image='01-0.png'] [data-go=keep]")
    until(
        browser,
        "document.querySelector('[data-image=\"01-0.png\"] .badge')?.textContent === 'kept'",
    )
    assert gcr.load_run(folder).kept == "01-0.png"
    assert (folder / "best.png").read_bytes() == (folder / "01-0.png").read_bytes()

    click(browser, "[data-image='00-1.png'] [data-act=compare]")
    browser.run(
        "document.querySelector('#left').value = document.querySelector('#left').options[0].value"
    )
    browser.run("document.querySelector('#left').dispatchEvent(new Event('change'))")
    shown = "document.querySelector('#stage .{}').src"
    names = [browser.run(shown.format(side)).rpartition("/")[2] for side in ("before", "after")]
    assert names == ["00-0.png", "00-1.png"]

    click(browser, "[name=approve]")
    click(browser, "[data-more='1']")
    until(browser, "document.querySelectorAll('#run article').length === 8")
    until(browser, AT_REST)
    assert pocket.studio.warm.loads == [()]  # once, before the first

    click(browser, "[data-tab=gallery]")
    until(browser, "document.querySelectorAll('#cards .card').length === 1")
    check(browser)
    click(browser, "[data-tab=settings]")
    until(browser, "document.querySelectorAll('#rows tr').length > 20")
    assert "this page" in browser.run("document.querySelector('#rows').textContent")
    check(browser)
    assert all(f"127.0.0.1:{pocket.port}" in url for url in browser.requested())


def test_a_session_by_keyboard(browser, pocket):
    opened(browser, pocket, dark=True)
    browser.run("document.querySelector('.theme').focus()")
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.id") == "prompt"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.send("Input.insertText", text="a blue star")
    for expected in ("submit", "approve", "profile", "images", "rounds"):
        browser.press("Tab", 9)
        assert expected in browser.run("document.activeElement.name || document.activeElement.type")
    browser.send("Input.insertText", text="1")
    browser.run("document.querySelector('#prompt').focus()")
    browser.send(
        "Input.dispatchKeyEvent",
        type="keyDown",
        key="Enter",
        code="Enter",
        modifiers=2,
        windowsVirtualKeyCode=13,
    )
    until(browser, "document.querySelectorAll('#run article').length === 2")
    until(browser, AT_REST)
    browser.run('document.querySelector(\'[data-image="00-1.png"] [value="2"]\').focus()')
    browser.press("Enter", 13)
    until(browser, "document.querySelectorAll('[data-image=\"00-1.png\"] [data-lit]').length === 2")
    focused = "document.activeElement.closest('[data-image]')?.dataset.image"
    assert browser.run(focused) == "00-1.png"  # where it was, though the part is new
    browser.run('document.querySelector(\'[data-image="00-1.png"] [data-go="from"]\').focus()')
    browser.press("Enter", 13)
    until(browser, "document.querySelectorAll('#run article').length >= 4")
    until(browser, AT_REST)
    folder = browser.run("decodeURIComponent(location.hash.slice('#run/'.length))")
    branch = gcr.load_run(Path(pocket.studio.flags["output"]) / folder).branch
    assert (branch.after, branch.image) == (1, "00-1.png")
    browser.run("document.querySelector('#stage input').focus()")
    before = browser.run("document.querySelector('#stage input').value")
    browser.press("ArrowRight", 39)
    assert float(browser.run("document.querySelector('#stage input').value")) > float(before)
    check(browser)


def test_a_failure_stays_until_it_is_put_away(browser, pocket):
    opened(browser, pocket)
    failed = pocket.studio.refine("a red circle", {"generator": "/no/such/folder"})
    reached(failed, "failed")
    reached(pocket.studio.refine("a red circle", {"rounds": 1}), "done")
    until(browser, "document.querySelectorAll('#works li').length === 2")
    assert "/no/such/folder" in browser.run("document.querySelector('#works .failed').textContent")
    check(browser)
    click(browser, "#works li button")
    until(browser, "document.querySelectorAll('#works li').length === 1")
    browser.run("location.hash = '#run/%E0%A4%A'")  # what nobody can read
    until(browser, "!document.querySelector('#error').hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_all_of_it(browser, pocket, dark):
    opened(browser, pocket, **PHONE, dark=dark)
    check(browser)
    browser.run("location.hash = '#gallery'")
    until(browser, "document.querySelectorAll('#cards .card').length > 0")
    check(browser)
    click(browser, "#cards .card a")
    until(browser, "document.querySelectorAll('#run article').length > 0")
    check(browser)
    browser.run("location.hash = '#settings'")
    until(browser, "document.querySelectorAll('#rows tr').length > 20")
    check(browser)


@pytest.fixture
def picture(pocket):
    """An image of a run of the session."""
    work = pocket.studio.refine("a red circle", {"rounds": 1, "images": 1})
    reached(work, "done")
    return work.folder / "00-0.png"


def test_a_picture_is_brought_in_to_be_judged_and_to_begin_from(browser, pocket, picture):
    opened(browser, pocket)
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", files=[str(picture.resolve())], nodeId=node)
    until(browser, "!document.querySelector('#given').hidden")
    click(browser, "#given-begin")
    until(browser, "document.querySelector('#prompt').value !== ''")
    known = gcr.load_run(picture.parent)
    assert browser.run("document.querySelector('#prompt').value") == known.request.prompt
    assert browser.run("document.querySelector('[name=seed]').value") == str(known.settings["seed"])
    loads = len(pocket.studio.warm.loads)
    click(browser, "#given-judge")
    until(browser, "location.hash.startsWith('#judged')")
    until(browser, "document.querySelectorAll('#run article').length === 1")
    score = f"{known.attempts[0].score:.2f}"
    assert browser.run("document.querySelector('#run .score b').textContent") == score
    assert len(pocket.studio.warm.loads) == loads  # the critic was there
    check(browser)


def test_a_picture_of_the_page_that_is_dropped_is_judged_by_words_of_the_user(
    browser, pocket, picture
):
    output = Path(pocket.studio.flags["output"])
    opened(browser, pocket)
    drop = """((path) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.setData("text/uri-list", `${location.origin}/files/${path}`);
      dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
    })"""
    browser.run(f"{drop}({json.dumps(picture.relative_to(output).as_posix())})")
    until(browser, "!document.querySelector('#given').hidden")
    click(browser, "#given-judge")
    until(browser, "!document.querySelector('#error').hidden")
    assert "what the picture is to show" in browser.run(
        "document.querySelector('#error').textContent"
    )
    click(browser, "#given-begin")
    until(browser, "document.querySelector('#prompt').value === 'a red circle'")


@pytest.fixture
def editing(tmp_path, monkeypatch):
    """A studio whose generator is a real editing pipeline of random weights."""
    drawer = generator.load(
        tiny.instruct_pix2pix(tmp_path / "editor"),
        Sampling(steps=1),
        SharedDevice("cpu"),
        edit=True,
    )
    draw = generator.load(
        tiny.stable_diffusion(tmp_path / "drawer"), Sampling(64, 64, steps=1), SharedDevice("cpu")
    )
    critic = FakeCritic({}, otherwise=0.5)

    def load(settings, *_, edit=False, **__):
        return (drawer if edit else draw), critic

    monkeypatch.setattr(models, "load_models", load)
    monkeypatch.setattr(models, "adapt", lambda drawer, critic, *_: (drawer, critic))
    models_ = {"generator": "owner/model", "critic": "owner/critic"}
    with serving(tmp_path / "outputs", images=1, rounds=1, patience=9, **models_) as address:
        address.critic = critic
        yield address


@pytest.mark.parametrize("screen", [{}, {**PHONE, "dark": True}])
def test_a_picture_of_a_run_is_edited_and_the_edit_gone_on_from(browser, editing, screen):
    opened(browser, editing, **screen)
    type_into(browser, "#prompt", "a house by the sea")
    click(browser, "#ask .primary")
    until(browser, "document.querySelectorAll('#run article').length === 1")
    until(browser, AT_REST)
    click(browser, "[data-tab=gallery]")
    until(browser, "document.querySelectorAll('#cards .card').length === 1")
    click(browser, "#cards .card a")
    until(browser, "document.querySelectorAll('#run article').length === 1")
    click(browser, "[data-image='00-0.png'] [data-act=edit]")
    assert (
        browser.run("document.querySelector('#given-edit').getAttribute('aria-pressed')") == "true"
    )
    assert browser.run("document.activeElement.id") == "prompt"
    check(browser)
    browser.send("Input.insertText", text="make the roof red")
    click(browser, "#ask .primary")
    until(browser, "document.querySelector('.run-title h2')?.textContent === 'make the roof red'")
    until(browser, "document.querySelectorAll('#run article').length === 1")
    until(browser, AT_REST)
    drawn, edited = editing.studio.work(1).folder, editing.studio.work(2).folder
    run = gcr.load_run(edited)
    assert (run.request.prompt, run.request.source) == ("make the roof red", "source.png")
    with Image.open(drawn / "00-0.png") as before, Image.open(edited / "source.png") as source:
        assert before.convert("RGB").tobytes() == source.convert("RGB").tobytes()
    click(browser, "[data-image='00-0.png'] [data-go=from]")
    until(browser, "document.querySelectorAll('#run article').length === 4")
    until(browser, AT_REST)
    run = gcr.load_run(edited)
    assert [a.candidate.edits for a in run.attempts] == ["", *["00-0.png"] * 3]
    assert run.rounds[1].attempts[0].candidate.seed == run.rounds[0].attempts[0].candidate.seed
    assert {source.tobytes() for source in editing.critic.sources if source} == {
        source_of(edited).tobytes()
    }
    click(browser, "[href='#00-0.png']")  # in the words that say what was gone on from
    assert browser.run("location.hash").startswith("#run/")
    click(browser, "[data-more='1']")
    until(browser, "document.querySelectorAll('#run article').length === 5")
    until(browser, AT_REST)
    check(browser)


def source_of(folder):
    with Image.open(folder / "source.png") as image:
        return image.convert("RGB")


def test_words_of_users_and_models_are_text(browser, site, drawn):
    hostile = "<img src=x onerror=alert(1)><b>bold</b>"
    status, told = site.ask("POST", "/refine", {"prompt": hostile, "flags": {}})
    assert status == 400  # the embedded pair understands nothing of it
    assert hostile[:20] in json.loads(told)["message"]
    opened(browser, site)
    type_into(browser, "#prompt", hostile)
    click(browser, "#ask .primary")
    until(browser, "!document.querySelector('#error').hidden")
    assert browser.run("document.querySelectorAll('#error img, #error b').length") == 0


def test_where_work_is_kept_stays_though_gcr_yaml_is_changed(cli, monkeypatch):
    kept = []

    def serve(studio, output, *_):
        Path("gcr.yaml").write_text("output: elsewhere\n")
        kept.append((output, resolve(studio.flags, ThisMachine()).settings.output))
        studio.close()

    monkeypatch.setattr(web, "serve", serve)
    cli("ui", "--no-open")
    assert kept == [(Path("outputs"), Path("outputs"))]


def test_no_command_line_shows_the_key_and_the_browser_gets_in(tmp_path, browser):
    """Other users of the machine may read what processes were started with."""
    shown, seen = tmp_path / "arguments", tmp_path / "outputs"
    stand_in = tmp_path / "browser"
    stand_in.write_text(f'#!/bin/sh\necho "$@" > {shown}.part && mv {shown}.part {shown}\n')
    stand_in.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "gcr", "ui", "--output", str(seen)],
        env={**os.environ, "BROWSER": str(stand_in), "DISPLAY": ":0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process as started:
        address = started.stdout.readline().strip()
        token = address.partition("token=")[2]
        end = time.monotonic() + PATIENCE
        while not shown.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        file = Path(urlsplit(shown.read_text().strip()).path)
        assert len(token) > 20
        assert token not in shown.read_text()
        assert (token in file.read_text(), file.stat().st_mode & 0o777) == (True, 0o600)
        browser.open(file)
        until(browser, "document.querySelector('#loaded')?.textContent")
        assert "token" not in browser.run("location.href")
        started.send_signal(signal.SIGINT)
    assert not file.exists()


def test_without_its_libraries_gcr_ui_says_what_to_install(cli, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ran = cli("ui", "--no-open")
    assert ran.code == 2
    assert "pip install 'gcr[ui]'" in ran.err
