"""What OpenAI-compatible servers answer, in the forms that are in use."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from gcr.core.records import Tokens
from gcr.critic.server import Body
from gcr.critic.server_errors import in_words

FILTERED = "content_filter"
CUT_OFF = "length"
FAILED = "error"


class Model(BaseModel):
    """A model in a server's list. max_model_len: tokens of a question and its reply together, if
    the server says so.
    """

    id: str
    max_model_len: int | None = None


class Models(Body):
    data: list[Model]


class Likely(BaseModel):
    """A token as text, and the logarithm of its probability."""

    token: str
    logprob: Annotated[float, Field(le=0.01, allow_inf_nan=False)]  # rounding may exceed 0


class Token(Likely):
    top_logprobs: list[Likely] = []


class Logprobs(BaseModel):
    content: list[Token] | None = None


class Part(BaseModel):
    """A part of a reply: text, thoughts, or anything else."""

    type: str = "text"
    text: object = None


class Message(BaseModel):
    """A reply.

    content: its text, or parts of it.
    refusal: why the model will not reply.
    reasoning, reasoning_content: its thoughts, where the server keeps them separate.
    """

    content: str | list[Part | str] | None = None
    refusal: object = None
    reasoning: object = None
    reasoning_content: object = None

    @property
    def text(self) -> str:
        parts = [self.content] if isinstance(self.content, str) else self.content or []
        texts = [part if isinstance(part, str) else _text(part) for part in parts]
        return "".join(texts).strip()

    @property
    def thinks(self) -> bool:
        """Whether there are thoughts beside the text."""
        parts = self.content if isinstance(self.content, list) else []
        has_part = any(isinstance(part, Part) and part.type == "thinking" for part in parts)
        return has_part or bool(self.reasoning or self.reasoning_content)


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    error: object = None

    @property
    def tokens(self) -> list[Token]:
        """Empty where the server tells no probabilities."""
        return (self.logprobs and self.logprobs.content) or []

    @property
    def withheld(self) -> str:
        """Why the text is no reply; empty where it is one."""
        if self.finish_reason == FILTERED:
            return "the server's filter held the reply back"
        if self.message.refusal and not self.message.text:
            return f"the model refused: {in_words(self.message.refusal)}"
        if self.finish_reason == CUT_OFF and self.message.thinks and not self.message.text:
            return "the reply was cut off in its thoughts, before it said anything"
        return ""


class Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(Body):
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None

    @property
    def tokens(self) -> Tokens:
        """Of the question and its reply; uncounted where the server does not tell of both."""
        usage = self.usage or Usage()
        read, written = usage.prompt_tokens, usage.completion_tokens
        if read is None or written is None or min(read, written) < 0:
            return Tokens(uncounted=1)
        return Tokens(read, written)

    @property
    def tokens_asked(self) -> int:
        """Tokens of the question; 0 where the server counts none."""
        return (self.usage and self.usage.prompt_tokens) or 0

    def failure(self) -> str | None:
        choice = self.choices[0]
        if choice.finish_reason != FAILED and not choice.error:
            return None
        return in_words(choice.error) or choice.message.text


def _text(part: Part) -> str:
    is_text = part.type in ("text", "output_text") and isinstance(part.text, str)
    return str(part.text) if is_text else ""
