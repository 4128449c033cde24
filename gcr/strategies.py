"""What to draw next. Pure and repeatable: the same run always gets the same proposal."""

from __future__ import annotations

from dataclasses import dataclass

from gcr.loop import ranked
from gcr.records import Candidate, Run


@dataclass(frozen=True, slots=True)
class Refine:
    """Refinement with several seeds a round: the critic's rewrites, each on noise of its own.

    Wording and luck both decide what an image shows, so a round varies both. Round 0 draws the
    raw request; its first image has the user's own seed and is the baseline.

    images: how many to draw each round.
    seed: of the first image; later images count on from it, so no seed is used twice in a run.
    """

    images: int
    seed: int

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        prompts = self._prompts(run) if run.rounds else [run.request.prompt]
        first = self.seed + len(run.attempts)
        return tuple(
            Candidate(prompts[i % len(prompts)], first + i, run.request.negative)
            for i in range(self.images)
        )

    def _prompts(self, run: Run) -> list[str]:
        """The prompts worth drawing, most promising first; never empty.

        New rewrites go first, the best attempt's before all. With nothing new to say, known
        rewrites get fresh seeds; with no rewrite at all, the best prompt so far does.
        """
        attempts = ranked(run)
        rewrites = list(dict.fromkeys(a.critique.refined for a in attempts if a.critique.refined))
        drawn = {a.candidate.prompt for a in attempts}
        return [r for r in rewrites if r not in drawn] or rewrites or [attempts[0].candidate.prompt]
