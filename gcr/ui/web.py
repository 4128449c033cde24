"""`gcr ui`: a studio as a page in a browser on this machine.

Who may use it: the server listens on the loopback interface only. Every request needs the token of
this session, which the first address carries and a cookie keeps, so that other users of the machine
have no access. Whatever names another host in `Host` is refused, so that no foreign name can be
made to point here (DNS rebinding); and what changes anything is refused unless its `Origin` is
this page, so that no other page can press a button. The page loads nothing from anywhere else.

What is answered is in `gcr.ui.site`, and the work is done by `gcr.ui.studio`.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response

from gcr.engine import signals
from gcr.errors import UsageError
from gcr.files.atomic import writing
from gcr.ui.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gcr.ui.studio import Studio

PORT = 7866
HOSTS = ("127.0.0.1", "localhost", "[::1]")
LEADING = """<!doctype html><title>gcr</title><link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0; url={}">"""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets in who has the token and asks for this host, from this page."""

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.requests import Request

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(Request(scope)) or self._app
        await answer(scope, receive, guarded)

    def _answer(self, request: Request) -> Response | None:
        """What is said to who may not come in; None: they may."""
        host = request.headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name not in HOSTS:
            return Response("this is not that host", 421)
        given = request.query_params.get("token", "")
        if request.url.path == "/" and secrets.compare_digest(given.encode(), self._token.encode()):
            # Not a redirection: of a link on another page, that would come without the cookie.
            response = HTMLResponse(LEADING.format("/"))
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        kept = request.cookies.get(self._cookie, "")
        if not secrets.compare_digest(kept.encode(), self._token.encode()):
            return Response("open the address that gcr ui printed: it has this session's key", 403)
        origin = request.headers.get("origin")
        if request.method != "GET" and origin != f"http://{host}":
            return Response("this comes from another page", 403)
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return Response("this comes from another page", 403)
        return None


def server(studio: Studio, output: Path, token: str, listening: socket.socket) -> Any:
    """A server of uvicorn for a studio, to be run with that socket."""
    import uvicorn

    site = Site(studio, output)
    app = Guard(Starlette(routes=site.routes()), token, f"gcr-{listening.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_config=None,  # it would take away the handlers that there are
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """As uvicorn's, but of all signals that end a process, also of a closed terminal's."""
            heard: list[int] = []

            def hear(number: int, _: object) -> None:
                signals.note(number)
                heard.append(number)
                self.should_exit = True

            before = signals.handled(hear)
            try:
                yield
            finally:
                signals.put_back(before)
            if heard:
                raise KeyboardInterrupt

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            site.close()  # streams would go on for ever
            await super().shutdown(sockets)

    return Server(config)


def serve(
    studio: Studio,
    output: Path,
    port: int | None,
    tell: Callable[[str], None],
    show: Callable[[Path], object] | None = None,
) -> None:
    """Serve a studio until the process is interrupted, which is raised.

    port: None: the first free one from PORT on. tell: is given the address to open.
    show: opens a file in a browser, which leads there; None: nothing does.
    Raises UsageError where the port is taken.
    """
    token = secrets.token_urlsafe(24)
    with listen(port) as listening, ExitStack() as held:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}"
        tell(address)
        if show is not None:
            show(held.enter_context(door(address, output)))
        server(studio, output, token, listening).run(sockets=[listening])


@contextmanager
def door(address: str, folder: Path) -> Iterator[Path]:
    """A file in a folder, for its owner alone, that leads a browser to an address: all users of the
    machine may read a browser's command line, and the address has the key.
    """
    # Not among the temporary files: a browser in a sandbox, as of Snap, has others.
    with writing(folder):
        handle, name = tempfile.mkstemp(prefix="gcr-ui-", suffix=".html", dir=folder)
    file = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(LEADING.format(address))
        yield file
    finally:
        file.unlink(missing_ok=True)


def listen(port: int | None) -> socket.socket:
    """A socket on the loopback interface. Raises UsageError where the port cannot be had."""
    for number in range(PORT, PORT + 20) if port is None else [port]:
        listening = socket.socket()
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", number))
            listening.listen()  # so that a browser that is quicker than the server waits
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                message = f"cannot listen on port {number}: {error.strerror}"
                raise UsageError(message, "name another with --port, above 1023") from error
            continue
        return listening
    taken = f"port {port} is taken" if port else f"ports {PORT} to {PORT + 19} are taken"
    raise UsageError(taken, "name another with --port, or end what uses it")
