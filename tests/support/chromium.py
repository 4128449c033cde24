"""A real browser without a window, driven over the two pipes of its DevTools protocol.

Chromium reads commands from file descriptor 3 and answers on 4, each message ended by a NUL, so
that nothing but the browser itself has to be installed. Run as a program, this installs one where
that takes no password.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = (
    "the tests in a browser are left out, as there is no Chromium; "
    "to have it: apt-get install chromium, or any Chromium or Chrome in PATH"
)
REQUIRED = "GCR_TEST_BROWSER"
"""Set in the environment where nothing may be left out."""
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-pipe"),
)
# Puts the pipes where the protocol wants them, out of each other's way first.
PLACED = """
import fcntl, os, sys
ours = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(ours, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 60  # seconds that any answer may take
PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SHIFTS = f"""{PAINTED}.then(() => {{
  const observer = new PerformanceObserver(() => {{}});
  observer.observe({{ type: "layout-shift", buffered: true }});
  return observer.takeRecords().map(({{ value, sources }}) =>
    [value, ...sources.map(({{ node }}) => node?.id || node?.className || node?.nodeName)]);
}})"""


def binary():
    """The first browser in PATH that starts, or None: some systems have a stub that does not."""
    for path in filter(None, map(shutil.which, NAMES)):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def needed():
    """For a module of tests: the browser, or None where one is required and there is none. Skips
    the module where there is none and it may be left out.
    """
    import pytest

    path = binary()
    if path is None and not os.environ.get(REQUIRED):
        pytest.skip(MISSING, allow_module_level=True)
    return path


def install():
    """Install Debian's, where the system has it and this user may; what goes wrong is shown."""
    client = shutil.which("apt-get")
    if client is None or os.getuid() != 0:
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in ("update", "install --yes --no-install-recommends chromium"):
        command = [client, "-qq", *words.split()]
        subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False)


def main():
    """Returns 1 where there is no browser though one is required."""
    if binary() is None:
        install()
    if os.environ.get(REQUIRED) and binary() is None:
        sys.stderr.write(f"{REQUIRED} is set, but {MISSING}\n")
        return 1
    return 0


class Browser:
    """One tab. events: all that the browser said without being asked, since the page was opened.

    What was still on its way of the page before is left out.
    """

    def __init__(self, path, profile):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [path, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", PLACED, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._count = 0
        self._session = None
        self.events = []
        self._left = set()
        (target,) = [
            one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"
        ]
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        """One command; returns its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._count:
                assert "error" not in said, said["error"]
                return said["result"]
            self._keep(said)

    def open(self, page, *, width=1280, height=900, dark=False, phone=False):
        """Open a file or an address and wait until it is loaded; returns the seconds that took."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        wishes = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce"}
        features = [{"name": f"prefers-{name}", "value": wish} for name, wish in wishes.items()]
        self.send("Emulation.setEmulatedMedia", features=features)
        self._left.update(map(_loader, self.events))
        self.events.clear()
        started = time.perf_counter()
        address = page if isinstance(page, str) else Path(page).absolute().as_uri()
        loader = self.send("Page.navigate", url=address)["loaderId"]
        shown = self.wait("Page.frameNavigated", loader)
        self.events[:shown] = [said for said in self.events[:shown] if _loader(said) == loader]
        self.wait("Page.loadEventFired")
        return time.perf_counter() - started

    def wait(self, method, loader=None):
        """Wait until the browser has said something; returns its place among the events.

        loader: the loading of a page that it has to be of, or None for any.
        """
        place = 0
        while True:
            while place == len(self.events):
                self._keep(self._next())
            said = self.events[place]
            if said["method"] == method and loader in (None, _loader(said)):
                return place
            place += 1

    def run(self, script):
        """The value of a JavaScript expression, awaited."""
        result = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def shifts(self):
        """The layout shifts since the page was opened, whatever caused them: how large each was,
        and what moved.
        """
        return self.run(SHIFTS)

    def press(self, key, code=0):
        """Press and release a key, as `ArrowRight`."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **text,
            )

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(self, start, end, y):
        """Draw a finger from one x to another."""
        for kind, x in (
            ("touchStart", start),
            ("touchMove", (start + end) / 2),
            ("touchMove", end),
        ):
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def requested(self):
        """Every address that was asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """What the console and the browser's log had to say."""
        found = []
        for event in self.events:
            if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                found.append(event["params"])
            elif event.get("method") == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
        return found

    def screenshot(self, path, *, whole=False):
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._write)
        os.close(self._read)

    def _keep(self, said):
        loader = _loader(said)
        if loader is None or loader not in self._left:
            self.events.append(said)

    def _next(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._read, 1 << 16)
            assert read, "the browser is gone"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def _loader(event):
    """Which loading of a page an event is of, or None where it does not say so."""
    params = event.get("params", {})
    return params.get("loaderId") or params.get("frame", {}).get("loaderId")


if __name__ == "__main__":
    sys.exit(main())
