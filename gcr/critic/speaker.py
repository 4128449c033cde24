"""A vision-language model as a critic needs it: chats in, replies out, wherever it runs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from gcr.core.records import Tokens
    from gcr.critic.rubric import Message

NUMBER = re.compile(r"[1-4](?:\.\d+)?")
"""What counts as a score where one token is looked at."""

SPACES = "\u0120\u2581 "  # how vocabularies spell the space before a word


@dataclass(frozen=True, slots=True)
class Number:
    """A token of a reply that begins a number from 1 to 4.

    at: its offset in the reply's text.
    chances: of all such numbers in its place, summing to 1. A number of several tokens counts as
        its first.
    """

    at: int
    chances: dict[float, float]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model wrote.

    cut_off: whether it hit the limit on tokens.
    numbers: empty where the decoding did not ask for them.
    withheld: why there is no text, such as a filter of the server; empty where there is one.
    """

    text: str
    cut_off: bool = False
    numbers: tuple[Number, ...] = ()
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to write a reply.

    temperature: of sampling; 0 takes the likeliest token.
    seed: of sampling; replies to one chat at one temperature differ by it.
    numbers: whether to report the chances of numbers, too.
    top_p, top_k: of sampling; None: as transformers or the server takes them.
    prefill: what the reply begins with.
    complete: whether a reply up to the end of a line says all that will be read of it, so that
        nothing more has to be written; None: a reply ends where the model ends it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    numbers: bool = False
    top_p: float | None = None
    top_k: int | None = None
    prefill: str = ""
    complete: Callable[[str], bool] | None = None


class Speaker(Protocol):
    """A vision-language model.

    The images of a chat are parts `{"type": "image", "image": Image}` of its messages.
    takes_pairs: whether a chat may show two images to be compared.
    used: tokens of all that it was asked and replied so far.
    """

    takes_pairs: bool
    used: Tokens

    def can_overlap(self) -> bool:
        """As `gcr.core.records.Critic` has it."""
        ...

    def begin(self) -> None:
        """Count the progress of the next replies from nothing."""
        ...

    def replies(self, chats: Sequence[list[Message]], decoding: Decoding) -> list[Reply]:
        """A reply to each chat, in order.

        A chat that is to have several replies stands several times in a row, as one object: it may
        then be read once for all of them. They are samples that differ.
        """
        ...

    def yes(self, chats: Sequence[list[Message]]) -> list[float]:
        """For each chat the probability of "yes" against "no" as the answer's first word.

        A thought before the answer, empty or full, is let come to its end, also where the chat
        template opens it. Raises ModelError where it does not within `thoughts.LONGEST` tokens.
        """
        ...


def repeated(chats: Sequence[list[Message]]) -> list[tuple[list[Message], int]]:
    """The chats, each with how many times it stands in a row as one object."""
    groups = (list(group) for _, group in groupby(chats, key=id))
    return [(group[0], len(group)) for group in groups]


def with_images(
    messages: list[Message], images: Sequence[Image], max_pixels: int | None = None
) -> list[Message]:
    """The rubric's messages with the images, in order, in the places of their image parts."""
    parts = [part for message in messages for part in message["content"]]
    places = [part for part in parts if part["type"] == "image"]
    filled = {
        id(place): image_part(image, max_pixels)
        for place, image in zip(places, images, strict=True)
    }
    return [
        {**message, "content": [filled.get(id(part), part) for part in message["content"]]}
        for message in messages
    ]


def image_part(image: Image, max_pixels: int | None = None) -> dict[str, object]:
    """An image as a part of a message; one of more pixels is made smaller, in its proportions."""
    image = image.convert("RGB")
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        factor = math.sqrt(max_pixels / (width * height))
        image = image.resize((max(1, int(width * factor)), max(1, int(height * factor))))
    return {"type": "image", "image": image}
