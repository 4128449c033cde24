"""What it means when a server does not answer, or not with what was asked for.

Each refusal becomes words for whoever has to mend it, and a verdict on whether to try again.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gcr.critic.demands import is_final
from gcr.errors import GcrError, ModelError, UsageError
from gcr.settings.keys import OPENAI, OURS, advice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcr.critic.server import Answer
    from gcr.settings.address import Address

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same question may succeed later."""
SERVER_DOWN = frozenset({502, 503})
"""What a proxy answers for a server that is down, or not up yet."""
AFFECTS_ALL = frozenset({401, 402, 429})
"""Statuses that any other question would get, too: key, credit, quota."""

LONGEST = 300  # characters of a server's words
LOG = "look at the server's log"
KEY_HINT = f"check {OURS}, or {OPENAI} for api.openai.com"

TOO_LONG = re.compile(
    r"context (?:length|size|window)|maximum model length|context_length"
    r"|cannot be greater than `?max_",
    re.IGNORECASE,
)
IMAGES = re.compile(r"at most (\d+) image", re.IGNORECASE)
BLIND = re.compile(
    r"not a multi-?modal|not support (?:image|vision|multi-?modal)|image input is not supported"
    r"|unknown part type: ?image|mmproj",
    re.IGNORECASE,
)
NO_MODEL = re.compile(
    r"\b(?:no such|unknown|invalid) model\b|\bpinned to\b.{0,200}?\brequested\b|\bmodel\b.{0,200}?"
    r"\b(?:not found|(?:does not|doesn't|not) exist|not available|unknown|no longer available)\b",
    re.IGNORECASE | re.DOTALL,
)
KEY = re.compile(
    r"api[ _-]?key|authenticat|unauthori[sz]ed|no connected db|database not connected"
    r"|invalid (?:proxy server )?token",
    re.IGNORECASE,
)
"""What gateways such as LiteLLM say of a key with 400 or 500 in place of 401."""
NO_CREDIT = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)
"""What OpenAI says with 429 of an account, which no waiting fills up."""
AGAIN = re.compile(
    r"(?:try again|retry) (?:in|after) (?:(\d+)m)?(\d+(?:\.\d+)?) ?(m?s(?:econds?)?)\b",
    re.IGNORECASE,
)
"""How OpenAI, Groq and Azure say in words how long to wait."""


class NotFoundError(UsageError):
    """The server does not know the path or, it seems, the model."""


class RefusedError(ModelError):
    """A server's answer that is none. reason: in its own words."""

    def __init__(self, message: str, hint: str, reason: str) -> None:
        super().__init__(message, hint)
        self.reason = reason


class ImagesError(ModelError):
    """A question holds more or larger images than the server takes."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try failed.

    error: for the user.
    transient: whether the same question may succeed later.
    server_down: whether it is the server itself that is gone.
    affects_all: whether every other question would fail, too.
    wait: seconds to wait before the next try, if the server says so.
    """

    error: GcrError
    transient: bool = False
    server_down: bool = False
    affects_all: bool = False
    wait: float | None = None


