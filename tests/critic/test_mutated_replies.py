"""Whatever a critic writes: no exception, no invented score, and no long wait."""

from __future__ import annotations

import random
import time

import pytest
from mutated import Mutator, check
from replies import RUBRIC


def run(seed: int, replies: int) -> int:
    """Check so many replies; the number of them that had a score."""
    rng = random.Random(seed)
    mutator = Mutator(rng)
    scored = 0
    for index in range(replies):
        text = mutator.reply()
        started = time.process_time()
        try:
            scored += check(text, RUBRIC, cut_off=rng.random() < 0.2).overall is not None
        except Exception as error:
            error.add_note(f"reply {index} of seed {seed}: {text!r}")
            raise
        # All readers together, and most replies take a thousandth of it.
        assert time.process_time() - started < 1, f"reply {index} of seed {seed}: {text!r}"
    return scored


def test_bent_replies() -> None:
    assert run(1, 2000) > 200


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_fifty_thousand_bent_replies(seed: int) -> None:
    assert run(seed, 10_000) > 1000
