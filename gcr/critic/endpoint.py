"""Talks with a vision-language model behind an OpenAI-compatible endpoint: vLLM, llama.cpp, ….

Chats go out as chat completions, several at once; probabilities come back as `logprobs`.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from gcr.core.records import Tokens
from gcr.critic import completions, probe, thoughts
from gcr.critic.completions import CUT_OFF, Choice, Completion, Models, Token
from gcr.critic.demands import PREFILL, Demands
from gcr.critic.server import TRIES, Server
from gcr.critic.server_errors import NotFoundError, RefusedError
from gcr.critic.speaker import NUMBER, SPACES, Number, Reply, repeated
from gcr.errors import GcrError, ModelError, UsageError
from gcr.settings import address as addresses
from gcr.settings.address import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gcr.core.records import ProgressCallback
    from gcr.critic.rubric import Message
    from gcr.critic.speaker import Decoding
    from gcr.settings.address import Address

LIKELIEST = 20
"""Tokens whose probabilities are asked for: as many as vLLM and OpenAI give."""

AROUND = SPACES + "\n"
"""What may stand around the number that a token is."""
SLACK = 8
"""Characters between two tokens of a reply that may belong to neither: servers differ in how they
spell spaces, and letters that take several tokens."""


def with_model(address: Address, *, trusted: bool = False) -> Address:
    """The address with its model, which may be left out where the server has exactly one.

    trusted: whether the user named the server. Raises UsageError where there is a choice, and
    ModelError where nothing answers.
    """
    if address.model:
        return address
    models = _models(Server(address, trusted=trusted))
    if len(models) != 1:
        raise UsageError(
            f"{address} has {len(models) or 'no'} models: {probe.names(models)}".rstrip(": "),
            f"name one: --critic {address}#{models[0] if models else 'MODEL'}",
        )
    return address._replace(model=models[0])


def connect(  # noqa: PLR0913 - each for itself
    critic: str,
    *,
    batch: int = AT_ONCE,
    likely: bool = False,
    sample: probe.Sample | None = None,
    extra: Mapping[str, Any] | None = None,
    trusted: bool = False,
    progress: ProgressCallback | None = None,
    warn: Callable[[str, str], None] | None = None,
) -> EndpointSpeaker:
    """Connect to a server, and make sure that it does what will be asked of it.

    likely: whether probabilities are needed. sample: what will be asked. extra: as
    `EndpointSpeaker` has it. trusted: whether the user named the server, so that it gets the key.
    warn: told what is doubtful, and what to do.
    Raises ModelError where nothing answers, for a model that cannot see, and for questions that
    are too long or too large; UsageError for a key or a model that the server does not know, and
    where it tells no probabilities.
    """
    address = with_model(addresses.parse(critic), trusted=trusted)
    speaker = EndpointSpeaker(
        Server(address, trusted=trusted, warn=warn), batch, progress, extra=extra
    )
    probe.check(speaker, sample or probe.small(), likely=likely)
    return speaker


class EndpointSpeaker:
    """A model behind a server.

    batch: requests on their way at once, at most.
    extra: what each question is sent with, beside what it needs.

    likeliest: tokens whose probabilities are asked for, in each place.
    takes_pairs: whether a question may show two images to be compared.
    demands: what the server wants otherwise, as far as it has said so.
    used: tokens of all questions and replies so far, as the server counts them.
    """

    def __init__(
        self,
        server: Server,
        batch: int = AT_ONCE,
        progress: ProgressCallback | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.server = server
        self.likeliest = LIKELIEST
        self.takes_pairs = True
        self.demands = Demands()
        self.used = Tokens()
        self._batch = batch
        self._extra = extra or {}
        self._progress = progress
        self._takes_n = True
        self._done = self._total = 0

    def can_overlap(self) -> bool:
        return True

    def begin(self) -> None:
        """Count the progress of the next replies from nothing."""
        self._done = self._total = 0

    def replies(self, chats: Sequence[list[Message]], decoding: Decoding) -> list[Reply]:
        """A reply to each chat, in order. Several samples for one that stands several times in a
        row are asked for at once, where the server knows `n`.
        """
        # vLLM refuses several of the likeliest reply, which would all be the same.
        groups = repeated(chats) if decoding.temperature else [(chat, 1) for chat in chats]
        bodies = [
            self._question(chat, decoding) | ({"n": count} if count > 1 else {})
            for chat, count in groups
        ]
        return [self._reply(choice, decoding) for choice in self._choices(bodies)]

    def yes(self, chats: Sequence[list[Message]]) -> list[float]:
        """For each chat the probability of "yes" against "no" as the answer's first word.

        Of the two, one that is not among the likeliest tokens counts as the least likely of these:
        more it cannot be. Where the reply begins with anything else, or the server tells of a
        thought, it is asked for as far as the answer. A thought that the server's chat template
        opens without a word of it in the reply cannot be told from an answer that is not sure.
        Raises ModelError where there is neither yes nor no even so.
        """
        choices = self._choices([self._body(chat, 1, likely=True) for chat in chats])
        thinking = [
            i
            for i, choice in enumerate(choices)
            if choice.message.thinks or _may_think(self._tokens(choice)[0])
        ]
        longer = [self._body(chats[i], thoughts.LONGEST, likely=True) for i in thinking]
        for i, choice in zip(thinking, self._choices(longer), strict=True):
            choices[i] = choice
        return [self._chance(self._tokens(choice), choice.message) for choice in choices]

    def ask(
        self,
        chat: list[Message],
        decoding: Decoding | None = None,
        *,
        limit: int = 1,
        likely: bool = False,
    ) -> Completion:
        """Ask one question.

        decoding: asks as for such a reply, though not for as many tokens; None: plainly.
        limit: tokens of the answer. likely: with their probabilities.
        """
        if decoding is not None:
            body = self._question(chat, replace(decoding, max_new_tokens=limit))
        else:
            body = self._body(chat, limit, likely=likely)
        return self._complete(body, tries=2)

    def _reply(self, choice: Choice, decoding: Decoding) -> Reply:
        """Raises ModelError where all of the reply is among the thoughts."""
        text, withheld = choice.message.text, choice.withheld
        if not text and not withheld and choice.message.thinks:
            raise ModelError(
                f"{self.server.address.url} puts all of its reply among the model's thoughts",
                probe.THINKING,
            )
        cut_off = choice.finish_reason == CUT_OFF
        if withheld:
            return Reply("", cut_off, withheld=withheld)
        numbers = _numbers(text, self._tokens(choice)) if decoding.numbers else ()
        begun = decoding.prefill and PREFILL not in self.demands
        if begun and not text.startswith(decoding.prefill):
            # Most servers give back what they wrote, and not what they went on from.
            text = decoding.prefill + text
            numbers = tuple(replace(n, at=n.at + len(decoding.prefill)) for n in numbers)
        return Reply(text, cut_off, numbers)

    def _choices(self, bodies: Sequence[dict[str, Any]]) -> list[Choice]:
        """The answers to each body, in order; as many as its `n` says."""
        if not bodies:
            return []
        counts = [int(body.get("n", 1)) for body in bodies]
        self._total += sum(counts)
        choices = []
        # Daemon threads, so that Ctrl-C need not wait for the server.
        with ThreadPool(min(self._batch, len(bodies))) as pool:
            for answers, tokens in pool.imap(self._answers, bodies):
                choices += answers
                self.used += tokens
                self._done += len(answers)
                if self._progress is not None:
                    self._progress("judge", self._done, self._total)
        return choices

    def _answers(self, body: dict[str, Any]) -> tuple[list[Choice], Tokens]:
        """The answers to one body, asked for one by one where the server knows no `n`, and the
        tokens that they took.
        """
        count = int(body.get("n", 1))
        alone = {name: value for name, value in body.items() if name != "n"}
        answers: list[Choice] = []
        tokens = Tokens()
        if count == 1 or self._takes_n:
            try:
                # vLLM on a CPU dies of several samples with a seed.
                unseeded = {name: value for name, value in body.items() if name != "seed"}
                completion = self._complete(body if count == 1 else unseeded)
                answers, tokens = completion.choices[:count], completion.tokens
            except RefusedError:
                if count == 1:
                    raise
            if len(answers) < count:
                self._takes_n = False
        for i in range(len(answers), count):
            completion = self._complete(alone | ({"seed": body["seed"] + i} if i else {}))
            answers += completion.choices[:1]
            tokens += completion.tokens
        return answers, tokens

    def _complete(self, body: dict[str, Any], tries: int = TRIES) -> Completion:
        """Ask, and once more for each thing that the server wants otherwise."""
        while True:
            sent = self.demands.meet(body)
            try:
                return self._answer(sent, tries)
            except RefusedError as error:
                learned = self.demands.learn(body, sent, error.reason)
                if learned is None:
                    raise
                change, effect = learned
                if change:
                    self.server.warn(
                        f"{self.server.address.url} wants {change}: {error.reason}", effect
                    )

    def _answer(self, body: Mapping[str, Any], tries: int) -> Completion:
        try:
            return self.server.post("/chat/completions", body, Completion, tries)
        except NotFoundError as error:
            address = self.server.address
            try:
                models = _models(self.server)
            except GcrError:
                raise error from None  # not even a list of models: it is the URL that is wrong
            if address.model in models:
                raise ModelError(error.message, "look at the server's log") from error
            raise UsageError(
                f"{address.url} has no model {address.model!r}",
                f"it has: {probe.names(models) or 'none'}",
            ) from error

    def _question(self, chat: list[Message], decoding: Decoding) -> dict[str, Any]:
        """A chat in OpenAI's form, to be answered by such a reply."""
        return (
            self._body(chat, decoding.max_new_tokens, likely=decoding.numbers)
            | {"temperature": decoding.temperature, "seed": decoding.seed}
            | _sampling(decoding)
            | _begun(chat, decoding.prefill)
        )

    def _body(self, chat: list[Message], limit: int, *, likely: bool) -> dict[str, Any]:
        """A chat in OpenAI's form, to be answered with so many tokens at most."""
        body = {
            "model": self.server.address.model,
            "messages": [{**message, "content": _content(message)} for message in chat],
            "max_tokens": limit,
            "temperature": 0.0,
            **self._extra,
        }
        return body | ({"logprobs": True, "top_logprobs": self.likeliest} if likely else {})

    def _tokens(self, choice: Choice) -> list[Token]:
        """The reply's tokens, with probabilities. Raises ModelError where there are none."""
        if not choice.tokens:
            raise ModelError(
                f"{self.server.address} told no probabilities with its reply",
                "leave --score out, or look at the server's log",
            )
        return choice.tokens

    def _chance(self, tokens: list[Token], message: completions.Message) -> float:
        chance = _odds(_first_of_answer(tokens, message))
        if chance is None:
            raise ModelError(
                f"{self.server.address} began with {tokens[0].token!r} where yes or no was asked "
                "for",
                "turn its thinking off, as docs/rubrics.md says, or take another critic",
            )
        return chance


