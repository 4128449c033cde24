"""A critic in front of another: it passes on whatever it does not do in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import (
        Critic,
        Critique,
        Objection,
        Preference,
        Rejected,
        Request,
        Requirement,
        Run,
        Wording,
    )


@dataclass(frozen=True, slots=True)
class Relay:
    """critic: the one behind."""

    critic: Critic

    def can_overlap(self) -> bool:
        return self.critic.can_overlap()

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        return self.critic.judge(requests, images, sources)

    def rewrite(self, objections: Sequence[Objection]) -> list[str | None]:
        return self.critic.rewrite(objections)

    def reword(
        self, runs: Sequence[Run], rejected: Sequence[Rejected] = ()
    ) -> list[Wording | None]:
        return self.critic.reword(runs, rejected)

    def answer(self, images: Sequence[Image], questions: Sequence[str]) -> list[float]:
        return self.critic.answer(images, questions)

    def take_apart(self, requests: Sequence[Request]) -> list[tuple[Requirement, ...]]:
        return self.critic.take_apart(requests)

    def compare(
        self, requests: Sequence[Request], firsts: Sequence[Image], seconds: Sequence[Image]
    ) -> list[Preference | None]:
        return self.critic.compare(requests, firsts, seconds)
