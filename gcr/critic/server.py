"""Asks an OpenAI-compatible server: JSON out, JSON in. Knows nothing of chats and critiques.

Transient failures (a lost connection, half an answer, a busy server) are tried again, and a server
that had answered and is gone is waited for. Any other failure is an error that says who has to mend
what (`server_errors`).

Each exchange is bounded in seconds and in bytes as a whole: a timeout of HTTP clients bounds the
wait for the next byte, not for the last one, and a small body may unpack to a huge one. Redirects
are not followed, so that nobody but the server at the address gets the key.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ValidationError

from gcr.critic import server_errors
from gcr.critic.server_errors import Trouble
from gcr.errors import UnavailableError, UsageError
from gcr.hub import consent
from gcr.settings.keys import key_for

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import httpx2

    from gcr.settings.address import Address

TRIES = 5
FIRST_PAUSE = 1.0  # seconds; doubled after each try
LONGEST_PAUSE = 300.0
"""Seconds that a server may ask us to wait for one answer; one that wants more is given up."""

LOOK_SECONDS = 30.0
"""For what a server can tell without its model."""
REPLY_SECONDS = 600.0
"""For one reply: 2,048 tokens of a large model on a busy server take minutes."""
RETURN_SECONDS = 300.0
"""For a server that was there to come back: vLLM takes up to two minutes to start."""
RETURN_PAUSE = 3.0

CONNECT_SECONDS = 10.0
MOST_BYTES = 16 * 2**20
"""Of one reply, unpacked. 2,048 tokens with twenty probabilities each take about 6 MB."""

SHORTEST_SECRET = 8
"""Characters. A shorter key (`EMPTY`, `none`) is no secret, and part of many a reply."""


class Body(BaseModel):
    """What a server answers with."""

    def failure(self) -> str | None:
        """Why it is no answer after all, in the server's words; None where it is one."""
        return None


Kind = TypeVar("Kind", bound=Body)


class Server:
    """A server at an address.

    trusted: whether the user named it, so that GCR_API_KEY may be sent there.
    warn: called with a message and a hint when the server is waited for.
    reply_seconds: how long one reply may take.
    return_seconds: how long a server that had answered may be gone.
    """

    def __init__(  # noqa: PLR0913 - each for itself
        self,
        address: Address,
        environ: Mapping[str, str] | None = None,
        *,
        trusted: bool = False,
        warn: Callable[[str, str], None] | None = None,
        reply_seconds: float = REPLY_SECONDS,
        return_seconds: float = RETURN_SECONDS,
    ) -> None:
        """Raises UsageError for a key that cannot be one, and where no connection may be made."""
        if consent.is_offline() and not address.is_loopback:
            raise UsageError(
                f"the critic is at {address.url}, and --offline makes no connection",
                "name a model that is on this machine, or leave --offline out",
            )
        self.address = address
        self.warn = warn or (lambda _, __: None)
        self._environ = os.environ if environ is None else environ
        self._key = key_for(address, self._environ, trusted=trusted)
        self._connection = Connection(address, self._key)
        self._reply_seconds = reply_seconds
        self._return_seconds = return_seconds
        self._lock = threading.Lock()
        self._answered = self._gone = self._limited = False

    def get(self, path: str, kind: type[Kind]) -> Kind:
        """The answer to a GET request. Raises GcrError at the first failure."""
        answer = self._try("GET", path, None, kind, min(LOOK_SECONDS, self._reply_seconds))
        if isinstance(answer, Trouble):
            raise answer.error
        return answer

    def post(self, path: str, body: object, kind: type[Kind], tries: int = TRIES) -> Kind:
        """The answer to a question.

        Raises GcrError when it is not given after so many tries, and UnavailableError where no
        other question would be answered either.
        """
        pause, patience, until = FIRST_PAUSE, LONGEST_PAUSE, None
        while True:
            answer = self._try("POST", path, body, kind, self._reply_seconds)
            if not isinstance(answer, Trouble):
                self._note_answer()
                return answer
            if answer.server_down and self._answered:
                until = until or time.monotonic() + self._return_seconds
                self._await(answer, until)
                continue
            wait = answer.wait or 0
            if wait:  # a limit on its rate, which many questions at once come to more than once
                patience -= max(wait, FIRST_PAUSE)
                self._note_limit(answer, wait)
            else:
                tries -= 1
            if not tries or not answer.transient or patience < 0:
                raise self._last_error(answer)
            time.sleep(max(pause * random.uniform(0.75, 1.25), wait))
            pause *= 1 if wait else 2

    def _try(
        self, method: str, path: str, body: object, kind: type[Kind], seconds: float
    ) -> Kind | Trouble:
        import httpx2

        try:
            answer = self._connection.ask(method, self.address.url + path, body, seconds)
        except SlowError:
            return server_errors.slow(self.address, seconds)
        except LargeError:
            return server_errors.large(self.address, MOST_BYTES)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            return server_errors.unreached(self.address, error)
        answer = self._masked(answer)
        if 200 <= answer.status < 300:
            return self._read(answer, kind)
        return self._refused(answer)

    def _read(self, answer: Answer, kind: type[Kind]) -> Kind | Trouble:
        try:
            body = kind.model_validate_json(answer.content)
        except ValidationError:
            return self._misread(answer)
        failure = body.failure()
        return body if failure is None else server_errors.failed(self.address, failure)

    def _misread(self, answer: Answer) -> Trouble:
        """What to say of a body that is not what was asked for: some report errors with 200."""
        from pydantic_core import from_json

        try:
            body = from_json(answer.content)
        except ValueError:
            body = None
        error = body.get("error") if isinstance(body, dict) else None
        if not error:
            return server_errors.strange(self.address, first=not self._answered)
        code = str(error.get("code")) if isinstance(error, dict) else ""
        if code.isdecimal() and 400 <= int(code) < 600:
            return self._refused(answer._replace(status=int(code)))
        return server_errors.failed(self.address, server_errors.in_words(body))

    def _refused(self, answer: Answer) -> Trouble:
        words = server_errors.words(answer)
        words = words.replace(self._key, "…") if self._key else words
        has_key = bool(self._key)
        return server_errors.refused(self.address, answer, words, self._environ, has_key=has_key)

    def _masked(self, answer: Answer) -> Answer:
        """An answer without the key: what a server repeats would end in logs and runs."""
        if len(self._key) < SHORTEST_SECRET:
            return answer
        headers = {name: text.replace(self._key, "…") for name, text in answer.headers.items()}
        content = answer.content.replace(self._key.encode(), "…".encode())
        reason = answer.reason.replace(self._key, "…")
        return answer._replace(headers=headers, content=content, reason=reason)

    def _note_limit(self, trouble: Trouble, wait: float) -> None:
        with self._lock:
            first, self._limited = not self._limited, True
        if first and wait <= LONGEST_PAUSE:
            self.warn(
                f"{trouble.error.message}; waiting {wait:.0f} seconds, as it asks",
                "a higher limit at the server, or fewer images in a round, takes less time",
            )

    def _note_answer(self) -> None:
        with self._lock:
            self._answered, gone, self._gone = True, self._gone, False
        if gone:
            self.warn(f"{self.address.url} answers again", "")

    def _await(self, trouble: Trouble, until: float) -> None:
        """Give a server that is gone some time. Raises UnavailableError when it had enough."""
        minutes = f"{self._return_seconds / 60:g} minutes"
        if time.monotonic() >= until:
            raise UnavailableError(
                f"{trouble.error.message}; it had answered before, and {minutes} were waited",
                "start it again; gcr resume then goes on from what is saved",
            ) from trouble.error
        with self._lock:
            first, self._gone = not self._gone, True
        if first:
            message = f"{trouble.error.message}; it had answered before"
            self.warn(message, f"waiting up to {minutes} for it to come back")
        time.sleep(max(RETURN_PAUSE, min(trouble.wait or 0, until - time.monotonic())))

    def _last_error(self, trouble: Trouble) -> Exception:
        """What ends the tries."""
        error = trouble.error
        if trouble.affects_all and self._answered:
            return UnavailableError(error.message, f"{error.hint}; gcr resume then goes on")
        return error


