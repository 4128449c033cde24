"""Asks an OpenAI-compatible server: JSON out, JSON in.

What passes by itself (a lost connection, half an answer, a server that is busy) is tried again; a
server that had answered and is gone is waited for; what does not pass is said in the words of
whoever has to mend it. Knows nothing of chats and critiques.
"""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from gcr.critic import exchange, server_errors
from gcr.critic.keys import key_for
from gcr.critic.server_errors import Trouble
from gcr.errors import UnavailableError, UsageError
from gcr.hub import offline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gcr.settings.address import Address

TRIES = 5
FIRST_PAUSE = 1.0  # seconds; doubled after each try
LONGEST_PAUSE = 300.0
"""Seconds that a server may ask us to wait; one that wants more is given up."""

LOOK_SECONDS = 30.0
"""For what a server can tell without its model."""
REPLY_SECONDS = 600.0
"""For one reply: 2,048 tokens of a large model on a busy server take minutes."""
RETURN_SECONDS = 300.0
"""For a server that was there to come back: vLLM takes up to two minutes to start."""
RETURN_PAUSE = 3.0

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
    warn: told, with a hint, when the server is waited for.
    reply_seconds: how long one reply may take. return_seconds: how long a server that had
        answered may be gone.
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
        if offline.forbidden() and not address.is_loopback:
            raise UsageError(
                f"the critic is at {address.url}, and --offline makes no connection",
                "name a model that is on this machine, or leave --offline out",
            )
        self.address = address
        self.warn = warn or (lambda _, __: None)
        self._environ = os.environ if environ is None else environ
        self._key = key_for(address, self._environ, trusted=trusted)
        self._line = exchange.Line(address, self._key)
        self._reply_seconds = reply_seconds
        self._return_seconds = return_seconds
        self._lock = threading.Lock()
        self._answered = self._gone = False

    def get(self, path: str, kind: type[Kind]) -> Kind:
        """What is there. Raises GcrError at once: whoever looks first wants to know."""
        answer = self._try("GET", path, None, kind, min(LOOK_SECONDS, self._reply_seconds))
        if isinstance(answer, Trouble):
            raise answer.error
        return answer

    def post(self, path: str, body: object, kind: type[Kind], tries: int = TRIES) -> Kind:
        """The answer to a question.

        Raises GcrError when it is not given after so many tries, and UnavailableError where no
        other question would be answered either.
        """
        pause, until = FIRST_PAUSE, None
        while True:
            answer = self._try("POST", path, body, kind, self._reply_seconds)
            if not isinstance(answer, Trouble):
                self._back()
                return answer
            if answer.away and self._answered:
                until = until or time.monotonic() + self._return_seconds
                self._await(answer, until)
                continue
            tries -= 1
            if not tries or not answer.passes or (answer.wait or 0) > LONGEST_PAUSE:
                raise self._final(answer)
            time.sleep(max(pause * random.uniform(0.75, 1.25), answer.wait or 0))
            pause *= 2

    def _try(
        self, method: str, path: str, body: object, kind: type[Kind], seconds: float
    ) -> Kind | Trouble:
        import httpx2

        try:
            answer = self._line.ask(method, self.address.url + path, body, seconds)
        except exchange.SlowError:
            return server_errors.slow(self.address, seconds)
        except exchange.LargeError:
            return server_errors.large(self.address, exchange.MOST_BYTES)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            return server_errors.unreached(self.address, error)
        answer = self._masked(answer)
        if 200 <= answer.status < 300:
            return self._read(answer, kind)
        return self._refused(answer)

    def _read(self, answer: exchange.Answer, kind: type[Kind]) -> Kind | Trouble:
        try:
            body = kind.model_validate_json(answer.content)
        except ValidationError:
            return self._misread(answer)
        failure = body.failure()
        return body if failure is None else server_errors.failed(self.address, failure)

    def _misread(self, answer: exchange.Answer) -> Trouble:
        """What to say of a body that is not what was asked for: some report errors with 200."""
        from pydantic_core import from_json

        try:
            told = from_json(answer.content)
        except ValueError:
            told = None
        error = told.get("error") if isinstance(told, dict) else None
        if not error:
            return server_errors.strange(self.address, first=not self._answered)
        code = str(error.get("code")) if isinstance(error, dict) else ""
        if code.isdecimal() and 400 <= int(code) < 600:
            return self._refused(answer._replace(status=int(code)))
        return server_errors.failed(self.address, server_errors.in_words(told))

    def _refused(self, answer: exchange.Answer) -> Trouble:
        said = server_errors.words(answer)
        said = said.replace(self._key, "…") if self._key else said
        has_key = bool(self._key)
        return server_errors.refused(self.address, answer, said, self._environ, has_key=has_key)

    def _masked(self, answer: exchange.Answer) -> exchange.Answer:
        """An answer without the key: what a server repeats would end in logs and runs."""
        if len(self._key) < SHORTEST_SECRET:
            return answer
        headers = {name: text.replace(self._key, "…") for name, text in answer.headers.items()}
        content = answer.content.replace(self._key.encode(), "…".encode())
        reason = answer.reason.replace(self._key, "…")
        return answer._replace(headers=headers, content=content, reason=reason)

    def _back(self) -> None:
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
            said = f"{trouble.error.message}; it had answered before"
            self.warn(said, f"waiting up to {minutes} for it to come back")
        time.sleep(max(RETURN_PAUSE, min(trouble.wait or 0, until - time.monotonic())))

    def _final(self, trouble: Trouble) -> Exception:
        """What ends the tries."""
        error = trouble.error
        if trouble.for_nobody and self._answered:
            return UnavailableError(error.message, f"{error.hint}; gcr resume then goes on")
        return error
