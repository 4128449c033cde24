"""A reply as it should be, and ways to bend it, for the tests of reading replies."""

from __future__ import annotations

from PIL import Image

from gcr.core.records import Request
from gcr.critic import rubric
from gcr.critic.reply import read

RUBRIC = rubric.load("text-to-image")
EDITING = rubric.load("editing")
SHORT = rubric.Rubric(
    name="test",
    description="",
    aspects=("Text Faithfulness",),
    system="be fair",
    template="is there {request} ?",
    complaint="again please",
    max_new_tokens=6,
)
"""In words that the tokenizers of the tiny models have."""
FAIR = rubric.Rubric(
    name="test",
    description="",
    aspects=("Text Faithfulness",),
    system="be fair to every image that you are shown",
    template="is there {request} ?",
    complaint="again please",
)
"""One whose opening is worth keeping, and what to judge by it."""
IMAGES = [
    Image.new("RGB", size, colour)
    for size, colour in (((64, 64), "red"), ((48, 64), "blue"), ((64, 32), "green"))
]
REQUESTS = [Request("a red circle"), Request("blue"), Request("a green square and a blue star")]
ASPECTS = RUBRIC.aspects

REPLY = """\
# User Request Analysis
The user wants a red cat on a mat, with the word "HELLO".
# Detailed Judgement
1. Text Faithfulness:
## Justification: The cat is red.
The mat is missing.
## Score: 2.5
2. Physical and Visual Quality:
## Justification: The tail ends in a second tail.
## Score: 3.0
3. Text Rendering:
## Justification: It reads "HELO".
## Score: 2.25
# Summary: A cat without its mat.

# User Request Refinement:
## Refinement Comments: Name the mat.
## Refined Request: A red cat sitting on a woven mat,
with the word "HELLO" above it
"""
REFINED = 'A red cat sitting on a woven mat, with the word "HELLO" above it'


def scores(text: str, *, cut_off: bool = False) -> list[float | None]:
    return [a.score for a in read(text, RUBRIC, cut_off=cut_off).aspects]


def scored(score: str) -> str:
    """The reply with this in place of the score of text faithfulness."""
    return REPLY.replace("## Score: 2.5", score)


def refined(text: str) -> str | None:
    """What is read when this is all that the reply says for a refined request."""
    return read(REPLY[: REPLY.index("A red cat sitting")] + text, RUBRIC).refined


def read_scores(text: str) -> list[float | None]:
    """The scores of a reply that can be read as a whole."""
    critique = read(text, RUBRIC)
    assert critique.problem == ""
    return [a.score for a in critique.aspects]
