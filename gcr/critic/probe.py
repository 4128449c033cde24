"""Tries out, before anything is drawn, whether a server can do what a run will ask of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gcr.core.records import Request
from gcr.critic import server_errors
from gcr.critic.completions import Models
from gcr.critic.speaker import Decoding, image_part, with_images
from gcr.errors import GcrError, ModelError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from gcr.critic.completions import Completion, Model
    from gcr.critic.endpoint import EndpointSpeaker
    from gcr.critic.rubric import Message, Rubric

SHOWN = 20  # names of models
FEWER = (5, 2)
"""Probabilities to be content with, where a server tells no more of them."""
THINKING = (
    "turn thinking off in the rubric (chat_template_kwargs, as in qwen3-vl) or at the server "
    "(vLLM: no --reasoning-parser, and "
    """--default-chat-template-kwargs '{"enable_thinking":false}')"""
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions such as a run will ask, with images as large as its own.

    question: one about an image.
    pair: one that shows two images; None where none will be asked.
    decoding: how replies will be written.
    """

    question: list[Message]
    pair: list[Message] | None = None
    decoding: Decoding = field(default_factory=lambda: Decoding(1))


TYPICAL = 1024
"""Pixels of an image's side, where nobody says: what most pipelines draw."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a server is to be used for, as far as it is known before anything is drawn.

    size: width and height of the images, in pixels; None: unknown.
    edit: whether each image is judged beside the one it edits.
    compare: whether two images are compared.
    trusted: whether the user named the server, so that it gets the key.
    warn: called with a message and a hint for what is doubtful.
    """

    size: tuple[int | None, int | None] = (None, None)
    edit: bool = False
    compare: bool = True
    trusted: bool = False
    warn: Callable[[str, str], None] | None = None

    def sample(self, rubric: Rubric) -> Sample:
        """Questions such as will be asked."""
        image = picture((self.size[0] or TYPICAL, self.size[1] or TYPICAL))
        request = Request("a red circle", source="source.png" if self.edit else "")
        images = [image, image] if self.edit else [image]
        question = with_images(rubric.messages(request), images, rubric.max_pixels)
        pair = None
        if self.compare and rubric.comparison and (rubric.compares_edits or not self.edit):
            pair = with_images(rubric.compare(request), [*images, image], rubric.max_pixels)
        return Sample(question, pair, rubric.decoding(critique=True))


def small() -> Sample:
    """The least that any critic's server must answer: a question about a small image."""
    return Sample([_user(picture((64, 64)), "What is this?")])


def picture(size: tuple[int, int]) -> Image:
    """A picture that packs as badly as those that are drawn. size: width and height in pixels."""
    from PIL import Image

    width, height = size
    coarse = bytes(level & 0xF0 for level in range(256))
    noise = random.Random(0).randbytes(width * height * 3).translate(coarse)
    return Image.frombytes("RGB", size, noise)


def check(speaker: EndpointSpeaker, sample: Sample, *, likely: bool) -> None:
    """Ask the sample's questions, so that what a server cannot do is found out before a run begins.

    Sets `likeliest` and `takes_pairs` of the speaker to what the server allows, and warns of what
    is doubtful. likely: whether probabilities are needed.
    Raises ModelError for a model that cannot see or is asked too much, UsageError where it gives no
    probabilities.
    """
    listed = _listed(speaker)
    seen = speaker.ask(sample.question, sample.decoding)
    _check_sight(speaker, sample, seen)
    _check_length(speaker, sample, seen, listed)
    if seen.choices[0].message.thinks:
        speaker.server.warn(
            f"the model of {speaker.server.address.url} thinks before it replies, which counts "
            f"towards the {sample.decoding.max_new_tokens} tokens of a reply",
            f"{THINKING}, or take a rubric with a larger max_new_tokens",
        )
    if sample.pair is not None:
        _check_pair(speaker, sample.pair)
    if likely:
        _check_likely(speaker)


