"""Replies of critics, bent, cut and robbed of their scores, through all that reads replies."""

from __future__ import annotations

import random
import re
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.reliability import ROOT, Limits, Result, Tally, in_children

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mutated import Mutator

    from gcr.critic.rubric import Rubric

REPLIES = 50_000
TOGETHER = 100
Form = tuple["Rubric", "Callable[[], str]"]


def forms(rng: random.Random, mutator: Mutator) -> dict[str, Form]:
    """The forms that critics write, by name: the rubric that reads one, and what makes one."""
    import test_trained_replies as trained
    from replies import RUBRIC

    from gcr.critic import rubric
    from gcr.pocket import world
    from gcr.pocket.truth import look
    from pocket_training import replies as pocket
    from pocket_training.captions import describe

    def of_pocket() -> str:
        scene = world.sample(rng, world.TRAINING_PAIRS)
        shown = scene if rng.random() < 0.5 else world.sample(rng, world.TRAINING_PAIRS)
        rewrite = pocket.Rewrite(rng.choice([*pocket.TEMPLATES]))
        return pocket.write(describe(scene), look(world.draw(shown)), rewrite)

    def of_trained(rules: Rubric, cases: list[trained.Single]) -> str:
        return trained.drawn(rng.choice(cases), rules.aspects)

    return {
        "every form known": (RUBRIC, mutator.whole),
        "RationalRewards": (trained.T2I, partial(of_trained, trained.T2I, trained.T2I_CASES)),
        "RationalRewards, edits": (
            trained.EDIT,
            partial(of_trained, trained.EDIT, trained.EDIT_CASES),
        ),
        "the embedded critic": (rubric.load("pocket"), of_pocket),
    }


def attempt(case: tuple[int, int]) -> list[Result]:
    """Make and read some replies. case: seed, number."""
    from mutated import Mutator

    seed, number = case
    rng = random.Random(f"{seed} replies {number}")
    mutator = Mutator(rng)
    made = forms(rng, mutator)
    results: list[Result] = []
    for index in range(TOGETHER):
        name = [*made][index % len(made)]
        rules, make = made[name]
        text = make()
        try:
            kind, outcome = _read(text, rules, rng, mutator)
        except Exception:  # noqa: BLE001 - the reader must raise nothing
            trace = traceback.format_exc(limit=-2)
            results.append((name, "", f"seed {seed}, number {number}, {index}: {trace}"))
        else:
            results.append((f"{name}, {kind}", outcome, ""))
    return results


SCORE = re.compile(r"(## Score: )([1-4](?:\.\d+)?)(?=\s*$)", re.MULTILINE)


def _read(text: str, rules: Rubric, rng: random.Random, mutator: Mutator) -> tuple[str, str]:
    """Bend a reply in one way and check how it is read; raises where a promise is broken."""
    from mutated import check
    from replies import RUBRIC

    from gcr.critic.reply import read

    before = read(text, rules)
    scores = {each.aspect: each.score for each in before.aspects}
    way = rng.random()
    numbers = list(SCORE.finditer(text))
    if way < 0.15 and len(text) > 1:
        # What is not there yet must not be guessed from what is. (A whole that contradicts itself
        # further down has no score; what is cut off before that may have one.)
        cut = text[: rng.randrange(len(text))]
        critique = check(cut, rules, cut_off=True)
        for each in critique.aspects:
            whole = scores[each.aspect]
            if None not in (each.score, whole) and each.score != whole:
                raise AssertionError(f"{each.aspect} is {each.score}, whole {scores} in {cut!r}")
        return "cut off", "scored" if critique.overall is not None else "no score"
    if way < 0.3 and numbers and rules is not RUBRIC:  # whose words have numbers of their own
        number = rng.choice(numbers)
        instead = rng.choice(["", "?", "high", "as above", "n.a.?", "7", "0.5/10", "<number>"])
        text = text[: number.start(2)] + instead + text[number.end(2) :]
        critique = check(text, rules, cut_off=False)
        lost = [a.aspect for a in critique.aspects if a.score is None]
        if (
            len(lost) <= sum(score is None for score in scores.values())
            and rules.verdicts == "clear"
        ):
            raise AssertionError(f"a score without its number: {critique.aspects} in {text!r}")
        return "a number gone", "scored" if critique.overall is not None else "no score"
    for _ in range(rng.choice([1, 1, 2, 4, 12])):
        text = mutator.bent(text)
    critique = check(text, rules, cut_off=rng.random() < 0.2)
    return "bent", "scored" if critique.overall is not None else "no score"


def run(place: Path, seed: int, scale: float, tally: Tally) -> None:  # noqa: ARG001 - no files
    sys.path.insert(0, str(ROOT / "tests" / "critic"))
    count = max(1, round(REPLIES * scale / TOGETHER))
    cases = [(seed, number) for number in range(count)]
    in_children(cases, attempt, tally, Limits(processor=120, clock=300))
