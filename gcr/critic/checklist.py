"""A request as a checklist of yes/no questions, read from replies and answered for images.

A critic takes the request apart once, into questions of which some only make sense when others are
answered with yes, as Davidsonian Scene Graphs do (Cho et al., 2024). It then answers each of them
for each image, and the score is computed from the probabilities of "yes" (VQAScore, Lin et al.,
2024): no number in it was written by a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gcr.core.checklist import score
from gcr.core.records import Critique, Requirement
from gcr.core.relay import Relay
from gcr.critic.thoughts import answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Request

MOST = 24
"""Questions that are asked of a request at most; a list that goes on longer has lost its way."""


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
    found: list[Requirement] = []
    places: dict[str, int] = {}  # by the number that the critic gave
    for line in answer(text).splitlines():
        match = _LINE.fullmatch(line)
        if match is None or len(found) == MOST:
            continue
        question = " ".join(match["question"].split())
        known = [r.question.casefold() for r in found]
        if question.casefold() in known:
            places[match["number"]] = known.index(question.casefold())
            continue
        needs = [places[n] for n in re.findall(r"\d+", match["needs"]) if n in places]
        places[match["number"]] = len(found)
        found.append(
            Requirement(question, match["kind"].strip().lower(), tuple(dict.fromkeys(needs)))
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ByChecklist(Relay):
    """A critic whose scores come from checklists. Its words and rewrites stay its own.

    lists: of requests without one, as they were taken apart. A request that brings its checklist
    along, from another process or before an interruption, is held against that one.
    """

    lists: dict[Request, tuple[Requirement, ...]] = field(default_factory=dict)

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        critiques = self.critic.judge(requests, images, sources)
        lists = self._lists(requests)
        asked = [(i, requirement) for i, own in enumerate(lists) for requirement in own]
        chances = self.critic.answer(
            [images[i] for i, _ in asked], [requirement.question for _, requirement in asked]
        )
        answered: list[list[Requirement]] = [[] for _ in images]
        for (i, requirement), chance in zip(asked, chances, strict=True):
            answered[i].append(replace(requirement, chance=chance))
        return [
            _scored(critique, tuple(found))
            for critique, found in zip(critiques, answered, strict=True)
        ]

    def _lists(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        """The checklist of each request; those that nobody has yet are made, each once."""
        bare = [replace(request, checklist=()) for request in requests]
        for words, request in zip(bare, requests, strict=True):
            if request.checklist:
                self.lists.setdefault(words, request.checklist)
        new = [words for words in dict.fromkeys(bare) if words not in self.lists]
        if new:
            self.lists.update(zip(new, self.critic.take_apart(new), strict=True))
        return [r.checklist or self.lists[words] for r, words in zip(requests, bare, strict=True)]


def _scored(critique: Critique, requirements: tuple[Requirement, ...]) -> Critique:
    if not requirements:
        problem = "the critic could not take the request apart into questions"
        return replace(critique, overall=None, problem=problem)
    overall = score(requirements)
    return replace(critique, overall=overall, problem="", requirements=requirements)
