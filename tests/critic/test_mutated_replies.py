"""Whatever a critic writes: no exception, no invented score, and no long wait."""

from __future__ import annotations

import random
import re
import time

import pytest
from mutated import Mutator
from replies import RUBRIC

from gcr.core.guards import complaint, kept
from gcr.core.plaintext import plain
from gcr.core.records import Critique, Request
from gcr.critic import checklist, pairwise
from gcr.critic.reply import places, read, read_refined, read_wording
from gcr.critic.scoring import expected
from gcr.critic.speaker import Number, Reply

REQUEST = Request("a sign \"DON'T PANIC\" and a 'red' cat", keep=("cat",))
NUMBER = re.compile(r"[1-4](?:\.[0-9]+)?")


def check(text: str, *, cut_off: bool) -> Critique:
    """Have every reader read a reply. Asserts that each score stands in it, where it is told to."""
    critique = read(text, RUBRIC, cut_off=cut_off)
    at = places(text, RUBRIC, cut_off=cut_off)
    for aspect in critique.aspects:
        if aspect.score is not None:
            written = NUMBER.match(text, at[aspect.aspect])
            assert written is not None
            assert float(written[0]) == aspect.score
            assert 1 <= aspect.score <= 4
    assert (critique.overall is None) == bool(critique.problem)
    assert critique.overall is None or 0 <= critique.overall <= 1
    numbers = tuple(Number(m.start(), {1.0: 0.5, 4.0: 0.5}) for m in NUMBER.finditer(text))
    soft = expected(critique, Reply(text, numbers=numbers), at)
    assert [a.score is None for a in soft.aspects] == [a.score is None for a in critique.aspects]
    wording = read_wording(text, RUBRIC, cut_off=cut_off)
    for prompt in (critique.refined, read_refined(text, RUBRIC), wording.prompt, wording.negative):
        assert prompt is None or prompt == " ".join(prompt.split())
        assert (
            prompt is None or prompt.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", prompt)
        )
        complaint(REQUEST, prompt or "", lambda _: "")
    for rules in (RUBRIC.model_copy(update={"verdicts": v}) for v in ("leading", "clamped")):
        trained = read(text, rules, cut_off=cut_off)
        assert all(a.score is None or 1 <= a.score <= 4 for a in trained.aspects)
        assert (trained.overall is None) == bool(trained.problem)
        for aspect, place in places(text, rules, cut_off=cut_off).items():
            score = next(a.score for a in trained.aspects if a.aspect == aspect)
            written = NUMBER.match(text, place)
            assert written is not None
            assert float(written[0]) == score
    kept(Request(text))
    pairwise.read(text)
    assert all(r.question.endswith("?") for r in checklist.read(text))
    plain(text)
    return critique


def run(seed: int, replies: int) -> int:
    """Check so many replies; the number of them that had a score."""
    rng = random.Random(seed)
    mutator = Mutator(rng)
    scored = 0
    for index in range(replies):
        text = mutator.reply()
        started = time.process_time()
        try:
            scored += check(text, cut_off=rng.random() < 0.2).overall is not None
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
