"""What was tried in a run, in words for the critic that rewrites the prompt.

A critique sees one image. Over a run, prompts come back that failed before, and what one rewrite
mended the next one breaks. So the rewriter is told of the prompts and of what came of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcr.core.phrases import count, fact
from gcr.core.ranking import parents, ranked
from gcr.core.requirements import failed, passed

if TYPE_CHECKING:
    from gcr.core.records import Attempt, Remark, Run

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
    first = parents(run)[0]
    tops = [first if first in same else ranked(same)[0] for same in by_prompt.values()]
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
