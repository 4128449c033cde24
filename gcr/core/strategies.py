"""What to draw next. Pure and repeatable: the same run always gets the same proposal.

A strategy is chosen by name with `--strategy`. Each draws the raw request in round 0, its first
image with the user's own seed: that image is the baseline, whatever comes after. Other
distributions add strategies of their own: see `BaseStrategy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import ClassVar

from gcr.core.ranking import parent as parent_of
from gcr.core.ranking import parents
from gcr.core.records import Attempt, Candidate, Run, image_name
from gcr.errors import GcrError


@dataclass(frozen=True, slots=True)
class BaseStrategy:
    """What all strategies share; a subclass says what a round draws.

    Another distribution adds one with an entry point in the group `gcr.strategies`, whose name is
    the strategy's. A strategy keeps nothing between rounds: all it may go by is the run, or a run
    that is gone on with would draw other images.

    Attributes:
        images: how many to draw each round.
        seed: of the first image.
        uses_history: whether it draws what the critic words with all in view that was tried.
    """

    images: int
    seed: int

    uses_history: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images must be at least 1, not {self.images}")

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        """What to draw next, at least one candidate; what a budget has no room for is left out.

        Where the run has no rounds yet it must be `raw(run)`.
        """
        raise NotImplementedError

    def raw(self, run: Run) -> tuple[Candidate, ...]:
        """Round 0: the request as it is, the first image on the user's own seed."""
        return self.fresh(run, [run.request.prompt])

    def fresh(self, run: Run, prompts: Sequence[str]) -> tuple[Candidate, ...]:
        """A round of these prompts in turn, each image on a seed that the run has not used."""
        first, edits = self.seed + len(run.attempts), _edits(run)
        these = (prompts[i % len(prompts)] for i in range(self.images))
        return tuple(
            Candidate(prompt, first + i, _negative(run, prompt), edits=edits)
            for i, prompt in enumerate(these)
        )

    def later(self) -> Candidate:
        """A candidate of the kind that rounds after the first hold, to ask a generator about."""
        return Candidate("", self.seed)


@dataclass(frozen=True, slots=True)
class Refine(BaseStrategy):
    """Refinement with several seeds a round: the critic's rewrites, each on noise of its own.

    Wording and luck both decide what an image shows, so a round varies both, as ReflectionFlow
    does (Zhuo et al., 2025).
    again: how many images of a round draw the best prompt so far on a fresh seed.
    """

    again: int = 0

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        if not run.rounds:
            return self.raw(run)
        rewrites = self._rewrites(run)
        new = [rewrites[i % len(rewrites)] for i in range(self.images - self.again)]
        first, *others = self.fresh(run, new + [parents(run)[0].candidate.prompt] * self.again)
        if run.base and run.branches_now:
            # A picture that a person goes on from is more than its prompt.
            same = replace(_edited(run, run.base), prompt=first.prompt, negative=first.negative)
            first = first if same in _drawn(run) else same
        return (first, *others)

    def _rewrites(self, run: Run) -> list[str]:
        """The prompts worth drawing, most promising first; never empty.

        New ones go first: what the critic wrote knowing all that was tried, then the best
        attempt's rewrite, then the others'. With nothing new to say, known rewrites get fresh
        seeds; with no rewrite at all, the best prompt so far does.
        """
        attempts = parents(run)
        written = [_latest(run), *(attempt.critique.refined for attempt in attempts)]
        rewrites = list(dict.fromkeys(prompt for prompt in written if prompt))
        drawn = {a.candidate.prompt for a in run.line.attempts}
        return [r for r in rewrites if r not in drawn] or rewrites or [attempts[0].candidate.prompt]


class BestOfN(BaseStrategy):
    """The request as it is on many seeds: what refinement has to beat.

    After a branch it is the prompt of its image. Sampling more and choosing with a judge is the
    simplest way to spend compute at inference (Ma et al., 2025, "Inference-time scaling for
    diffusion models").
    """

    uses_history = False

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        return self.fresh(run, [run.base.candidate.prompt if run.base else run.request.prompt])


class Rewrite(BaseStrategy):
    """Each image's prompt rewritten again and again on a seed of its own.

    With one image a round this is the loop of RationalRewards: nothing but the wording moves.
    Where there is no rewrite, or one that was drawn on this seed before, the seed moves on.
    """

    uses_history = False

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        if not run.rounds:
            return self.raw(run)
        latest, drawn = run.line.rounds[-1].attempts, _drawn(run)
        prompts = [a.critique.refined or a.candidate.prompt for a in latest]
        proposal = list(self.fresh(run, prompts))
        for place, (attempt, prompt) in enumerate(zip(latest, prompts, strict=True)):
            same = replace(_edited(run, attempt), prompt=prompt)
            if place < self.images and same not in drawn:
                proposal[place] = same
        return tuple(proposal)


