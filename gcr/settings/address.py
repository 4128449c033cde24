"""Addresses of servers: `http://host:8000/v1#model`."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from gcr.errors import UsageError

EXAMPLE = "http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct"
AT_ONCE = 8
"""Requests on their way to a server at once, where no profile says how many: servers batch them."""
OPENAI_HOST = "api.openai.com"
LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


class Address(NamedTuple):
    """url: without a slash at its end. model: as the server names it; empty where left out."""

    url: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.url}#{self.model}" if self.model else self.url

    @property
    def is_loopback(self) -> bool:
        """Whether nothing sent there leaves this machine."""
        return bool(LOOPBACK.fullmatch(urlsplit(self.url).hostname or ""))

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI's own host, and nobody on the way can read along."""
        return self.url.startswith("https:") and urlsplit(self.url).hostname == OPENAI_HOST


def is_address(critic: str) -> bool:
    """Whether a critic is a server, and not a checkpoint."""
    return "://" in critic


def parse(text: str) -> Address:
    """Read an address. Raises UsageError for one that is bad, or that holds a secret: addresses
    are kept in every run.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--critic is a bad URL: {error}", f"such as {EXAMPLE}") from error
    if parts.username or parts.password or parts.query:
        # Not shown: who reads the message should not learn the password.
        raise UsageError(
            f"the URL of the critic at {host} holds more than a host, a path and a model",
            "give the API key as GCR_API_KEY: the URL is kept in every run",
        )
    if parts.scheme not in {"http", "https"}:
        raise UsageError(f"--critic is a URL of {parts.scheme}, not of http", f"such as {EXAMPLE}")
    if not host or re.search(r"\s", parts.netloc + parts.path):
        raise UsageError(f"--critic is a bad URL: {text}", f"such as {EXAMPLE}")
    place = f"[{host}]" if ":" in host else host
    place = place if port is None else f"{place}:{port}"
    return Address(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", parts.fragment)
