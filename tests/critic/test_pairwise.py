"""Two images side by side: how a verdict is read, and that the order does not decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes import FakeCritic, paint, seed_of

from gcr.core.records import Preference, Request
from gcr.critic import pairwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

FIRST, SECOND, TIE = Preference


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("The first has two cats, the second one.\nBetter: first", FIRST),
        ("**Better:** second", SECOND),
        ("Better: Second.", SECOND),
        ("Better: neither", TIE),
        ("Better: both", TIE),
        ("better: image 2", SECOND),
        ("Verdict: the first image", FIRST),
        ("Better is the second", SECOND),
        ("Better: first? No, look again.\nBetter: second", SECOND),
        ("The first image is better than the second.", None),
        ("I cannot say.", None),
        ("Better: 10", None),
        ("## Winner: Image A", FIRST),
        ("**Winner:** Image B", SECOND),
        ("Winner: B.", SECOND),
        ("## Winner: It's a tie", TIE),
        ("## Winner: It’s a tie", TIE),
        ("Winner: a tie", TIE),
        ("Overall winner: Image A", FIRST),
        ("Better: a cat", None),
        ("## Winner: N/A", None),
        ("## Score A: 3.5\n## Score B: 3.0", FIRST),
        ("Score for Image A: 3\nScore for Image B: 3.5", SECOND),
        ("<think>\n\n</think>\n\nBetter: second", SECOND),
        ("", None),
    ],
)
def test_the_last_verdict_is_read(text: str, verdict: Preference | None) -> None:
    assert pairwise.read(text) is verdict


class Seeing(FakeCritic):
    """Prefers the image with the higher seed, or always says the same."""

    always: Preference | None = None
    mute = False

    def compare(
        self, requests: Sequence[Request], firsts: Sequence[Image], seconds: Sequence[Image]
    ) -> list[Preference | None]:
        if self.mute:
            return [None for _ in requests]
        return [
            self.always or (FIRST if seed_of(a) > seed_of(b) else SECOND)
            for a, b in zip(firsts, seconds, strict=True)
        ]


def blind(critic: FakeCritic, *pairs: tuple[int, int]) -> list[Preference | None]:
    requests = [Request("a")] * len(pairs)
    firsts, seconds = ([paint(pair[i]) for pair in pairs] for i in (0, 1))
    return pairwise.blind(critic, requests, firsts, seconds)


def test_a_preference_that_survives_the_exchange_counts() -> None:
    assert blind(Seeing({}), (1, 2)) == [SECOND]
    assert blind(Seeing({}), (3, 2)) == [FIRST]
    assert blind(Seeing({}), (1, 2), (3, 2)) == [SECOND, FIRST]


@pytest.mark.parametrize("always", [FIRST, SECOND, TIE])
def test_a_judge_that_looks_at_the_order_decides_nothing(always: Preference) -> None:
    critic = Seeing({})
    critic.always = always
    assert blind(critic, (1, 2)) == [TIE]


def test_what_cannot_be_read_is_no_tie() -> None:
    critic = Seeing({})
    critic.mute = True
    assert blind(critic, (1, 2)) == [None]
