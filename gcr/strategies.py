"""What to draw next. Pure and repeatable: the same run always gets the same proposal.

A strategy is chosen by name with `--strategy`. Each draws the raw request in round 0, its first
image with the user's own seed: that image is the baseline, whatever comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from gcr.loop import ranked
from gcr.records import Candidate, Run, Strategy


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What all strategies share.

    images: how many to draw each round. seed: of the first image.
    """

    images: int
    seed: int

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")

    def _fresh(self, run: Run, prompts: list[str]) -> tuple[Candidate, ...]:
        """A round of these prompts in turn, each image on a seed that the run has not used."""
        first = self.seed + len(run.attempts)
        return tuple(
            Candidate(prompts[i % len(prompts)], first + i, run.request.negative)
            for i in range(self.images)
        )


class Refine(_Drawing):
    """Refinement with several seeds a round: the critic's rewrites, each on noise of its own.

    Wording and luck both decide what an image shows, so a round varies both, as ReflectionFlow
    does (Zhuo et al., 2025).
    """

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        return self._fresh(run, self._prompts(run) if run.rounds else [run.request.prompt])

    def _prompts(self, run: Run) -> list[str]:
        """The prompts worth drawing, most promising first; never empty.

        New rewrites go first, the best attempt's before all. With nothing new to say, known
        rewrites get fresh seeds; with no rewrite at all, the best prompt so far does.
        """
        attempts = ranked(run)
        rewrites = list(dict.fromkeys(a.critique.refined for a in attempts if a.critique.refined))
        drawn = {a.candidate.prompt for a in attempts}
        return [r for r in rewrites if r not in drawn] or rewrites or [attempts[0].candidate.prompt]


class BestOfN(_Drawing):
    """The request as it is on many seeds: what refinement has to beat.

    Sampling more and choosing with a judge is the simplest way to spend compute at inference
    (Ma et al., 2025, "Inference-time scaling for diffusion models").
    """

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        return self._fresh(run, [run.request.prompt])


class Rewrite(_Drawing):
    """Each image's prompt rewritten again and again on a seed of its own.

    With one image a round this is the loop of RationalRewards: nothing but the wording moves.
    Where there is no rewrite, or one that was drawn on this seed before, the seed moves on.
    """

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        if not run.rounds:
            return self._fresh(run, [run.request.prompt])
        prompts = [a.critique.refined or a.candidate.prompt for a in run.rounds[-1].attempts]
        drawn = {attempt.candidate for attempt in run.attempts}
        same = (
            replace(attempt.candidate, prompt=prompt)
            for attempt, prompt in zip(run.rounds[-1].attempts, prompts, strict=True)
        )
        return tuple(
            fresh if candidate in drawn else candidate
            for candidate, fresh in zip(same, self._fresh(run, prompts), strict=False)
        )


STRATEGIES: Mapping[str, type[Refine | BestOfN | Rewrite]] = MappingProxyType(
    {"refine": Refine, "best-of-n": BestOfN, "rewrite": Rewrite}
)


def load(name: str, images: int, seed: int) -> Strategy:
    """The strategy of this name; a KeyError where there is none."""
    return STRATEGIES[name](images, seed)
