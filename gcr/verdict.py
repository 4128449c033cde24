"""What a model cannot draw: a requirement that failed on every prompt and every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.checklist import MET

if TYPE_CHECKING:
    from gcr.records import Requirement, Run

PROMPTS = 2
IMAGES = 4
"""How much must have been tried before failing says more than bad luck."""


def never_met(run: Run) -> list[Requirement]:
    """The requirements that no image of the run meets, each with the best chance it came to.

    Only where scores come from a checklist, and enough was tried. One that needs another of them
    is left out: of what is not there, nothing else can be right.
    """
    lists = [a.critique.requirements for a in run.attempts if a.critique.requirements]
    prompts = {a.candidate.prompt for a in run.attempts if a.critique.requirements}
    if len(lists) < IMAGES or len(prompts) < PROMPTS:
        return []
    best = [max(tried, key=lambda r: r.chance or 0.0) for tried in zip(*lists, strict=True)]
    failed = [(r.chance or 0.0) < MET for r in best]
    return [
        requirement
        for requirement, has_failed in zip(best, failed, strict=True)
        if has_failed and not any(failed[i] for i in requirement.needs)
    ]
