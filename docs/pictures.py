"""Draws what the pages show, all of it from real runs.

make gallery        docs/gallery.md and its images: every prompt of two files of `examples/`
make screenshots    docs/images/: a run in the terminal, its page, and `gcr ui`, on a desktop and a
                    phone; needs tmux and Chromium
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import gcr
from gcr.core.ranking import best_scored
from gcr.core.records import Attempt, Result
from gcr.pocket import language, truth
from gcr.results.report import report as write_page

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"
IMAGES = ROOT / "docs" / "images"
FILES = ("examples/prompts/shapes.txt", "examples/prompts/shapes.yaml")
REQUEST = "two red circles, a blue star and a green square"

INTRO = """\
# Gallery

For those who want to see what refining does before they install anything: all {count} prompts of
{files}, none left out,
drawn with the embedded pair.

```
gcr batch {names}
```

On the left is the first image of the request as it is, on the right the one that the critic chose
in the end. Below each stand the critic's score, and whether a program that reads pixels, which the
critic never sees, finds all of the request in it and nothing else: so it is with {raw} of the first
images, and with {best} of the chosen ones. The images are as gcr wrote them:
`gcr info docs/gallery/01-refined.png` tells how one was drawn.

`make gallery` draws them and writes this page. [comparing.md](comparing.md#on-the-embedded-pair)
has 200 prompts that the pair was not trained on. No large model was tried yet.

| request, *the prompt that was drawn in the end*, scores by round | as it is | refined |
|---|---|---|
"""
ROW = (
    "| {prompt}<br><br>{drawn}{trail} | ![as it is](gallery/{number}-raw.png)<br>{raw} "
    "| ![refined](gallery/{number}-refined.png)<br>{best} |\n"
)


def gallery() -> None:
    """Draw the gallery and write its page."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder  # no settings of whoever makes the pictures
        outcome = gcr.batch([ROOT / name for name in FILES], into=Path(folder) / "batch")
        shutil.rmtree(GALLERY, ignore_errors=True)
        GALLERY.mkdir()
        entries = [
            _entry(f"{number:02}", result, outcome.folder / result.folder)
            for number, result in enumerate(outcome.results, 1)
        ]
    raw, best = (sum(right) for right in zip(*(right for _, right in entries), strict=True))
    intro = INTRO.format(
        count=len(entries),
        files=" and\n".join(f"[{name}](../{name})" for name in FILES),
        names=" ".join(FILES),
        raw=raw,
        best=best,
    )
    page = ROOT / "docs" / "gallery.md"
    page.write_text(intro + "".join(text for text, _ in entries), encoding="utf-8")


def _entry(number: str, result: Result, folder: Path) -> tuple[str, tuple[bool, bool]]:
    """A prompt's part of the page, and whether its first and its chosen image are right."""
    run = gcr.load_run(folder)
    first, best = run.attempts[0], best_scored(run)
    assert best is not None  # noqa: S101 - the embedded critic scores all that this pair draws

    def shown(attempt: Attempt, name: str) -> tuple[str, bool]:
        place = GALLERY / f"{number}-{name}.png"
        shutil.copy(folder / attempt.image, place)
        with Image.open(place) as image:
            right = truth.shows(image.convert("RGB"), language.parse(result.prompt))
        return f"{attempt.score:.2f}, {'right' if right else 'not right'}", right

    raw, refined = shown(first, "raw"), shown(best, "refined")
    trail = " → ".join(
        ", ".join(f"{attempt.score:.2f}" for attempt in round_.attempts) for round_ in run.rounds
    )
    drawn = best.candidate.prompt
    text = ROW.format(
        number=number,
        prompt=result.prompt,
        raw=raw[0],
        best=refined[0],
        drawn="" if drawn == result.prompt else f"*{drawn}*<br><br>",
        trail=trail,
    )
    return text, (raw[1], refined[1])


# From the page of a run, so that terminal and page look alike.
THEME = TerminalTheme(
    (26, 27, 29),
    (222, 220, 212),
    [
        *((60, 62, 66), (224, 108, 98), (110, 184, 140), (214, 184, 110)),
        *((110, 160, 220), (200, 140, 200), (92, 190, 180), (222, 220, 212)),
    ],
)
COLUMNS, ROWS = 96, 48
FRAME = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fcfbf7; font: 15px "DejaVu Sans", sans-serif; color: #555; }}
pre {{ margin: 0; padding: 22px; background: #1a1b1d; color: #dedcd4; line-height: 1.4;
  font: 14px "DejaVu Sans Mono", monospace; white-space: pre; }}
div {{ display: flex; gap: 44px; justify-content: center; padding: 26px; }}
figure {{ margin: 0; }} img {{ width: 300px; border: 1px solid #ddd; border-radius: 8px; }}
figcaption {{ display: flex; justify-content: space-between; padding-top: 8px; }}
</style><pre>{terminal}</pre><div>{figures}</div>"""
FIGURE = '<figure><img src="{src}"><figcaption>{words}<b>{score}</b></figcaption></figure>'


def screenshots() -> None:
    """Make every picture of `docs/images` anew."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import chromium

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["XDG_CONFIG_HOME"] = folder  # as in gallery
        browser = chromium.Browser(chromium.binary(), place / "browser")
        try:
            _terminal(browser, place)
            _studio(browser, place)
            _comparison(browser, place)
        finally:
            browser.close()


def _terminal(browser: Any, folder: Path) -> None:
    """A run in a terminal, with its two images below; and the page of it."""
    command = ["gcr", "refine", REQUEST, "--images", "1"]
    shown = in_terminal(command, folder)
    run_folder = next((folder / "outputs").glob("*/*/run.json")).parent
    run = gcr.load_run(run_folder)
    best = best_scored(run)
    assert best is not None  # noqa: S101 - as in _entry
    figures = [
        FIGURE.format(src=run_folder / a.image, words=escape(words), score=f"{a.score:.2f}")
        for a, words in (
            (run.attempts[0], "round 0, as it is"),
            (best, f"round {len(run.rounds) - 1}, rewritten"),
        )
    ]
    page = folder / "terminal.html"
    page.write_text(FRAME.format(terminal=shown, figures="".join(figures)), encoding="utf-8")
    _shoot(browser, page, "gcr.png", width=860, height=600, whole=True)
    report = run_folder / "index.html"
    _shoot(browser, report, "page.png", width=1000, height=1180)
    _shoot(browser, report, "page-phone.png", width=390, height=844, phone=True)


def in_terminal(command: list[str], folder: Path) -> str:
    """What a command leaves on a terminal, as HTML. It is run in `folder`, until it ends."""
    done = folder / "done"
    line = shlex.join([sys.executable, "-m", *command])
    server = ["tmux", "-L", f"gcr-{os.getpid()}"]
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    script = f"{line}; touch {shlex.quote(str(done))}; sleep 60"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    subprocess.run(  # noqa: S603 - our own command
        [*server, "-f", "/dev/null", "new-session", "-d", *size, script],
        check=True,
        cwd=folder,
        env=environ,
    )
    try:
        end = time.monotonic() + 300
        while not done.exists():
            if time.monotonic() > end:
                raise TimeoutError(line)
            time.sleep(0.2)
        time.sleep(0.5)  # for tmux to have read the last line
        capture = subprocess.run(  # noqa: S603 - as above
            [*server, "capture-pane", "-e", "-p", "-S", "-"],
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run([*server, "kill-server"], check=False)  # noqa: S603 - as above
    typed = Text.assemble(("$ ", "dim"), (shlex.join(command), "bold"), "\n")
    console = Console(file=StringIO(), record=True, width=COLUMNS, force_terminal=True)
    console.print(typed, Text.from_ansi(capture.stdout.rstrip()), sep="\n", soft_wrap=True)
    return console.export_html(theme=THEME, code_format="{code}", inline_styles=True)


def _studio(browser: Any, folder: Path) -> None:
    """`gcr ui`: after a round, with the next prompt to change; and when the run is done."""
    with _served(folder) as address:
        browser.open(address, width=1280, height=1000)
        _until(browser, "document.querySelector('#loaded')?.textContent")
        browser.run(f"document.querySelector('#prompt').value = {REQUEST!r}")
        browser.run("document.querySelector('[name=approve]').click()")
        browser.run("document.querySelector('#ask .primary').click()")
        _until(browser, "document.querySelector('#next').value")
        browser.screenshot(IMAGES / "ui-next.png")
        browser.run("document.querySelector('#asking .primary').click()")
        _until(browser, "document.querySelector('[data-more]')")
        browser.screenshot(IMAGES / "ui.png")
        shown = browser.run("location.href")
        browser.open("about:blank")  # else only the part behind # would be new, and nothing loaded
        browser.open(shown, width=390, height=844, phone=True)
        _until(browser, "document.querySelector('[data-more]')")
        _until(browser, "[...document.querySelectorAll('#stage img')].every((i) => i.naturalWidth)")
        browser.run("document.querySelector('#run').scrollIntoView()")
        browser.screenshot(IMAGES / "ui-phone.png")


def _comparison(browser: Any, folder: Path) -> None:
    """The page of the comparison that docs/comparing.md speaks of."""
    prompts = folder / "prompts.txt"
    held_out = (ROOT / "examples" / "held-out.txt").read_text(encoding="utf-8")
    prompts.write_text("".join(held_out.splitlines(keepends=True)[:24]), encoding="utf-8")
    gcr.compare([prompts], into=folder / "compared", max_images=4)
    page = write_page(folder / "compared")
    _shoot(browser, page, "comparison.png", width=1000, height=900)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """`gcr ui` in a folder; gives its address."""
    command = [sys.executable, "-m", "gcr", "ui", "--no-open"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def _until(browser: Any, script: str) -> None:
    """Wait until a script's value is true, two minutes at most."""
    end = time.monotonic() + 120
    while not browser.run(f"!!({script})"):
        if time.monotonic() > end:
            raise TimeoutError(script)
        time.sleep(0.2)


def _shoot(browser: Any, page: Path, name: str, *, whole: bool = False, **size: int | bool) -> None:
    if not page.is_file():  # a browser takes a picture of its complaint
        raise FileNotFoundError(page)
    browser.open(page, **size)
    browser.screenshot(IMAGES / name, whole=whole)


if __name__ == "__main__":
    {"gallery": gallery, "screenshots": screenshots}[sys.argv[1]]()
