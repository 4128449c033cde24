"""Servers that speak as OpenAI's do, and then do not, as the critic of the real `gcr critique`.

Only the waiting is shortened: 4 seconds for a reply instead of 600, and pauses of hundredths of
seconds between tries.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import serving
from replies import REPLY
from serving import Staged, completion

from benchmarks.reliability import ROOT, Tally
from gcr.core.plaintext import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "sk-a-secret-that-nobody-may-see"
MOST_SECONDS = 120
MOST_BYTES = 2 * 1024**3
TOOL = """
import sys
from gcr.critic import server
server.LOOK_SECONDS = 4.0
server.FIRST_PAUSE = 0.05
server.RETURN_PAUSE = 0.2
server.Server.__init__.__kwdefaults__.update(reply_seconds=4.0, return_seconds=4.0)
from gcr.__main__ import main
sys.exit(main())
"""
Handler = Any
WHOLE = json.dumps(completion(REPLY))


def written(*lines: str, body: bytes = b"") -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


OK = "HTTP/1.1 200 OK"


def dripping(start: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.wfile.write(f"{OK}\r\nContent-Length: 100000\r\n\r\n{start}".encode())
        for _ in range(600):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


def silent(_: Handler) -> None:
    time.sleep(30)


def endless(handler: Handler) -> None:
    handler.wfile.write(f"{OK}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(8000):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_headers(handler: Handler) -> None:
    handler.wfile.write(f"{OK}\r\n".encode())
    for number in range(10**6):
        handler.wfile.write(f"X-{number}: y\r\n".encode())


def packed(level: int) -> Callable[[Handler], None]:
    """256 MiB of spaces in gzip; level 2: packed twice."""

    def answer(handler: Handler) -> None:
        packer = zlib.compressobj(wbits=31)
        body = b"".join(packer.compress(b" " * 2**20) for _ in range(256)) + packer.flush()
        body = gzip.compress(body) if level == 2 else body
        encoding = ", ".join(["gzip"] * level)
        handler.wfile.write(
            f"{OK}\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    return answer


def refused(status: int, body: object = None, **headers: str) -> Callable[[object], object]:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return lambda _: (status, named, {"error": {"message": "no"}} if body is None else body)


def said(text: object, **more: Any) -> Callable[[object], object]:
    return lambda _: completion(text, **more)


def with_message(**fields: object) -> Callable[[object], object]:
    answer = completion(None)
    answer["choices"][0]["message"].update(fields)
    return lambda _: answer


def raw(body: str | bytes) -> Callable[[object], object]:
    return lambda _: body


def as_told(answer: Callable[[Handler], None]) -> Callable[[object], object]:
    return lambda _: answer


def echoing(body: dict[str, Any]) -> object:
    """A reply with all that was sent, the key included."""
    return completion(json.dumps(body)[:500] + f" Bearer {KEY}")


ANSWERS: dict[str, Callable[[Any], object]] = {
    # Slow, or without an end.
    "says nothing": as_told(silent),
    "drips a reply byte by byte": as_told(dripping(WHOLE[:50])),
    "drips nothing but spaces": as_told(dripping("")),
    "sends a body without an end": as_told(endless),
    "sends headers without an end": as_told(endless_headers),
    "sends 256 MiB packed": as_told(packed(1)),
    "sends 256 MiB packed twice": as_told(packed(2)),
    # Cut off.
    "hangs up without a word": lambda _: None,
    "hangs up amid the headers": as_told(written(OK, "Content-Le")),
    "hangs up amid the body": as_told(
        written(OK, "Content-Length: 5000", body=WHOLE[:60].encode())
    ),
    "sends less than it says": as_told(written(OK, "Content-Length: 99999", body=WHOLE.encode())),
    "sends half a JSON": raw(WHOLE[: len(WHOLE) // 2]),
    "cuts its reply off": said(REPLY[:200], finish="length"),
    "cuts its reply off in a score": said(REPLY[: REPLY.index("2.25") + 2], finish="length"),
    # Not HTTP, not JSON, not the right JSON.
    "does not speak HTTP": as_told(written("SSH-2.0-OpenSSH_9.9")),
    "answers with another version": as_told(written("HTTP/9.9 200 OK", "Content-Length: 0")),
    "packs badly": as_told(
        written(OK, "Content-Encoding: gzip", "Content-Length: 4", body=b"nope")
    ),
    "names an unknown encoding": as_told(
        written(OK, "Content-Encoding: br2", "Content-Length: 4", body=b"nope")
    ),
    "has a length that is no number": as_told(written(OK, "Content-Length: many")),
    "sends a page": raw(
        "<html><body><h1>Please log in</h1><script>alert(1)</script></body></html>"
    ),
    "sends nothing": raw(""),
    "sends bytes that are no text": raw(b"\xff\xfe\x00" * 100),
    "nests 100,000 deep": raw("[" * 100_000),
    "sends a number of 5,000 digits": raw(WHOLE.replace("null", "9" * 5000)),
    "sends NaN": raw(WHOLE.replace("null", "NaN")),
    "sends a list": raw("[1, 2]"),
    "has no choices": lambda _: {"choices": []},
    "has choices of another type": lambda _: {"choices": {"0": "x"}},
    "has content of another type": said({"a": 1}),
    "has null for content": said(None),
    "has a lone surrogate": raw(WHOLE.replace("cat", "\\ud800")),
    # Refusals.
    "401": refused(401),
    "402, with an address in its words": refused(
        402, {"error": {"message": "pay at https://example.com"}}
    ),
    "403, with a page": refused(403, "<html>blocked</html>"),
    "404": refused(404),
    "413": refused(413),
    "429 without end": refused(429),
    "429, to wait for a year": refused(429, Retry_After="31536000"),
    "429, to wait for a word": refused(429, Retry_After="soon"),
    "500 without end": refused(500),
    "503, with escape sequences": refused(503, {"error": {"message": "\x1b[2J\x1b]0;x\x07down"}}),
    "599, with a message of a megabyte": refused(599, {"error": {"message": "x" * 2**20}}),
    "redirects to itself": refused(302, "", Location="/v1/chat/completions"),
    "redirects to another host": refused(
        307, "", Location="http://127.0.0.1:9/v1/chat/completions"
    ),
    "redirects to a file": refused(301, "", Location="file:///etc/passwd"),
    "an error in a 200": lambda _: {"error": {"message": "overloaded", "code": 503}},
    # Lies.
    "filters the reply": said(REPLY, finish="content_filter"),
    "refuses in words": with_message(refusal="I will not look at this."),
    "says all of it among its thoughts": with_message(reasoning_content=REPLY),
    "says what it was sent, with the key": echoing,
    "repeats the form": said(
        "1. Text Faithfulness:\n## Score: <1-4>\n2. Physical and Visual Quality:\n## Score: 1-4"
    ),
    "gives a score beyond the scale": said(REPLY.replace("2.5", "25").replace("3.0", "9.9")),
    "answers in a megabyte of words": said("fine " * 200_000),
    "answers with control characters": said(
        "\x1b[31m" + REPLY.replace(" cat", " \x1b]0;t\x07\u202ecat")
    ),
    "answers as it should": said(REPLY),
    "answers at the third try": None,  # type: ignore[dict-item]
}
SCORED = {
    *("answers as it should", "answers at the third try", "answers with control characters"),
}


def run(place: Path, seed: int, scale: float, tally: Tally) -> None:  # noqa: ARG001 - none is random
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(place / "image.png")
    count = max(3, round(len(ANSWERS) * scale))
    with ThreadPoolExecutor(3) as pool:
        for name, outcome, failure in pool.map(
            lambda name: _tried(name, place), [*ANSWERS][-count:]
        ):
            tally.note(name, outcome, failure)


def _tried(name: str, place: Path) -> tuple[str, str, str]:
    stage = Staged()
    answer = ANSWERS[name]
    if answer is None:
        # After the questions that find out whether it sees images.
        answers = iter([*(completion(REPLY),) * 3, None, (503, {}, "")])
        stage.answer = lambda _: next(answers, completion(REPLY))
    else:
        stage.answer = answer
    try:
        return name, *_judged(name, *_command(stage, place))
    finally:
        stage.close()


def _command(stage: serving.Staged, place: Path) -> tuple[int, str, str]:
    arguments = ["critique", "image.png", "a red cat", "--critic", f"{stage.url}#staged", "--json"]
    try:
        done = subprocess.run(
            [sys.executable, "-c", TOOL, *arguments],
            cwd=place,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "XDG_CONFIG_HOME": str(place / "config"),
                "GCR_API_KEY": KEY,
            },
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES)),
        )
    except subprocess.TimeoutExpired as error:
        return 124, "", f"not over after {error.timeout} seconds"
    return done.returncode, done.stdout, done.stderr


def _judged(name: str, code: int, out: str, err: str) -> tuple[str, str]:  # noqa: PLR0911 - in turn
    if KEY in out + err:
        return "", "the key was shown"
    if "Traceback" in err or "defect of gcr" in err or code not in (0, 1, 2, 3):
        return "", f"exit code {code}: {err[-600:]}"
    if any(sign in err for sign in "\x1b\x07\u202e"):
        return "", f"control characters: {err!r}"
    lines = err.splitlines()
    clear = sum(line.startswith("error: ") for line in lines) == 1
    if code and not (clear and any(line.startswith("hint: ") for line in lines)):
        return "", f"exit code {code} without one error and its hint: {err[-600:]}"
    if max(map(len, lines), default=0) > 1000:
        return "", f"a line of {max(map(len, lines))} characters"
    scored = bool(out) and any(each["score"] is not None for each in json.loads(out)["images"])
    if scored != (name in SCORED):
        return "", f"scored: {scored}; {out[:300]} {err[:300]}"
    if scored:
        return "scored as the server said", ""
    told = next(line for line in lines if line.startswith("error: "))
    told = re.sub(r"http://127\.0\.0\.1:\d+/v1", "SERVER", told.removeprefix("error: "))
    return shortened(told, 120).replace("|", "/"), ""