def unreached(address: Address, error: Exception) -> Trouble:
    """What to say where no answer came. error: of httpx2, or of the host's name."""
    import httpx2

    url = address.url
    cause = _tls(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Trouble(
            ModelError(
                f"the certificate of {url} is not trusted: {_line(cause.verify_message)}",
                "name its authority's certificate in SSL_CERT_FILE, or take http:// on localhost",
            )
        )
    if cause is not None:
        message = f"no TLS with {url}: {_line(cause.reason or str(cause))}"
        return Trouble(ModelError(message, "check the URL: does the server speak http://?"))
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        message = f"nothing answers at {url}: {_line(str(error)) or 'no answer'}"
        hint = "start the server, or check host and port"
        return Trouble(ModelError(message, hint), transient=True, server_down=True)
    if isinstance(error, httpx2.TransportError | httpx2.DecodingError):
        message = f"the connection to {url} broke: {_line(str(error)) or type(error).__name__}"
        return Trouble(ModelError(message, LOG), transient=True)
    message = f"{url} cannot be asked: {_line(str(error))}"
    return Trouble(UsageError(message, "check the URL of the critic"))


def slow(address: Address, seconds: float) -> Trouble:
    return Trouble(
        ModelError(
            f"{address.url} did not reply within {seconds:g} seconds",
            "look at the server: is it overloaded, or the model too slow?",
        )
    )


def large(address: Address, most: int) -> Trouble:
    return Trouble(
        ModelError(
            f"{address.url} replied with more than {most >> 20} MB",
            "check the URL: is it a server of models? A smaller max_new_tokens makes replies short",
        )
    )


def strange(address: Address, *, first: bool) -> Trouble:
    """What to say of a body that is not in OpenAI's form. first: nothing was understood before."""
    hint = "check the URL: its path is most often /v1" if first else LOG
    message = f"what answers at {address.url} does not speak as OpenAI's servers do"
    return Trouble(ModelError(message, hint), transient=True)


def failed(address: Address, reason: str) -> Trouble:
    """What to say of an answer that reports a failure of its own."""
    reason = _line(reason) or "it does not say why"
    return Trouble(ModelError(f"{address.url} failed to answer: {reason}", LOG), transient=True)


def refused(
    address: Address, answer: Answer, reason: str, environ: Mapping[str, str], *, has_key: bool
) -> Trouble:
    """What is wrong where a server answers, but not with what it was asked for.

    reason: the server's words. has_key: whether it was sent a key.
    """
    url, code = address.url, answer.status
    if 300 <= code < 400:
        return Trouble(_moved(address, answer))
    if code in (401, 403) or (code in (400, 500) and KEY.search(reason)):
        if has_key:
            error = UsageError(f"{url} does not accept the API key: {code}, {reason}", KEY_HINT)
        else:
            error = UsageError(
                f"{url} wants an API key: {code}, {reason}", advice(address, environ)
            )
        return Trouble(error, affects_all=code in AFFECTS_ALL)
    if code == 413:
        return Trouble(
            ImagesError(
                f"{url} takes no question as large as one with such images: it answers 413",
                "let it take more (nginx: client_max_body_size 32m), or draw smaller images",
            )
        )
    if overtaxed := _overtaxed(address, reason):
        return Trouble(overtaxed)
    final = code != 429 and is_final(reason)
    if code == 404 or (code == 400 and not final and NO_MODEL.search(reason)):
        return Trouble(
            NotFoundError(
                f"{url} answers {code}: {reason}",
                "check the URL: its path is most often /v1, and a model stands after #",
            )
        )
    return Trouble(
        RefusedError(f"{url} answers {code}: {reason}", LOG, reason),
        transient=code in TRANSIENT and not final and not NO_CREDIT.search(reason),
        server_down=code in SERVER_DOWN,
        affects_all=code in AFFECTS_ALL,
        wait=_wait(answer.headers, reason),
    )


def words(answer: Answer) -> str:
    """The server's own words, in the forms that are in use; one line. Of a page for browsers no
    more than the status.
    """
    from pydantic_core import from_json

    try:
        body: object = from_json(answer.content)
    except ValueError:
        body = answer.content.decode(errors="replace")
        if body.lstrip()[:1] == "<":
            body = ""
    return in_words(body) or _phrase(answer)


def in_words(body: object) -> str:
    """What a server says in the JSON of an error; one line, and not without an end. Where a gateway
    passes on another server's words (OpenRouter's `metadata`), these.
    """
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and body.get(key):
            passed_on = body.get("metadata")
            body = (isinstance(passed_on, dict) and passed_on.get("raw")) or body[key]
    return _line(str(body)) if body else ""


def blind(address: Address) -> ModelError:
    """What to say of a model that is shown an image and cannot see it."""
    return ModelError(
        f"{address} cannot see images: its model takes text only",
        "serve a vision-language model, such as Qwen/Qwen3-VL-8B-Instruct",
    )


def too_long(address: Address, reason: str) -> ModelError:
    return ModelError(
        f"the question is longer than {address.url} takes: {reason}",
        "give the server a longer context (vllm serve --max-model-len 40960), "
        "or take a rubric with a smaller max_new_tokens",
    )


def _overtaxed(address: Address, reason: str) -> ModelError | None:
    """What to say where a server's words are about a question too long or too rich for it."""
    if TOO_LONG.search(reason):
        return too_long(address, reason)
    most = IMAGES.search(reason)
    if BLIND.search(reason) or (most and most[1] == "0"):
        return blind(address)
    if most:
        return ImagesError(
            f"{address.url} takes too few images in one question: {reason}",
            """let it take more: vllm serve --limit-mm-per-prompt '{"image":16}'""",
        )
    return None


def _moved(address: Address, answer: Answer) -> UsageError:
    """Where a redirect leads, without what may be secret in it."""
    try:
        target = urlsplit(answer.headers.get("location", ""))
        place = f"{target.hostname}:{target.port}" if target.port else target.hostname
        leads = f"{target.scheme}://{place}{target.path}" if place else target.path
    except ValueError:
        leads = ""
    return UsageError(
        f"{address.url} answers {answer.status}: it redirects to {_line(leads) or 'nowhere'}",
        "give the URL that answers itself: keys and images are sent nowhere else",
    )


def _tls(error: Exception) -> ssl.SSLError | None:
    """What went wrong with TLS, if that is what lies behind an error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _phrase(answer: Answer) -> str:
    known = answer.status in {status.value for status in HTTPStatus}
    return _line(answer.reason) or (HTTPStatus(answer.status).phrase if known else "no reason")


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]


def _wait(headers: Mapping[str, str], reason: str) -> float | None:
    """Seconds that a server wants to be left alone; None where it does not say."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"[0-9]+", milliseconds):
        return int(milliseconds) / 1000
    told = _retry_after(headers.get("retry-after", ""))
    if told is None and (words := AGAIN.search(reason)):
        told = int(words[1] or 0) * 60 + float(words[2]) / (1000 if words[3] == "ms" else 1)
    return told


def _retry_after(text: str) -> float | None:
    """Seconds to wait, from a header that holds seconds or a date; None where it says neither."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
