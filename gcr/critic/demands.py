"""What servers refuse of a question that others take, and how they are asked instead.

A server says so when it is first asked, which is before anything is drawn (`probe`); from then on
all its questions heed it. `DEMANDS` and `EFFECTS` are the whole of what gcr knows of such servers.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from gcr.critic import thoughts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Body = Mapping[str, Any]
    """A question as it is sent."""

_CASE = re.IGNORECASE | re.DOTALL
_NO = (
    r"(?:unsupported|unrecogni[sz]ed|unknown|unexpected|deprecated|extra_forbidden"
    r"|not (?:currently )?(?:supported|permitted|allowed|accepted|enabled)|must be"
    r"|(?:does not|doesn't|do not|don't) (?:support|accept|allow)"
    r"|cannot both be|only the default)"
)
NEEDED = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"}
)
"""Without these a question is not the same; all else is left out where a server refuses it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a server wants otherwise.

    words: how servers say so; its group is a number that they name.
    change: what it comes to, in the words of a notice; holds `{}` for the number.
    effect: what follows from it, or what to do.
    meet: gives a question as such a server takes it; called with the number, too.
    number: for `meet`, where the server names none.
    """

    words: re.Pattern[str]
    change: str
    effect: str
    meet: Callable[[Body, int], Body]
    number: int = 0


def _refusal(name: str) -> re.Pattern[str]:
    """How servers say that they do not take something. name: a pattern of what they call it."""
    name = rf"\b(?:{name})\b"
    return re.compile(rf"{_NO}.{{0,80}}{name}|{name}.{{0,80}}{_NO}", _CASE)


def _renamed(body: Body, _: int) -> Body:
    names = {"max_tokens": "max_completion_tokens"}
    return {names.get(key, key): value for key, value in body.items()}


def _longer(body: Body, least: int) -> Body:
    least = min(least, thoughts.LONGEST)
    limits = {key: max(body[key], least) for key in NEEDED & body.keys() if "max" in key}
    return {**body, **limits}


def _in_user_turn(body: Body, _: int) -> Body:
    first, *others = body["messages"]
    if first["role"] != "system" or not others:
        return body
    second, words = others[0], f"{first['content']}\n\n"
    content = second["content"]
    joined = [{"type": "text", "text": words}, *content] if isinstance(content, list) else None
    turn = {**second, "content": joined or words + content}
    return {**body, "messages": [turn, *others[1:]]}


def _from_the_beginning(body: Body, _: int) -> Body:
    if "continue_final_message" not in body:
        return body
    left = {key: body[key] for key in body if key not in _CONTINUATION}
    return {**left, "messages": body["messages"][:-1]}


_CONTINUATION = ("continue_final_message", "add_generation_prompt")
PREFILL = Demand(
    _refusal("|".join(_CONTINUATION)),
    "no reply that is begun for it",
    "critiques begin as the model likes",
    _from_the_beginning,
)
DEMANDS = (
    Demand(  # OpenAI and Azure, of models that reason
        re.compile(rf"\bmax_tokens\b.{{0,60}}?{_NO}.{{0,120}}?\bmax_completion_tokens\b", _CASE),
        "max_completion_tokens in place of max_tokens",
        "nothing to do",
        _renamed,
    ),
    Demand(  # OpenAI, Azure and Poe
        re.compile(
            r"\bmax_(?:output_|completion_|new_)?tokens\b.{0,80}?"
            r"(?:>=|at least|minimum of|greater than or equal to)\s*(\d+)",
            _CASE,
        ),
        "room for {} tokens in each reply",
        "answers of one word may take longer",
        _longer,
    ),
    Demand(  # OpenAI and Azure, where thoughts use up all of it
        re.compile(r"could not finish the message because max_tokens", _CASE),
        "room for {} tokens in each reply",
        "its thoughts count towards a reply: answers of one word take longer and cost more",
        _longer,
        thoughts.LONGEST,
    ),
    Demand(  # OpenAI's first models that reason; chat templates such as Gemma 2's; Gemini's API
        re.compile(
            r"does not support 'system'|system role (?:is )?not supported"
            r"|role 'system' is not supported|roles must alternate"
            r"|(?:developer|system) instruction is not enabled",
            _CASE,
        ),
        "no system message",
        "its words stand at the beginning of the user's turn",
        _in_user_turn,
    ),
    PREFILL,
)

EFFECTS = {
    "temperature": "it samples as it is set up: gcr calibrate measures how much scores vary by it",
    "seed": "its replies cannot be repeated, and --judges differ by chance alone",
    "n": "several judges of an image are asked one by one",
    "chat_template_kwargs": "the rubric cannot turn its thinking off; do that at the server",
}
OTHERWISE = "the rubric asks for it; scores may differ from those of a server that heeds it"


class Demands:
    """What one server was found to want. Several threads may ask it at once."""

    def __init__(self) -> None:
        self._met: dict[Demand, int] = {}  # with the number of each
        self._lock = threading.Lock()

    def __contains__(self, demand: Demand) -> bool:
        return demand in self._met

    def __str__(self) -> str:
        """All of them, for a record; empty where there are none."""
        return "; ".join(_said(demand, number) for demand, number in self._met.items())

    def meet(self, body: Body) -> Body:
        """A question as the server takes it."""
        for demand, number in tuple(self._met.items()):
            body = demand.meet(body, number)
        return body

    def learn(self, body: Body, sent: Body, reason: str) -> tuple[str, str] | None:
        """Heed from now on what a server says of a question that it refused.

        body, sent: the question before and after `meet`. reason: the server's words.
        Returns what it wants and what follows from it, to be told; both empty where another thread
        has learned something since. None where nothing can be done about these words.
        """
        with self._lock:
            if self.meet(body) != sent:
                return "", ""
            for demand in (*DEMANDS, *_omissions(sent)):
                found = demand.words.search(reason)
                if not found:
                    continue
                number = int(found[1]) if found.re.groups else demand.number
                if demand in self._met:
                    number = thoughts.LONGEST  # one that wants more and more
                if demand.meet(sent, number) != sent:
                    self._met[demand] = number
                    return _said(demand, number), demand.effect
        return None


def is_final(reason: str) -> bool:
    """Whether a server's words are about how it was asked, so that asking again is in vain."""
    return bool(_FINAL.search(reason)) or any(demand.words.search(reason) for demand in DEMANDS)


_FINAL = re.compile(
    r"(?:unsupported|unrecogni[sz]ed|unknown) (?:parameter|value|request argument)"
    r"|not support parameters|extra_forbidden",
    _CASE,
)


def _omissions(body: Body) -> Iterator[Demand]:
    """What may be left out of a question. The last first, so that of a temperature and a top_p that
    a server does not take together the temperature stays.
    """
    kept = {*NEEDED, *_CONTINUATION}
    return (_omission(key) for key in reversed(tuple(body)) if key not in kept)


@cache
def _omission(key: str) -> Demand:
    return Demand(
        _refusal(re.escape(key)),
        f"no {key}",
        EFFECTS.get(key, OTHERWISE),
        lambda body, _: {k: value for k, value in body.items() if k != key},
    )


def _said(demand: Demand, number: int) -> str:
    return demand.change.format(number)
