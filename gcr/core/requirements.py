"""What the answers to a checklist say: what an image fails, and what no image of a run meets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gcr.core.records import Critique, Requirement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcr.core.records import Run

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


def never_met(run: Run) -> list[Requirement]:
    """The requirements that no image of the run meets, each with the best chance it came to.

    Only where scores come from a checklist, and for what was tried often enough. One that needs
    another of them is left out: of what is not there, nothing else can be right.
    """
    answers = _answers(run)
    best = {of: max(tried, key=_chance) for of, tried in answers.items()}
    failed = {of for of, answer in best.items() if _chance(answer) < MET}
    return [
        best[of].requirement
        for of in best
        if of in failed and _often(answers[of]) and not failed.intersection(best[of].needs)
    ]


class _Answer(NamedTuple):
    """A requirement as it was answered for one image. needs: the questions of those it needs."""

    requirement: Requirement
    needs: tuple[str, ...]
    prompt: str


def _answers(run: Run) -> dict[str, list[_Answer]]:
    """All answers, by their questions: a run of old may hold checklists of several lengths."""
    answers: dict[str, list[_Answer]] = {}
    for attempt in run.attempts:
        every = attempt.critique.requirements
        for requirement in every:
            needs = tuple(every[i].question for i in requirement.needs)
            answer = _Answer(requirement, needs, attempt.candidate.prompt)
            answers.setdefault(requirement.question, []).append(answer)
    return answers


def _chance(answer: _Answer) -> float:
    return answer.requirement.chance or 0.0


def _often(tried: Sequence[_Answer]) -> bool:
    return len(tried) >= IMAGES and len({answer.prompt for answer in tried}) >= PROMPTS