@dataclass(frozen=True, slots=True)
class Reflect(BaseStrategy):
    """The best image so far, noised and denoised again under the prompt its critic asks for.

    What is right about it has a chance to stay. After the reflective denoising of SRRL (Pan et
    al., 2025); noised by the scheduler, as in SDEdit (Meng et al., 2022), and not by the model.
    strength: how much of the image gives way to noise, 0-1. On the embedded pair 0.8 and 0.9 gain
        as much as `refine`; at 0.7 and below what is wrong stays too.
    """

    strength: float = 0.8

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        parent = parent_of(run)
        if parent is None:
            return self.raw(run)
        return tuple(
            replace(fresh, start=parent.image, strength=self.strength)
            for fresh in self.fresh(run, [improved(run, parent)])
        )

    def later(self) -> Candidate:
        return Candidate("", self.seed, start=image_name(0, 0), strength=self.strength)


@dataclass(frozen=True, slots=True)
class Evolve(BaseStrategy):
    """The noise of the best image so far, mutated, under the prompt its critic asks for.

    Noise near to good noise is good, as EvoSearch finds (He et al., 2025), which also mutates
    states of the denoising; here only its start, which every pipeline draws from a seed.
    strength: how much of the noise gives way to new noise, 0-1. On the embedded pair it matters
        little; under the parent's own prompt, as in EvoSearch, there would be next to no gain.
    """

    strength: float = 0.8

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        parent = parent_of(run)
        if parent is None:
            return self.raw(run)
        seed, before = parent.candidate.seed, parent.candidate.mutations
        return tuple(
            replace(fresh, seed=seed, mutations=(*before, fresh.seed), strength=self.strength)
            for fresh in self.fresh(run, [improved(run, parent)])
        )

    def later(self) -> Candidate:
        return Candidate("", self.seed, mutations=(self.seed,), strength=self.strength)


class BySeed:
    """One strategy for runs that differ in their seeds: each run's is among its settings.

    It holds strategies to what `BaseStrategy` says of them.
    """

    def __init__(self, strategy: BaseStrategy) -> None:
        self._strategy = strategy

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        """Raises GcrError where a strategy that is not gcr's own fails, or proposes nothing."""
        strategy = replace(self._strategy, seed=int(str(run.settings["seed"])))
        if type(strategy) in STRATEGIES.values():
            return strategy.propose(run)
        try:
            proposal = strategy.propose(run)
        except Exception as error:
            raise _at_fault(strategy, f"failed: {type(error).__name__}: {error}") from error
        if not isinstance(proposal, tuple) or not all(isinstance(c, Candidate) for c in proposal):
            raise _at_fault(strategy, "proposed what is no tuple of candidates")
        if not proposal:
            raise _at_fault(strategy, f"proposed nothing to draw in round {len(run.rounds)}")
        if not run.rounds and proposal[:1] != strategy.raw(run)[:1]:
            raise _at_fault(strategy, "does not begin with the request as it is")
        return proposal


def _at_fault(strategy: BaseStrategy, problem: str) -> GcrError:
    name = f"{type(strategy).__module__}.{type(strategy).__qualname__}"
    return GcrError(f"the strategy {name} {problem}", "tell whoever wrote it, or take another")


def improved(run: Run, attempt: Attempt) -> str:
    """The prompt that the critic would draw instead of an attempt's, or the same where it knows no
    better.
    """
    return _latest(run) or attempt.critique.refined or attempt.candidate.prompt


def _latest(run: Run) -> str | None:
    """What the critic wrote after the last round, knowing all that was tried."""
    wording = run.line.rounds[-1].wording
    return wording.prompt if wording else None


def _drawn(run: Run) -> set[Candidate]:
    """All that was drawn, which need not be drawn again."""
    return {attempt.candidate for attempt in run.attempts}


def _edited(run: Run, attempt: Attempt) -> Candidate:
    """The candidate of an attempt, as one that edits what is edited now."""
    return replace(attempt.candidate, edits=_edits(run))


def _edits(run: Run) -> str:
    """What is edited instead of the request's source: the image that a person went on from."""
    return run.base.image if run.request.source and run.base else ""


def _negative(run: Run, prompt: str) -> str:
    """The user's negative prompt, and what the critic added for this prompt."""
    written = [*(r.wording for r in run.rounds), *(b.wording for b in run.branches)]
    wordings = [wording for wording in written if wording]
    added = next((w.negative for w in wordings if w.prompt == prompt), "")
    return ", ".join(filter(None, (run.request.negative, added)))


STRATEGIES: Mapping[str, type[BaseStrategy]] = MappingProxyType(
    {
        "refine": Refine,
        "best-of-n": BestOfN,
        "rewrite": Rewrite,
        "reflect": Reflect,
        "evolve": Evolve,
    }
)


def make(
    kind: type[BaseStrategy], images: int, seed: int, strength: float | None = None
) -> BaseStrategy:
    """A strategy of this class.

    strength: for those that have one; None leaves it to each.
    """
    if strength is not None and any(field.name == "strength" for field in fields(kind)):
        return kind(images, seed, strength=strength)  # type: ignore[call-arg]
    return kind(images, seed)
