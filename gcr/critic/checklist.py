"""A request as a checklist of yes/no questions, read from replies and made once for each request.

A critic takes the request apart into questions of which some only make sense when others are
answered with yes, as Davidsonian Scene Graphs do (Cho et al., 2024). It then answers each of them
for each image, and `scoring` computes the score from the probabilities of "yes" (VQAScore, Lin et
al., 2024): no number in it was written by a model.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from gcr.core.records import Requirement
from gcr.critic.thoughts import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gcr.core.records import Request

MOST = 24
"""Questions of a checklist, at most: a critic that writes more is repeating itself."""


_LINE = re.compile(
    r"""[\s|*-]*+ (?P<number>\d++) [.):\s]*+ \| (?P<kind>[^|?]*+) \| (?P<needs>[^|?]*+) \|
    (?P<question>[^|]*\?) [\s|*]*+""",
    re.VERBOSE,
)


def read(text: str) -> tuple[Requirement, ...]:
    """Read a checklist from a reply: lines of `number | kind | needs | question?`.

    needs: numbers of earlier lines. Lines of another form are remarks; a question asked twice is
    asked once; what the critic only thought counts for nothing. Empty where there is no such line.
    """
    requirements: list[Requirement] = []
    places: dict[str, int] = {}  # by the number that the critic gave
    for line in answer(text).splitlines():
        match = _LINE.fullmatch(line)
        if match is None or len(requirements) == MOST:
            continue
        question = " ".join(match["question"].split())
        known = [r.question.casefold() for r in requirements]
        if question.casefold() in known:
            places[match["number"]] = known.index(question.casefold())
            continue
        needs = [places[n] for n in re.findall(r"\d+", match["needs"]) if n in places]
        places[match["number"]] = len(requirements)
        requirements.append(
            Requirement(question, match["kind"].strip().lower(), tuple(dict.fromkeys(needs)))
        )
    return tuple(requirements)


class Checklists:
    """The checklist of each request, made once.

    A request that brings its checklist along, from another process or before an interruption,
    keeps it; so do others of the same words.
    """

    def __init__(self) -> None:
        self._made: dict[Request, tuple[Requirement, ...]] = {}  # by the request without one

    def of(
        self,
        requests: Sequence[Request],
        take_apart: Callable[[Sequence[Request]], Sequence[tuple[Requirement, ...]]],
    ) -> list[tuple[Requirement, ...]]:
        """The checklist of each request. take_apart: makes those that are new."""
        bare = [replace(request, checklist=()) for request in requests]
        for key, request in zip(bare, requests, strict=True):
            if request.checklist:
                self._made.setdefault(key, request.checklist)
        new = [key for key in dict.fromkeys(bare) if key not in self._made]
        if new:
            self._made.update(zip(new, take_apart(new), strict=True))
        return [r.checklist or self._made[key] for r, key in zip(requests, bare, strict=True)]
