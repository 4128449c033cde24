"""Servers for the tests of endpoint critics: the real one of transformers, and a staged one."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from gcr import pocket

NAME = "gcr/pocket-critic"
COMMIT = "1" * 40


def fill_cache(home):
    """The embedded critic in a cache of the hub, as if it had been fetched from there."""
    repo = home / "hub" / f"models--{NAME.replace('/', '--')}"
    shutil.copytree(pocket.CRITIC, repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)


@contextmanager
def transformers_serve(home):
    """`transformers serve` with the embedded critic, on a port of its own; gives its URL."""
    fill_cache(home)
    port = free_port()
    command = [Path(sys.executable).with_name("transformers"), "serve", NAME, "--device", "cpu"]
    command += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environ = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with running(command, port, home / "log", environ) as url:
        yield url


@contextmanager
def running(command, port, log, environ, seconds=120):
    """A server on a port of this machine, once it is healthy, in so many seconds; gives its URL."""
    with (
        log.open("a") as out,
        subprocess.Popen(command, env=environ, stdout=out, stderr=out) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + seconds
            while not _healthy(url):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"{url}/v1"
        finally:
            server.terminate()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _healthy(url):
    try:
        return httpx2.get(f"{url}/health", trust_env=False).is_success
    except httpx2.TransportError:
        return False


def completion(text, tokens=None, finish="stop", prompt_tokens=None):
    """An answer in OpenAI's form. tokens: of the reply, each with {alternative: logprob}."""
    told = tokens and {
        "content": [
            {
                "token": token,
                "logprob": likely.get(token, -0.1),
                "top_logprobs": [{"token": t, "logprob": p} for t, p in likely.items()],
            }
            for token, likely in tokens
        ]
    }
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": told}
    return {"choices": [choice], "usage": {"prompt_tokens": prompt_tokens}}


class Heard:
    """What a server's critic warned of: messages and hints."""

    def __init__(self):
        self.warnings = []

    def __call__(self, message, hint):
        self.warnings.append((message, hint))

    def of(self, words):
        joined = map("; ".join, self.warnings)
        return [warning for warning in joined if words in warning]


class Staged:
    """A server that answers as it is told: with a status, headers and a body.

    answer: called with the body of each chat completion; may return the body alone, None to hang
    up, or what is called with the handler and writes as it likes. listing: the same for the list
    of models. port: to be at; 0: any. tls: (certificate, key), as files in PEM form.
    """

    def __init__(self, port=0, tls=None):  # noqa: C901 - a server in one piece
        self.listing = lambda: {"data": [{"id": name} for name in self.models]}
        self.answer = lambda body: completion("hm", prompt_tokens=len(str(body)))
        self.models = ["staged"]
        self.asked = []  # bodies
        self.headers = []
        self.looked = []  # headers of those who asked for the models
        self.busy = self.busiest = 0
        self._lock = threading.Lock()
        stage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path == "/v1/models":
                    stage.looked.append(dict(self.headers))
                    self.reply(stage.listing())
                else:
                    self.reply((404, {}, {"detail": "Not Found"}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/v1/chat/completions":
                    self.reply((404, {}, {"detail": "Not Found"}))
                    return
                with stage._lock:
                    stage.asked.append(body)
                    stage.headers.append(dict(self.headers))
                    stage.busy += 1
                    stage.busiest = max(stage.busiest, stage.busy)
                try:
                    answer = stage.answer(body)
                finally:
                    with stage._lock:
                        stage.busy -= 1
                self.reply(answer)

            def reply(self, answer):
                if answer is None:
                    self.close_connection = True  # without a word
                    return
                if callable(answer):
                    self.close_connection = True
                    answer(self)
                    return
                status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
                text = body if isinstance(body, str | bytes) else json.dumps(body)
                content = text if isinstance(text, bytes) else text.encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that did not wait
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