def names(models: list[str]) -> str:
    """Names for a message, the first few of many."""
    more = f" and {len(models) - SHOWN} more" if len(models) > SHOWN else ""
    return ", ".join(models[:SHOWN]) + more


def _listed(speaker: EndpointSpeaker) -> Model | None:
    """The model as the server lists it; None, with a warning, where it is not in the list."""
    server = speaker.server
    try:
        models = server.get("/models", Models).data
    except GcrError:
        return None  # not all servers have a list; what is wrong with this one will come out
    for model in models:
        if model.id == server.address.model:
            return model
    if models:
        server.warn(
            f"{server.address.url} lists no model {server.address.model!r}; some servers answer "
            "to any name, with the model that they have",
            f"it lists: {names([model.id for model in models])}",
        )
    return None


def _check_sight(speaker: EndpointSpeaker, sample: Sample, seen: Completion) -> None:
    """Make sure that the model sees: some servers drop images that it cannot see.

    They then count as many tokens with an image as without it. Raises ModelError.
    """
    unseen = speaker.ask(_without_images(sample.question), sample.decoding)
    if seen.tokens_asked != unseen.tokens_asked:
        return
    sees = _tells_colours(speaker)
    if sees is False and seen.tokens_asked:
        raise server_errors.blind(speaker.server.address)
    if not sees:
        speaker.server.warn(
            f"{speaker.server.address} may not see images: it says the same of red and of blue, "
            "and counts no tokens for them",
            "make sure that it serves a vision-language model",
        )


def _tells_colours(speaker: EndpointSpeaker) -> bool | None:
    """Whether it says different things of a red and of a blue picture; None: nothing at all."""
    from PIL import Image

    replies = []
    for colour in ("red", "blue"):
        image = Image.new("RGB", (64, 64), colour)
        chat = [_user(image, "Which colour is this picture? Answer with one word.")]
        replies.append(speaker.ask(chat, limit=32).choices[0].message.text)
    return replies[0] != replies[1] if all(replies) else None


def _check_length(
    speaker: EndpointSpeaker, sample: Sample, seen: Completion, listed: Model | None
) -> None:
    most = listed and listed.max_model_len
    needed = seen.tokens_asked + sample.decoding.max_new_tokens
    if most and needed > most:
        reason = f"it has {most} tokens for question and reply, which need {needed}"
        raise server_errors.too_long(speaker.server.address, reason)


def _check_pair(speaker: EndpointSpeaker, pair: list[Message]) -> None:
    try:
        speaker.ask(pair)
    except ModelError as error:
        speaker.takes_pairs = False
        speaker.server.warn(
            f"the best image will not be compared with the first: {error.message}", error.hint
        )


def _check_likely(speaker: EndpointSpeaker) -> None:
    """Settle for fewer probabilities where the server allows no more. Raises UsageError."""
    most, has_tokens, reason = speaker.likeliest, False, ""
    for speaker.likeliest in (most, *FEWER):
        try:
            answer = speaker.ask([_user(None, "What is this?")], likely=True)
        except ModelError as error:
            reason = reason or f" ({error.message})"
            continue
        has_tokens = bool(answer.choices[0].tokens)
        break
    if not has_tokens:
        raise UsageError(
            f"{speaker.server.address} tells no probabilities, which soft scores and checklists "
            f"are made of{reason}",
            "leave --score out, or take a server with logprobs, such as vLLM",
        )
    if speaker.likeliest < most:
        speaker.server.warn(
            f"{speaker.server.address} tells the {speaker.likeliest} likeliest tokens only{reason}",
            f"scores are coarser so; vllm serve --max-logprobs {most} tells more",
        )


def _without_images(chat: list[Message]) -> list[Message]:
    return [
        {**message, "content": [part for part in message["content"] if part["type"] != "image"]}
        for message in chat
    ]


def _user(image: Image | None, words: str) -> Message:
    images = [] if image is None else [image_part(image)]
    return {"role": "user", "content": [*images, {"type": "text", "text": words}]}
