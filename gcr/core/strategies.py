"""What to draw next. Pure and repeatable: the same run always gets the same proposal.

A strategy is chosen by name with `--strategy`. Each draws the raw request in round 0, its first
image with the user's own seed: that image is the baseline, whatever comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from gcr.core.ranking import highest, ranked
from gcr.core.records import Attempt, Candidate, Run, image_name


@dataclass(frozen=True, slots=True)
class _Strategy:
    """What all strategies share.

    images: how many to draw each round. seed: of the first image.
    """

    images: int
    seed: int

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")

    uses_history: ClassVar[bool] = True
    """Whether it draws what the critic words with all in view that was tried."""

    def _fresh(self, run: Run, prompts: list[str]) -> tuple[Candidate, ...]:
        """A round of these prompts in turn, each image on a seed that the run has not used."""
        first = self.seed + len(run.attempts)
        these = (prompts[i % len(prompts)] for i in range(self.images))
        return tuple(
            Candidate(prompt, first + i, _negative(run, prompt)) for i, prompt in enumerate(these)
        )

    def later(self) -> Candidate:
        """A candidate of the kind that rounds after the first hold, to ask a generator about."""
        return Candidate("", self.seed)


@dataclass(frozen=True, slots=True)
class Refine(_Strategy):
    """Refinement with several seeds a round: the critic's rewrites, each on noise of its own.

    Wording and luck both decide what an image shows, so a round varies both, as ReflectionFlow
    does (Zhuo et al., 2025).
    again: how many images of a round draw the best prompt so far on a fresh seed.
    """

    again: int = 0

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        if not run.rounds:
            return self._fresh(run, [run.request.prompt])
        rewrites = self._rewrites(run)
        new = [rewrites[i % len(rewrites)] for i in range(self.images - self.again)]
        return self._fresh(run, new + [ranked(run.attempts)[0].candidate.prompt] * self.again)

    def _rewrites(self, run: Run) -> list[str]:
        """The prompts worth drawing, most promising first; never empty.

        New ones go first: what the critic wrote knowing all that was tried, then the best
        attempt's rewrite, then the others'. With nothing new to say, known rewrites get fresh
        seeds; with no rewrite at all, the best prompt so far does.
        """
        attempts = ranked(run.attempts)
        written = [_latest(run), *(attempt.critique.refined for attempt in attempts)]
        rewrites = list(dict.fromkeys(prompt for prompt in written if prompt))
        drawn = {a.candidate.prompt for a in attempts}
        return [r for r in rewrites if r not in drawn] or rewrites or [attempts[0].candidate.prompt]


class BestOfN(_Strategy):
    """The request as it is on many seeds: what refinement has to beat.

    Sampling more and choosing with a judge is the simplest way to spend compute at inference
    (Ma et al., 2025, "Inference-time scaling for diffusion models").
    """

    uses_history = False

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        return self._fresh(run, [run.request.prompt])


class Rewrite(_Strategy):
    """Each image's prompt rewritten again and again on a seed of its own.

    With one image a round this is the loop of RationalRewards: nothing but the wording moves.
    Where there is no rewrite, or one that was drawn on this seed before, the seed moves on.
    """

    uses_history = False

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


@dataclass(frozen=True, slots=True)
class Reflect(_Strategy):
    """The best image so far, noised and denoised again under the prompt its critic asks for.

    What is right about it has a chance to stay. After the reflective denoising of SRRL (Pan et
    al., 2025); noised by the scheduler, as in SDEdit (Meng et al., 2022), and not by the model.
    strength: how much of the image gives way to noise, 0-1. On the embedded pair 0.8 and 0.9 gain
        as much as `refine`; at 0.7 and below what is wrong stays too.
    """

    strength: float = 0.8

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        parent = highest(run.attempts)
        if parent is None:
            return self._fresh(run, [run.request.prompt])
        return tuple(
            replace(fresh, start=parent.image, strength=self.strength)
            for fresh in self._fresh(run, [_improved(run, parent)])
        )

    def later(self) -> Candidate:
        return Candidate("", self.seed, start=image_name(0, 0), strength=self.strength)


@dataclass(frozen=True, slots=True)
class Evolve(_Strategy):
    """The noise of the best image so far, mutated, under the prompt its critic asks for.

    Noise near to good noise is good, as EvoSearch finds (He et al., 2025), which also mutates
    states of the denoising; here only its start, which every pipeline draws from a seed.
    strength: how much of the noise gives way to new noise, 0-1. On the embedded pair it matters
        little; under the parent's own prompt, as in EvoSearch, there would be next to no gain.
    """

    strength: float = 0.8

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        parent = highest(run.attempts)
        if parent is None:
            return self._fresh(run, [run.request.prompt])
        seed, before = parent.candidate.seed, parent.candidate.mutations
        return tuple(
            replace(fresh, seed=seed, mutations=(*before, fresh.seed), strength=self.strength)
            for fresh in self._fresh(run, [_improved(run, parent)])
        )

    def later(self) -> Candidate:
        return Candidate("", self.seed, mutations=(self.seed,), strength=self.strength)


class BySeed:
    """One strategy for runs that differ in their seeds: each run's is among its settings."""

    def __init__(self, strategy: Named) -> None:
        self._strategy = strategy

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        seed = int(str(run.settings["seed"]))
        return replace(self._strategy, seed=seed).propose(run)


def _improved(run: Run, attempt: Attempt) -> str:
    """The prompt that the critic would draw instead, or the same where it knows no better."""
    return _latest(run) or attempt.critique.refined or attempt.candidate.prompt


def _latest(run: Run) -> str | None:
    """What the critic wrote after the last round, knowing all that was tried."""
    wording = run.rounds[-1].wording
    return wording.prompt if wording else None


def _negative(run: Run, prompt: str) -> str:
    """The user's negative prompt, and what the critic added for this prompt."""
    wordings = [round_.wording for round_ in run.rounds if round_.wording]
    added = next((w.negative for w in wordings if w.prompt == prompt), "")
    return ", ".join(filter(None, (run.request.negative, added)))


Named = Refine | BestOfN | Rewrite | Reflect | Evolve

STRATEGIES: Mapping[str, type[Named]] = MappingProxyType(
    {
        "refine": Refine,
        "best-of-n": BestOfN,
        "rewrite": Rewrite,
        "reflect": Reflect,
        "evolve": Evolve,
    }
)


def load(name: str, images: int, seed: int, strength: float | None = None) -> Named:
    """The strategy of this name; a KeyError where there is none.

    strength: for those that go on from an image; None leaves it to each.
    """
    kind = STRATEGIES[name]
    if strength is not None and issubclass(kind, Reflect | Evolve):
        return kind(images, seed, strength)
    return kind(images, seed)
