r"""What A1111's users write into prompts besides words: LoRAs and weights.

    <lora:name:0.8>     a LoRA, and how much of it
    (word:1.3)          counts 1.3 times
    (word)  [word]      1.1 times, and 1/1.1 times; brackets in brackets multiply
    \( \) \[ \]             the signs themselves
    BREAK               what follows is read in a chunk of its own

What is read of it depends on the pipeline: see `gcr.drawing.reading`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LORA = re.compile(r"<(?:lora|lyco):([^:<>]++)(?::([^:<>]*+))?[^<>]*+>")
_TAGGED = re.compile(rf"[ \t,]*{_LORA.pattern}(?:[ \t,]*{_LORA.pattern})*[ \t,]*")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_MARKS = re.compile(
    rf"""\\[()\[\]\\] | [(\[\])]
    | : \s* ({_NUMBER}) \s* \)  # the end of a bracket with a weight
    | [^\\()\[\]:]+ | [\\:]""",
    re.VERBOSE,
)
_WEIGHTED = re.compile(rf"\(([^()\[\]\\]+?):\s*{_NUMBER}\s*\)")
_BREAK = re.compile(r'"[^"]*+"|“[^”]*+”|(\s*+\bBREAK\b\s*+)')
_SQUARE = re.compile(r"\[([^\[\]]*+)\]")
_EDITED = re.compile(r"\||:\s*[\d.]+\s*$")
DEEPEST = 16
"""Brackets within brackets; any more are signs of the text."""
ROUND, SQUARE = 1.1, 1 / 1.1
"""What a pair of brackets multiplies the weight of its words by."""


class Lora(NamedTuple):
    """A LoRA as a prompt names it. scale: 1 is what it was trained for."""

    name: str
    scale: float


class Fragment(NamedTuple):
    """Words of a prompt, and how much they count: 1 is as usual."""

    text: str
    weight: float


def loras(prompt: str) -> tuple[Lora, ...]:
    """The LoRAs that a prompt names, each once: of several scales the last counts.

    A scale that is no number is 1; `without_scale` names such tags.
    """
    scales = {}
    for name, scale in _LORA.findall(prompt):
        scales[name.strip()] = float(scale) if _is_number(scale) else 1.0
    return tuple(Lora(*named) for named in scales.items())


def without_scale(prompt: str) -> list[str]:
    """The tags of LoRAs that have something in the place of a scale which is no number."""
    return [m[0] for m in _LORA.finditer(prompt) if m[2] is not None and not _is_number(m[2])]


def _is_number(text: str) -> bool:
    return re.fullmatch(_NUMBER, text.strip()) is not None


def lora_tags(prompt: str) -> list[str]:
    """The tags of LoRAs in a prompt, as they stand there."""
    return [match[0] for match in _LORA.finditer(prompt)]


def without_loras(prompt: str) -> str:
    """A prompt without the tags of LoRAs, which no text encoder was trained on."""
    return _TAGGED.sub(_closed_up, prompt).strip(" \t,") if _LORA.search(prompt) else prompt


def _closed_up(match: re.Match[str]) -> str:
    """What stays of a tag and of the spaces and commas around it."""
    around = _LORA.sub("", match[0])
    return ", " if "," in around else " " if around else ""


def fragments(prompt: str) -> list[Fragment]:
    """A prompt by A1111's grammar: neighbours of one weight are one fragment; never empty.

    A bracket that is not closed counts to the end.
    """
    pieces: list[Fragment] = []
    opened: list[tuple[str, int]] = []  # each bracket, and the piece that comes after it

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [Fragment(text, weight * factor) for text, weight in pieces[start:]]

    for match in _MARKS.finditer(prompt):
        sign, weight = match[0], match[1]
        if sign in "([" and len(opened) < DEEPEST:
            opened.append((sign, len(pieces)))
        elif weight is not None and opened and opened[-1][0] == "(":
            multiply(opened.pop()[1], float(weight))
        elif sign == ")" and opened and opened[-1][0] == "(":
            multiply(opened.pop()[1], ROUND)
        elif sign == "]" and opened and opened[-1][0] == "[":
            multiply(opened.pop()[1], SQUARE)
        else:
            is_escaped = len(sign) > 1 and sign[0] == "\\"
            pieces.append(Fragment(sign[1:] if is_escaped else sign, 1.0))
    for sign, start in opened:
        multiply(start, ROUND if sign == "(" else SQUARE)
    merged: list[Fragment] = []
    for piece in pieces:
        if merged and merged[-1].weight == piece.weight:
            merged[-1] = Fragment(merged[-1].text + piece.text, piece.weight)
        else:
            merged.append(piece)
    return merged or [Fragment("", 1.0)]


def parts(prompt: str) -> list[str]:
    """A prompt between the words BREAK that are not in quotes."""
    at, found = 0, []
    for match in _BREAK.finditer(prompt):
        if match[1]:
            found.append(prompt[at : match.start()])
            at = match.end()
    return [*found, prompt[at:]]


def has_unread(prompt: str) -> bool:
    """Whether there is what A1111 has besides: `[from:to:0.5]`, `[this|that]` or AND."""
    return " AND " in prompt or any(map(_EDITED.search, _SQUARE.findall(prompt)))


def words(prompt: str) -> str:
    """What a prompt asks for, without LoRAs and weights: as whoever judges an image is told."""
    return without_weights(without_loras(prompt))


def without_weights(prompt: str) -> str:
    """A prompt with `(word:1.3)` as its word, and without BREAK; other brackets are punctuation."""
    before, prompt = "", " ".join(filter(None, parts(prompt)))
    while before != prompt:
        before, prompt = prompt, _WEIGHTED.sub(r"\1", prompt)
    return prompt