def _first_of_answer(tokens: list[Token], message: completions.Message) -> Token:
    """The token that the answer begins with, or the first one where there is no answer."""
    words = [token.token for token in tokens]
    if message.thinks and message.text:
        # The text is without thoughts, and they may be without marks among the tokens.
        for k in reversed(range(len(words))):
            if thoughts.answer("".join(words[k:])).strip() == message.text:
                return tokens[k]
    answer = thoughts.answer("".join(words))
    left = len(answer) - len(answer.lstrip()) if answer.strip() else 0
    for token in tokens:
        left -= len(token.token)
        if left < 0:
            return token
    return tokens[0]


def _may_think(first: Token) -> bool:
    """Whether a reply begins with the mark of a thought, or a piece of it, or is no answer."""
    return first.token.lstrip(SPACES)[:1] in tuple("<[◁") or _odds(first) is None


def _odds(token: Token) -> float | None:
    """The probability of yes against no in a token's place; None where neither is likely."""
    likeliest = {t.token: math.exp(t.logprob) for t in [*token.top_logprobs, token]}
    spelled = {"yes": 0.0, "no": 0.0}
    for word, chance in likeliest.items():
        bare = word.strip(SPACES).casefold()
        if bare in spelled:
            spelled[bare] += chance
    if not any(spelled.values()):
        return None
    yes, no = (spelled[word] or min(likeliest.values()) for word in ("yes", "no"))
    return yes / (yes + no)


