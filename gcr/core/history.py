"""What was tried in a run, in words for the critic that rewrites the prompt; what no image met.

A critique sees one image. Over a run, prompts come back that failed before, and what one rewrite
mended the next one breaks. So the rewriter is told of the prompts and of what came of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gcr.core.phrases import count, fact
from gcr.core.ranking import parents, ranked

if TYPE_CHECKING:
    from gcr.core.records import Attempt, Critique, Remark, Requirement, Run

MOST = 8
"""Prompts that are told of: the best ones. More would make the critic slow, and hide these."""


def describe(run: Run) -> str:
    """The prompts of a run in the order they were tried, each with its best image's critique; of
    the image to go on from also what it got right and must stay. Then the user's remarks.

    After a branch nothing is told of the rounds that it leaves aside.
    """
    by_prompt: dict[str, list[Attempt]] = {}
    for attempt in run.line.attempts:
        by_prompt.setdefault(attempt.candidate.prompt, []).append(attempt)
    first = next(iter(parents(run)), None)
    tops = [first if first and first in same else ranked(same)[0] for same in by_prompt.values()]
    shown = sorted(ranked(tops), key=lambda top: top != first)[:MOST]
    entries = [
        _entry(number, top, len(by_prompt[top.candidate.prompt]), best=top == first)
        for number, top in enumerate((top for top in tops if top in shown), 1)
    ]
    return "\n\n".join([*entries, *map(_remark, run.remarks)])


def _remark(remark: Remark) -> str:
    return f"The user, after {count(remark.after, 'round')}: {' '.join(remark.text.split())}"


def _entry(number: int, top: Attempt, images: int, *, best: bool) -> str:
    critique = top.critique
    score = "no score" if top.score is None else f"{top.score:.2f} of 1"
    of = f", the best of {images} images" if images > 1 else ""
    aspects = [f"{a.aspect} {a.score:g}" for a in critique.aspects if a.score is not None]
    met = passed(critique) if best else []
    lines = [
        f"{number}. {top.candidate.prompt}",
        f"   Result: {', '.join([score + of, *aspects])}",
        *(f"   Met, must stay: {requirement.question}" for requirement in met),
        *(f"   Not met: {requirement.question}" for requirement in failed(critique)),
        *(f"   A program checked: {fact(each)}" for each in critique.facts),
        *(
            f"   {' '.join(words.split())}"
            for words in (critique.summary, critique.advice)
            if words
        ),
    ]
    if top.candidate.negative:
        lines.insert(1, f"   Without: {top.candidate.negative}")
    return "\n".join(lines)


# What the answers to a checklist say

MET = 0.5
"""The chance of "yes" from which a requirement counts as met."""


def failed(critique: Critique) -> list[Requirement]:
    """The requirements that an image does not meet, without those that need a failed one."""
    return [requirement for requirement, is_met in _sensible(critique) if not is_met]


def passed(critique: Critique) -> list[Requirement]:
    """The requirements that an image meets, without those that need a failed one."""
    return [requirement for requirement, is_met in _sensible(critique) if is_met]


def _sensible(critique: Critique) -> list[tuple[Requirement, bool]]:
    """The requirements that make sense, as what they need is met, and whether they are met."""
    every = critique.requirements
    met = [(r.chance or 0.0) >= MET for r in every]
    return [
        (requirement, is_met)
        for requirement, is_met in zip(every, met, strict=True)
        if all(met[i] for i in requirement.needs)
    ]


PROMPTS = 2
IMAGES = 4
"""How much must have been tried before failing says more than bad luck."""


class _Answer(NamedTuple):
    """A requirement as it was answered for one image. needs: the questions of those it needs."""

    requirement: Requirement
    needs: tuple[str, ...]
    prompt: str

    @property
    def chance(self) -> float:
        return self.requirement.chance or 0.0


def never_met(run: Run) -> list[Requirement]:
    """The requirements that no image of the run meets, each with the best chance it came to.

    Only where scores come from a checklist, and for what was tried often enough. One that needs
    another of them is left out: of what is not there, nothing else can be right.
    """
    # By their questions: a run of old may hold checklists of several lengths.
    answers: dict[str, list[_Answer]] = {}
    for attempt in run.attempts:
        every = attempt.critique.requirements
        for requirement in every:
            needs = tuple(every[i].question for i in requirement.needs)
            answer = _Answer(requirement, needs, attempt.candidate.prompt)
            answers.setdefault(requirement.question, []).append(answer)
    best = {question: max(tried, key=lambda a: a.chance) for question, tried in answers.items()}
    failed = {question for question, answer in best.items() if answer.chance < MET}
    return [
        best[question].requirement
        for question, tried in answers.items()
        if question in failed
        and len(tried) >= IMAGES
        and len({answer.prompt for answer in tried}) >= PROMPTS
        and not failed.intersection(best[question].needs)
    ]
