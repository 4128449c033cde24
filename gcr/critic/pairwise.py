"""Two images side by side, and which one is better: a judgement that no score enters.

A judge prefers what it sees first, or last. So it is asked twice, in both orders, and only a
preference that survives the exchange counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gcr.core.records import Preference
from gcr.critic.thoughts import answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Critic, Request

# No part takes back what it took (`*+`), so that a long run of spaces is looked through once.
_SIDE = r"""(?: (?:the|image|option|candidate) \s*+ )*+ (?P<word> first | second | [12] | neither
    | both | tie | equal | (?<=image\ )[ab] | (?<=option\ )[ab] | (?<=candidate\ )[ab]
    | (?-i:[AB]) (?=[\s*_."']*+$) )\b"""
_VERDICT = re.compile(
    rf"""\b (?: better | winner | preferred | verdict ) [\s*_"':=-]*+ (?: is [\s*_"':]*+ )?
    (?: it['’]?s \s++ )? (?: a \s++ (?=tie\b) )? {_SIDE}""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_LAST_WORD = re.compile(
    rf"[\s#>*_-]*+ (?:overall|final)? \s* {_VERDICT.pattern} \W*", _VERDICT.flags
)
_WORDS = {
    "first": Preference.FIRST,
    "1": Preference.FIRST,
    "a": Preference.FIRST,
    "second": Preference.SECOND,
    "2": Preference.SECOND,
    "b": Preference.SECOND,
}
_LINE = re.compile(
    r"""[\s#>*_|-]*+ (?: (?P<ends>summary\b) | (?P<winner>winner\b)
    | (?P<aspect>\d{1,2}[.)] .*)
    | scores? \s+ (?:for\s+)? (?:image\s+)? (?P<side>[ab]) \b [^:：\d]{0,40} [:：]?
      (?P<score>.*) )""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
NOT_SCORED = 2.5
"""What an image counts that has no score for an aspect: the middle of the scale, as RationalRewards
has it.
"""
SWAPPED = {
    Preference.FIRST: Preference.SECOND,
    Preference.SECOND: Preference.FIRST,
    Preference.TIE: Preference.TIE,
}


def read(text: str) -> Preference | None:
    """Read which of two images a reply prefers; None where it does not say. Thoughts do not count.

    Of a reply that ends with `Better: first`, `second` or `neither` that line counts; of several
    the last, as a critic may have weighed another before. In the form that RationalRewards was
    trained on each aspect has `Score A`, `Score B` and `Winner`: then the larger sum of scores
    wins, as its authors compute it, unless a verdict on both images as a whole follows.
    """
    text = answer(text)
    scores, winners, rest = _by_aspect(text)
    if not scores:
        return _majority(winners) if len(winners) > 1 else _last_verdict(text)
    for line in reversed(rest):
        if match := _LAST_WORD.fullmatch(line):
            return _WORDS.get(match["word"].lower(), Preference.TIE)
    a, b = (round(sum(aspect.get(side, NOT_SCORED) for aspect in scores), 6) for side in "ab")
    return Preference.TIE if a == b else Preference.FIRST if a > b else Preference.SECOND


def _last_verdict(text: str) -> Preference | None:
    verdicts = [match["word"].lower() for match in _VERDICT.finditer(text)]
    return _WORDS.get(verdicts[-1], Preference.TIE) if verdicts else None


def _majority(winners: Sequence[Preference]) -> Preference:
    """What more aspects prefer."""
    firsts, seconds = winners.count(Preference.FIRST), winners.count(Preference.SECOND)
    if firsts == seconds:
        return Preference.TIE
    return Preference.FIRST if firsts > seconds else Preference.SECOND


def _by_aspect(text: str) -> tuple[list[dict[str, float]], list[Preference], list[str]]:
    """The scores of the images `a` and `b` for each aspect that has any, the winners by aspect, and
    the lines that follow all of these.
    """
    scores: list[dict[str, float]] = [{}]
    winners: list[Preference] = []
    lines = text.splitlines()
    last = -1
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        if match["ends"]:
            break
        if match["aspect"]:
            scores.append({})
        elif match["winner"]:
            winner = _last_verdict(line)
            winners += [] if winner is None else [winner]
            last = number
        elif value := _NUMBER.search(match["score"]):
            side = match["side"].lower()
            if side in scores[-1]:
                scores.append({})
            scores[-1][side] = float(value[0])
            last = number
    return [aspect for aspect in scores if aspect], winners, lines[last + 1 :]


def blind(
    critic: Critic,
    requests: Sequence[Request],
    firsts: Sequence[Image],
    seconds: Sequence[Image],
    sources: Sequence[Image | None] = (),
) -> list[Preference | None]:
    """For each request which of its two images is better, asked in both orders and all at once.

    sources: what was edited; None or left out where nothing was.
    A split verdict is a tie. None where either reply cannot be read.
    """
    if not requests:
        return []  # asking the critic could mean bringing its weights to the device
    verdicts = critic.compare(
        [*requests, *requests],
        [*firsts, *seconds],
        [*seconds, *firsts],
        *([[*sources, *sources]] if any(sources) else []),
    )
    straight, swapped = verdicts[: len(requests)], verdicts[len(requests) :]
    return [_agreed(*pair) for pair in zip(straight, swapped, strict=True)]


def _agreed(straight: Preference | None, swapped: Preference | None) -> Preference | None:
    """What both orders agree on; a tie where they do not."""
    if straight is None or swapped is None:
        return None
    return straight if straight is SWAPPED[swapped] else Preference.TIE