class SlowError(Exception):
    """The reply was not whole in time."""


class LargeError(Exception):
    """The reply is larger than any that a server of models gives."""


class Answer(NamedTuple):
    """headers: by their names in lower case. content: unpacked."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


class Connection:
    """An HTTP client for one server. key: the API key that each request carries; empty for none."""

    def __init__(self, address: Address, key: str) -> None:
        """Raises UsageError where the environment names certificates that cannot be read."""
        import httpx2

        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=_certificates(),
            trust_env=not address.is_loopback,  # no proxy leads back to this machine
            follow_redirects=False,
            # The caller limits how many requests run at once. Each has a connection of its own,
            # so that it can be cut without harm to another.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )
        weakref.finalize(self, self._client.close)

    def ask(self, method: str, url: str, body: object, seconds: float) -> Answer:
        """Send one request. seconds: for the whole exchange.

        Raises httpx2.HTTPError where the server cannot be reached or breaks off, SlowError and
        LargeError.
        """
        import httpx2

        with _Deadline(seconds) as deadline:
            try:
                with self._client.stream(
                    method,
                    url,
                    json=body,
                    timeout=httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
                    extensions={"trace": deadline.watch},
                ) as response:
                    content = _read(response)
            except httpx2.HTTPError as error:
                if deadline.passed or isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
                    raise SlowError from error
                raise
            if deadline.passed:  # a body without a length just seems to end there
                raise SlowError
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Answer(response.status_code, response.reason_phrase, headers, content)


def _read(response: httpx2.Response) -> bytes:
    content = bytearray()
    for piece in response.iter_bytes():  # unpacked by the megabyte
        content += piece
        if len(content) > MOST_BYTES:
            raise LargeError
    return bytes(content)


class _Deadline:
    """Cuts the connection of an exchange that is not over in time.

    A timer does it from another thread: the reading one is blocked while bytes drip in.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._stream: Any = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def watch(self, event: str, details: Mapping[str, Any]) -> None:
        """Take note of the connection: the client's `trace` extension calls this."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._stream = details["return_value"]
            if self.passed:
                self._cut()

    def _cut(self) -> None:
        self.passed = True
        if self._stream is not None:
            with suppress(OSError):  # it is closed already
                self._stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def _certificates() -> ssl.SSLContext:
    """Whom to trust, as the environment says, also where it is not to name proxies."""
    import httpx2

    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        named = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
        raise UsageError(
            f"the certificates of {' and '.join(named) or 'this machine'} cannot be read: {error}",
            "name a file of certificates in PEM form, or unset the variable",
        ) from error
