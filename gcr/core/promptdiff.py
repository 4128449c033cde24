"""What a rewrite did to a prompt, by phrase: what it added, left out, reworded and moved."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

MOST_PAIRS = 250_000
"""Pairs of words that are compared in order; a longer change is shown as one."""
LEAST_LETTERS = 3
"""Letters that two changes must have between them to be shown as two."""

_WIDE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
# A word with its hyphens and apostrophes, or a number; one sign; or one character of a script that
# writes no spaces; and the space after it.
_TOKEN = re.compile(rf"(?:[{_WIDE}]|[^\W{_WIDE}]+(?:[-'’.][^\W{_WIDE}]+)*|[^\w\s])\s*")
_ENDS = frozenset(",.;:!?、。，；：！？")
"""Signs that end a phrase; alone they are no change that is worth showing."""
_JOINS = frozenset(("and", "with"))
"""Words that begin one."""


class Piece(NamedTuple):
    """Some words.

    Attributes:
        kind: `same`; `del`: only before; `ins`: only after; `moved`: they stood elsewhere before.
        text: the words, with the space after them.
    """

    kind: Literal["same", "del", "ins", "moved"]
    text: str

    @property
    def words(self) -> str:
        """The words alone."""
        return self.text.rstrip()

    @property
    def space(self) -> str:
        """What is after them."""
        return self.text[len(self.words) :]


class _Step(NamedTuple):
    """Tokens that stayed, of which there are as many on both sides, or that took others' place."""

    stayed: bool
    old: list[str]
    new: list[str]


def pieces(before: str, after: str) -> list[Piece]:
    """How the one prompt became the other, in order. What was reworded is a `del`, then an `ins`.

    All but `del` is `after`, and all but `ins` holds the words of `before`, the moved ones in
    another place. Phrases that differ in case alone, in the signs between them, or in a joining
    "and" are the same.
    """
    shown: list[Piece] = []
    steps = _at_phrases(_joined(_aligned(_TOKEN.findall(before), _TOKEN.findall(after))))
    for stayed, old, new in steps:
        if not stayed:
            shown.append(Piece("del", "".join(old)))
        shown.append(Piece("same" if stayed else "ins", "".join(new)))
    return _merged(_with_moves(shown))


def left_out(shown: Iterable[Piece]) -> list[str]:
    """The phrases that only the prompt before had."""
    return [piece.text.strip(" \t\n" + "".join(_ENDS)) for piece in shown if piece.kind == "del"]


def _aligned(old: Sequence[str], new: Sequence[str]) -> list[_Step]:
    """What stayed, in order, and what did not."""
    a, b = _bare(old), _bare(new)
    shortest = min(len(a), len(b))
    head = next((i for i in range(shortest) if a[i] != b[i]), shortest)
    most = shortest - head
    tail = next((i for i in range(most) if a[-1 - i] != b[-1 - i]), most)
    ends = len(a) - tail, len(b) - tail
    if (ends[0] - head) * (ends[1] - head) > MOST_PAIRS:
        codes = [("replace", head, ends[0], head, ends[1])]
    else:
        matcher = difflib.SequenceMatcher(a=a[head : ends[0]], b=b[head : ends[1]], autojunk=False)
        codes = [
            (code, head + i, head + j, head + k, head + m)
            for code, i, j, k, m in matcher.get_opcodes()
        ]
    codes = [("equal", 0, head, 0, head), *codes, ("equal", ends[0], len(a), ends[1], len(b))]
    steps = [_Step(code == "equal", [*old[i:j]], [*new[k:m]]) for code, i, j, k, m in codes]
    return [step for step in steps if step.old or step.new]


def _joined(steps: Sequence[_Step]) -> list[_Step]:
    """One change for two that have too little between them to be read apart."""
    joined: list[_Step] = []
    for step in steps:
        joined.append(step)
        while len(joined) > 2 and not step.stayed and _is_scrap(*joined[-3:]):
            old = [token for one in joined[-3:] for token in one.old]
            new = [token for one in joined[-3:] for token in one.new]
            joined[-3:] = [_Step(stayed=False, old=old, new=new)]
    return joined


def _is_scrap(left: _Step, between: _Step, right: _Step) -> bool:
    """Whether words between two changes are few beside them, and no phrase to themselves."""
    letters = _letters(between.new)
    if letters < LEAST_LETTERS:
        return True
    if not _ENDS.isdisjoint(_bare(between.new)):
        return False
    beside = [max(_letters(step.old), _letters(step.new)) for step in (left, right)]
    reworded = all(_letters(step.old) and _letters(step.new) for step in (left, right))
    return reworded and letters <= sum(beside) / 2


