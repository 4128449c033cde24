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
_VERDICT = re.compile(
    r"""\b (?: better | winner | preferred | verdict ) [\s*_"':=-]*+ (?: is [\s*_"':]*+ )?
    (?: (?:the|image) \s*+ )? (?P<word> first | second | [12] | neither | both | tie | equal )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS = {
    "first": Preference.FIRST,
    "1": Preference.FIRST,
    "second": Preference.SECOND,
    "2": Preference.SECOND,
}
_SWAPPED = {
    Preference.FIRST: Preference.SECOND,
    Preference.SECOND: Preference.FIRST,
    Preference.TIE: Preference.TIE,
}


def read(text: str) -> Preference | None:
    """Read the verdict of a reply that ends with `Better: first`, `second` or `neither`.

    The last one counts: a critic may have weighed another before. Thoughts do not count. None
    where there is no verdict.
    """
    verdicts = [match["word"].lower() for match in _VERDICT.finditer(answer(text))]
    return _WORDS.get(verdicts[-1], Preference.TIE) if verdicts else None


def blind(
    critic: Critic, requests: Sequence[Request], firsts: Sequence[Image], seconds: Sequence[Image]
) -> list[Preference | None]:
    """For each request which of its two images is better, asked in both orders and all at once.

    A split verdict is a tie. None where either reply cannot be read.
    """
    if not requests:
        return []  # asking the critic could mean bringing its weights to the device
    verdicts = critic.compare([*requests, *requests], [*firsts, *seconds], [*seconds, *firsts])
    straight, swapped = verdicts[: len(requests)], verdicts[len(requests) :]
    return [_agreed(*pair) for pair in zip(straight, swapped, strict=True)]


def _agreed(straight: Preference | None, swapped: Preference | None) -> Preference | None:
    """What both orders agree on; a tie where they do not."""
    if straight is None or swapped is None:
        return None
    return straight if straight is _SWAPPED[swapped] else Preference.TIE