def _models(server: Server) -> list[str]:
    return [model.id for model in server.get("/models", Models).data]


def _sampling(decoding: Decoding) -> dict[str, Any]:
    limits = {"top_p": decoding.top_p, "top_k": decoding.top_k}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _begun(chat: list[Message], prefill: str) -> dict[str, Any]:
    """What a question holds whose reply is begun: vLLM has to be told to go on with it, others do
    so by themselves.
    """
    if not prefill:
        return {}
    messages = [{**message, "content": _content(message)} for message in chat]
    return {
        "messages": [*messages, {"role": "assistant", "content": prefill}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def _content(message: Message) -> object:
    """A message's parts; where all are text, the text: some servers take no parts of a reply."""
    parts = message["content"]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return [_image_url(part["image"]) if part["type"] == "image" else part for part in parts]


def _image_url(image: Any) -> dict[str, object]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _numbers(text: str, tokens: Sequence[Token]) -> tuple[Number, ...]:
    """The numbers of a reply, with the chances of others in their places.

    Tokens are found in the text from its end on: before it there may be thoughts, which servers
    leave out of the text but not of the tokens.
    """
    numbers = []
    end = len(text)
    for token in reversed(tokens):
        word = token.token.strip(AROUND)
        at = text.rfind(word, 0, end) if word else -1
        if at < 0 or end - at - len(word) > SLACK:
            continue
        end = at
        if NUMBER.fullmatch(word):
            numbers.append(Number(at, _chances(token)))
    return tuple(reversed(numbers))


def _chances(token: Token) -> dict[float, float]:
    """The chances of the numbers among a token's alternatives, and of itself, summing to 1."""
    likeliest = {t.token: t.logprob for t in [*token.top_logprobs, token]}
    words = [(spelled.strip(AROUND), logprob) for spelled, logprob in likeliest.items()]
    numbers = [(float(word), logprob) for word, logprob in words if NUMBER.fullmatch(word)]
    most = max(logprob for _, logprob in numbers)  # were all far below 0, their sum would be 0
    chances: dict[float, float] = {}
    for value, logprob in numbers:
        chances[value] = chances.get(value, 0.0) + math.exp(logprob - most)
    whole = sum(chances.values())
    return {value: chance / whole for value, chance in chances.items()}
