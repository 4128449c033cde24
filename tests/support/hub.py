"""A hub of models on this machine: as much of its API as fetching a model needs."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import huggingface_hub

from gcr.hub import consent

COMMIT = "a" * 40


@contextmanager
def served(repos, cache, monkeypatch):
    """A hub that the libraries take for the real one, an empty cache, and nothing that forbids to
    fetch or agrees to it.
    """
    hub = Hub(repos)
    files = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    for name in (consent.OFFLINE, consent.HUB_OFFLINE, consent.YES):
        monkeypatch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        hub.close()


class Hub:
    """Gives out checkpoints. repos: folders by their ids; gated: ids nobody may have."""

    def __init__(self, repos):
        self.repos = repos
        self.gated = set()
        self.sent = []  # paths of files that were fetched
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.respond(with_body=False)

            def do_GET(self):
                self.respond(with_body=True)

            def respond(self, *, with_body):
                status, headers, content = hub.answer(urlsplit(self.path).path, with_body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path, with_body):
        api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        repo = f"{owner}/{name}"
        if repo not in self.repos:
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if repo in self.gated and (not api or rest == ["auth-check"]):
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        folder = self.repos[repo]
        if api:
            return 200, {"Content-Type": "application/json"}, self.told(repo, folder, rest)
        file = folder.joinpath(*rest[2:])  # after resolve/REVISION
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        content = file.read_bytes()
        if with_body:
            self.sent.append("/".join([repo, *rest[2:]]))
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return 200, {"ETag": etag, "X-Repo-Commit": COMMIT}, content

    def told(self, repo, folder, rest):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
                for name, path in zip(names, files, strict=True)
            ]
            return json.dumps(entries).encode()
        siblings = [{"rfilename": name} for name in names]
        gated = "manual" if repo in self.gated else False
        info = {"id": repo, "sha": COMMIT, "siblings": siblings, "gated": gated}
        return json.dumps(info).encode()
