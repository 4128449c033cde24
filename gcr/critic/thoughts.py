"""The answer in a reply: without the thoughts before it and without a chat model's control tokens.

Everything else is replaced by spaces, so that what stays keeps its offset in the reply, by which
the probabilities of its tokens are found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflections?|scratchpad|seed:think)"
OPENING = re.compile(
    rf"""<{_NAMES}> | \[THINK\] | ◁think▷ | <\|START_THINKING\|> | <\|channel>thought
    | (?:<\|start\|>assistant)? <\|channel\|> \s* (?:analysis
      |commentary) [^<\n]{{0,80}} <\|message\|>
    | \A \s* (?:assistant)? analysis (?= .* assistantfinal)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""What opens a thought: tags, and the channels of models that speak in several."""
_CLOSING = re.compile(
    rf"""</{_NAMES}> | \[/THINK\] | ◁/think▷ | <\|END_THINKING\|> | <channel\|>
    | <\|channel\|> \s* final [^<\n]{{0,80}} <\|message\|> | assistantfinal""",
    re.VERBOSE | re.IGNORECASE,
)
_MARK = re.compile(
    rf"(?P<opening>{OPENING.pattern})|(?P<closing>{_CLOSING.pattern})", OPENING.flags
)

_BEGINS_TURN = r"""<\|im_start\|>\s*(?:assistant|model)? | <\|start\|>\s*(?:assistant)?
    | <\|start_header_id\|>\s*(?:assistant)?(?:<\|end_header_id\|>)? | <start_of_turn>\s*(?:model)?
    | <\|turn>\s*(?:model)? | \[INST\]"""
_ENDS_TURN = r"""<\|(?:im_end|eot_id|endoftext|end_of_text|end|eom_id|return|user|system|eos)\|>
    | </s> | <end_of_turn> | <turn\|> | <eos> | <end_of_utterance> | \[/INST\]
    | <｜end▁of▁sentence｜> | <\|END_OF_TURN_TOKEN\|>"""
_CONTROL = re.compile(
    rf"""(?P<turn>{_BEGINS_TURN} | {_ENDS_TURN})
    | <[|｜][^<>|｜\s]{{1,40}}[|｜]> | <s> | <bos>""",
    re.VERBOSE | re.IGNORECASE,
)


_WORDS = re.compile(r"\s*+\S")
_LEAVES = re.compile(r"[ \t]*\n\s*\S")
LONG_LINE = 200
"""Characters of a line that are looked at before a mark."""
LONGEST = 1024
"""Tokens of a thought before a yes or no, at most."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the parts of a reply in a rubric's form begin: its judgement, an aspect, the request.

    A critic may repeat a mark of thinking that the user's request holds. So one that closes a
    thought which nothing opened counts or not by where it stands among these parts.
    """

    judgement: re.Pattern[str]
    aspect: re.Pattern[str]
    refined: re.Pattern[str]


def answer(text: str, form: Form | None = None) -> str:
    """The reply with everything that is no answer blanked; what follows its last turn is cut off.

    form: how the parts begin of a reply that may come in the whole form.
    """
    judged = _last(form.judgement, text) if form else -1
    text = _blanked(text, _thoughts(text, form, judged))
    controls = []
    words, done = False, 0
    for mark in _CONTROL.finditer(text):
        words = words or bool(text[done : mark.start()].strip())
        done = mark.end()
        # A turn that ends before the judgement is only spoken of.
        if words and mark["turn"] and mark.start() > judged:
            text = text[: mark.start()]
            break
        controls.append(mark.span())
    return _blanked(text, controls)


def begun(text: str) -> bool:
    """Whether a reply that is still being written has come to its answer."""
    return bool(answer(text).strip())


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with spaces in these spans, which are in order and apart."""
    pieces, done = [], 0
    for start, end in spans:
        pieces += [text[done:start], " " * (end - start)]
        done = end
    return "".join([*pieces, text[done:]])


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match begins; -1 where there is none."""
    return max((match.start() for match in pattern.finditer(text)), default=-1)


def _thoughts(text: str, form: Form | None, judged: int) -> list[tuple[int, int]]:
    """Where the thoughts stand. judged: where the last heading of a judgement does; -1: nowhere.

    What closes a thought that nothing opened counts where the judgement is yet to come, alone on
    its line where an aspect is, and at the end of a line of a reply that has neither: a chat
    template may have opened it.
    """
    aspect = _last(form.aspect, text) if form else -1
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    for mark in _MARK.finditer(text):
        start, end = mark.span()
        before = text[text.rfind("\n", max(0, start - LONG_LINE), start) + 1 : start]
        alone = not before[-LONG_LINE:].strip() or bool(spans and spans[-1][1] == start)
        if mark["opening"]:
            opened = start if opened is None and alone else opened
        elif opened is not None:
            # Words before a thought only lead to it, where no part of a form stands among them.
            leads = judged < 0 and aspect < 0 and _WORDS.match(text, end)
            spans = [(0, end)] if leads else [*spans, (opened, end)]
            opened = None
        elif (
            end <= judged
            or (alone and end <= aspect)
            or (
                judged < 0
                and _LEAVES.match(text, end)
                and not (form and form.refined.match(before))
            )
        ):
            spans = [(0, end)]
    return spans if opened is None else [*spans, (opened, len(text))]