def _at_phrases(steps: list[_Step]) -> list[_Step]:
    """The same, where what was only added or left out begins and ends with a phrase if it can:
    in "a cat, a dog" that is "a bird, " or ", a bird", and not "bird, a ".
    """
    for place in range(1, len(steps) - 1):
        left, step, right = steps[place - 1 : place + 2]
        if step.stayed or (step.old and step.new) or not (left.stayed and right.stayed):
            continue
        is_new = bool(step.new)
        tokens, others = [*left.old, *step.old, *right.old], [*left.new, *step.new, *right.new]
        if is_new:
            tokens, others = others, tokens
        bare, start, size = _bare(tokens), len(left.old), len(step.old or step.new)
        first = last = start
        while first > 0 and bare[first - 1] == bare[first + size - 1]:
            first -= 1
        while last + size < len(bare) and bare[last] == bare[last + size]:
            last += 1
        at = max(range(first, last + 1), key=lambda at: (_fits(bare, at, at + size), at == start))
        changed = tokens[at : at + size]
        for offset, ours, theirs in (
            (-1, tokens[:at], others[:at]),
            (1, tokens[at + size :], others[at:]),
        ):
            steps[place + offset] = _Step(True, *((theirs, ours) if is_new else (ours, theirs)))
        steps[place] = _Step(False, *(([], changed) if is_new else (changed, [])))
    return steps


def _fits(bare: Sequence[str], begin: int, end: int) -> int:
    """How well tokens from one place to another are phrases."""
    starts = begin == 0 or bare[begin - 1] in _ENDS or bare[begin] in _ENDS | _JOINS
    stops = end == len(bare) or bare[end - 1] in _ENDS or bare[end] in _ENDS | _JOINS
    return starts + stops


def _with_moves(shown: Sequence[Piece]) -> list[Piece]:
    """The same, where phrases that were left out in one place and added in another were moved."""
    split = [
        Piece(piece.kind, phrase)
        for piece in shown
        for phrase in ([piece.text] if piece.kind == "same" else _phrases(piece.text))
    ]
    count = {
        kind: Counter(_content(piece.text) for piece in split if piece.kind == kind)
        for kind in ("del", "ins")
    }
    both = count["del"] & count["ins"]
    left = {kind: both.copy() for kind in count}
    moved = []
    for piece in split:
        words = _content(piece.text)
        if piece.kind == "same" or _letters(words) < LEAST_LETTERS or not left[piece.kind][words]:
            moved.append(piece)
            continue
        left[piece.kind][words] -= 1
        if piece.kind == "ins":
            moved.append(Piece("moved", piece.text))
    return moved


def _merged(shown: Sequence[Piece]) -> list[Piece]:
    """One piece for what is of one kind and stands together; what is only signs is no change."""
    merged: list[Piece] = []
    for piece in shown:
        is_noise = _is_noise(_TOKEN.findall(piece.text))
        kind = "same" if is_noise else piece.kind
        if not piece.text or (is_noise and piece.kind == "del"):
            continue
        if merged and merged[-1].kind == kind:
            merged[-1] = Piece(kind, merged[-1].text + piece.text)
        else:
            merged.append(Piece(kind, piece.text))
    return merged


def _phrases(text: str) -> list[str]:
    """A text cut where phrases end and begin."""
    phrases = [""]
    for token in _TOKEN.findall(text):
        bare = _bare([token])[0]
        if bare in _JOINS or (bare not in _ENDS and phrases[-1].rstrip()[-1:] in _ENDS):
            phrases.append("")
        phrases[-1] += token
    return [phrase for phrase in phrases if phrase]


def _content(text: str) -> tuple[str, ...]:
    """The words of a phrase, to know it again in another place."""
    return tuple(word for word in _bare(_TOKEN.findall(text)) if word not in _ENDS | _JOINS)


def _bare(tokens: Iterable[str]) -> list[str]:
    return [token.strip().casefold() for token in tokens]


def _letters(tokens: Iterable[str]) -> int:
    return sum(map(str.isalnum, "".join(tokens)))


def _is_noise(tokens: Iterable[str]) -> bool:
    return all(token in _ENDS for token in _bare(tokens))
