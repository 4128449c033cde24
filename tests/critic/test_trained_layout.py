"""The chats of our rubrics against a written description of the layout: roles, order, pixels.

Of RationalRewards the description is that of its repository (README.md, `reward_model_evaluation`,
`rationalrewards_full_sft.yaml`): for a single image a short system message, for a pair none; the
instruction first, each image behind its numbered label, the rubric and the form of the reply after
all images; at most 802,816 pixels an image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from fakes import FakeSpeaker
from PIL import Image

from gcr.core.records import Request
from gcr.critic import rubric
from gcr.critic.critic import VisionLanguageCritic

if TYPE_CHECKING:
    from gcr.critic.rubric import Message

RED, BLUE, GREEN = (Image.new("RGB", (1600, 1000), c) for c in ("red", "blue", "green"))
NAMES = {(255, 0, 0): "red", (0, 0, 255): "blue", (0, 128, 0): "green"}
REQUEST = Request("a cat", "dogs")
EDIT = Request("make it red", "dogs", source="source.png")

ASPECTS = [
    "**1. Text Faithfulness**",
    "**2. Physical and Visual Quality**",
    "**3. Text Rendering**",
]
OF_EDITS = [
    *("**1. Text Faithfulness**", "**2. Image Faithfulness**"),
    *("**3. Physical and Visual Quality**", "**4. Text Rendering**"),
]
LEVELS = ["**4", "**3", "**2", "**1"]


def rules(aspects: list[str], steps: list[str], form: list[str]) -> list[str]:
    """What stands after the images: aspects with their levels, how to score, the form."""
    levels = [line for aspect in aspects for line in (aspect, *LEVELS)]
    return ["### Aspects and Their Levels", *levels, "### How to Score", *steps, *form]


def single(names: list[str]) -> list[str]:
    aspects = [line for name in names for line in (name, "## Justification", "## Score")]
    return [
        *("# User Request Analysis", "# Detailed Judgement", *aspects, "# Summary"),
        *("# User Request Refinement", "## Refinement Comments", "## Refined Request"),
    ]


def pair(names: list[str]) -> list[str]:
    parts = ("## Justification", "## Score A", "## Score B", "## Winner")
    aspects = [line for name in names for line in (name, *parts)]
    return ["# User Request Analysis", "# Detailed Judgement", *aspects, "# Summary"]


def plain(aspects: list[str]) -> list[str]:
    return [aspect.strip("*") for aspect in aspects]


ONE_STEPS = ["1. **Anchor", "2. **Justify and Adjust"]
PAIR_STEPS = ["1. **Anchor", "2. **Adjust", "3. **Compare"]
SMALLER = "1133x708"  # 802,816 pixels at most, in the proportions of 1600x1000

DRAWN = [
    "system:",
    "user:",
    "User Instruction: a cat",
    "1. Generated Image",
    f"<red {SMALLER}>",
    *rules(ASPECTS, ONE_STEPS, single(plain(ASPECTS))),
]
EDITED = [
    "system:",
    "user:",
    "User Instruction: make it red",
    "1. Source Image",
    f"<green {SMALLER}>",
    "2. Edited Image",
    f"<red {SMALLER}>",
    *rules(OF_EDITS, ONE_STEPS, single(plain(OF_EDITS))),
]
DRAWN_PAIR = [
    "user:",
    "User Instruction: a cat",
    "1. Generated Image A",
    f"<red {SMALLER}>",
    "2. Generated Image B",
    f"<blue {SMALLER}>",
    *rules(ASPECTS, PAIR_STEPS, pair(plain(ASPECTS))),
]
EDITED_PAIR = [
    "user:",
    "User Instruction: make it red",
    "1. Source Image",
    f"<green {SMALLER}>",
    "2. Edited Image A",
    f"<red {SMALLER}>",
    "3. Edited Image B",
    f"<blue {SMALLER}>",
    *rules(OF_EDITS, PAIR_STEPS, pair(plain(OF_EDITS))),
]
OURS = [
    "system:",
    *(*plain(ASPECTS), *single(plain(ASPECTS))),
    "user:",
    "<red 1600x1000>",
    "<request>",
    "</request>",
    "<unwanted>",
    "</unwanted>",
]
OUR_PAIR = [
    *("user:", "First:", "<red 1600x1000>", "Second:", "<blue 1600x1000>"),
    *("<request>", "</request>"),
]


def outline(chat: list[Message]) -> list[str]:
    """A chat's roles, images with their pixels, and lines that are labels, headings or tags."""
    lines = []
    for message in chat:
        lines.append(f"{message['role']}:")
        for part in message["content"]:
            if part["type"] == "image":
                width, height = part["image"].size
                lines.append(f"<{NAMES[part['image'].getpixel((0, 0))]} {width}x{height}>")
                continue
            for line in part["text"].splitlines():
                if re.match(r"User Instruction|\d\. \w+ Image|First:|Second:|</?\w+>", line):
                    lines.append(line.strip())
                elif re.match(r"#|\d\. |\*\*|- \*\*", line):
                    lines.append(re.split(r" \(|:| \.\.\.", line.removeprefix("- "))[0].strip())
    return lines


def chats(name: str, request: Request, *, pairs: bool) -> list[Message]:
    """What a critic of this rubric asks its speaker."""
    asked: list[list[Message]] = []
    speaker = FakeSpeaker(lambda chat: asked.append(chat) or "Better: first")
    critic = VisionLanguageCritic(speaker, rubric.load(name))
    critic.limit = 77
    sources = [GREEN] if request.source else []
    if pairs:
        critic.compare([request], [RED], [BLUE], sources)
    else:
        critic.judge([request], [RED], sources)
    return asked[0]


@pytest.mark.parametrize(
    ("name", "request_", "pairs", "described"),
    [
        ("rational-rewards", REQUEST, False, DRAWN),
        ("rational-rewards", REQUEST, True, DRAWN_PAIR),
        ("rational-rewards-editing", EDIT, False, EDITED),
        ("rational-rewards-editing", EDIT, True, EDITED_PAIR),
        ("text-to-image", REQUEST, False, OURS),
        ("text-to-image", REQUEST, True, OUR_PAIR),
        ("qwen3-vl", REQUEST, False, OURS),
        ("pocket", REQUEST, False, ["user:", "<red 1600x1000>"]),
    ],
)
def test_a_chat_is_laid_out_as_described(
    name: str, request_: Request, pairs: bool, described: list[str]
) -> None:
    assert outline(chats(name, request_, pairs=pairs)) == described


@pytest.mark.parametrize("name", ["rational-rewards", "rational-rewards-editing"])
def test_what_was_trained_is_asked_and_nothing_else(name: str) -> None:
    rules = rubric.load(name)
    assert (rules.temperature, rules.max_new_tokens) == (0.1, 2048)
    assert rules.max_pixels == 896 * 896
    edit = "source.png" if "editing" in name else ""
    system, user = rules.messages(Request("a cat", "dogs", source=edit), 77)
    (words,) = system["content"]
    assert words["text"].count("\n") == 0  # a few sentences
    assert len(words["text"]) < 300
    text = "".join(part.get("text", "") for part in user["content"])
    assert "dogs" not in text
    assert "77" not in text
    assert user["content"][0]["text"].startswith("User Instruction: a cat\n")
    # Each image follows its label on the same line, and two lines' ends follow the last.
    texts = [part["text"] for part in user["content"] if part["type"] == "text"]
    assert all(text.endswith("Image ") for text in texts[:-1])
    assert texts[-1].startswith("\n\n")
