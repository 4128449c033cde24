"""One exchange over HTTP that ends: after so many seconds in all, and after so many bytes.

A timeout of HTTP clients bounds the wait for the next byte, not for the last one, and a small body
may unpack to a huge one. Redirects are not followed: whoever is asked gets the key, nobody else.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gcr.errors import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx2

    from gcr.settings.address import Address

MOST_BYTES = 16 * 2**20
"""Of one reply, unpacked. 2,048 tokens with twenty probabilities each take about 6 MB."""

CONNECT_SECONDS = 10.0


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


class Line:
    """A way to a server. key: the API key that goes with each question; empty for none."""

    def __init__(self, address: Address, key: str) -> None:
        """Raises UsageError where the environment names certificates that cannot be read."""
        import httpx2

        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            verify=_certificates(),
            trust_env=not address.is_loopback,  # no proxy leads back to this machine
            follow_redirects=False,
            # Whoever asks says how much at once. A connection for each exchange, so that it can
            # be cut without harm to another.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )
        weakref.finalize(self, self._client.close)

    def ask(self, method: str, url: str, body: object, seconds: float) -> Answer:
        """Ask once. seconds: for all of it.

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

    Another thread has to do it: the one that reads gets no turn while bytes drip in.
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
        """Hear of the connection, as HTTP clients tell of what they do."""
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
