"""The loop: propose, draw, judge, and again, until a rule says stop.

One loop serves one request and ten thousand. It advances a *wave* of runs one phase at a time, so
that images are drawn and judged in batches and two models can take turns on one device:

    propose for all ──▶ draw for all ──▶ judge for all ──▶ one Step for each run
          ▲                                                      │
          └──────────────── runs that go on ─────────────────────┘

The loop knows nothing of disk, terminal or models. Whoever consumes its steps saves them, shows
them, and may stop asking for more. To resume is to pass in runs that already have rounds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from gcr.records import (
    Attempt,
    Candidate,
    Critic,
    Critique,
    Drawing,
    Gallery,
    Generator,
    Request,
    Round,
    Run,
    Strategy,
    image_name,
)
from gcr.spread import margin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from PIL.Image import Image

    from gcr.stopping import StopRule


@dataclass(frozen=True, slots=True)
class Step:
    """One finished round of one run.

    run: the run with the new round last; `run.stop` is set when it is the run's last round.
    images: the new round's images, in the order of its attempts.
    """

    run: Run
    images: tuple[Image, ...]


def refine(  # noqa: PLR0913 - what takes part, each for itself
    runs: Iterable[Run],
    generator: Generator,
    critic: Critic,
    strategy: Strategy,
    rule: StopRule,
    *,
    gallery: Gallery | None = None,
) -> Iterator[Step]:
    """Advance a wave of runs round by round; yield each round as it is finished.

    A run that `rule` already calls finished yields nothing: `rule.reason(run)`, a pure function,
    tells its consumer why. The `stop` of a run passed in is not looked at, so that an interrupted
    run simply goes on. gallery: where an image to start from is found, needed only for a strategy
    that starts from images; asked for those of rounds that were yielded before.
    """
    live = [run for run in runs if rule.reason(run) is None]
    while live:
        proposals = [_propose(strategy, run, rule.room(run)) for run in live]
        wave = [(run, c) for run, proposal in zip(live, proposals, strict=True) for c in proposal]
        drawings, draw_seconds = _draw(generator, wave, gallery)
        critiques, judge_seconds = _judge(critic, [run.request for run, _ in wave], drawings)

        tried = zip((candidate for _, candidate in wave), drawings, critiques, strict=True)
        going = []
        for run, proposal in zip(live, proposals, strict=True):
            share = list(islice(tried, len(proposal)))
            new = _round(len(run.rounds), share, draw_seconds, judge_seconds)
            longer = replace(run, rounds=(*run.rounds, new))
            longer = replace(longer, stop=rule.reason(longer))
            if longer.stop is None:
                going.append(longer)
            yield Step(longer, tuple(drawing.image for _, drawing, _ in share))
        live = going


def _propose(strategy: Strategy, run: Run, room: int | None) -> tuple[Candidate, ...]:
    proposal = strategy.propose(run)[:room]
    if not proposal:
        raise ValueError(f"{type(strategy).__name__} proposed nothing to draw for run {run.id}")
    return proposal


def _draw(
    generator: Generator, wave: Sequence[tuple[Run, Candidate]], gallery: Gallery | None
) -> tuple[list[Drawing], float]:
    """Draw a whole wave in one call. Also: seconds per image."""
    candidates = [candidate for _, candidate in wave]
    starts = [_start(gallery, run, candidate) for run, candidate in wave]
    start = time.perf_counter()
    drawings = generator.draw(candidates, starts)
    seconds = time.perf_counter() - start
    if len(drawings) != len(candidates):
        raise ValueError(
            f"the generator drew {len(drawings)} images for {len(candidates)} candidates"
        )
    return drawings, seconds / len(candidates)


def _start(gallery: Gallery | None, run: Run, candidate: Candidate) -> Image | None:
    if not candidate.start:
        return None
    if gallery is None:
        raise ValueError(f"{candidate.start} of run {run.id} is to start from: give a gallery")
    return gallery(run, candidate.start)


def _judge(
    critic: Critic, requests: Sequence[Request], drawings: Sequence[Drawing]
) -> tuple[list[Critique], float]:
    """Judge a whole wave in one call, leaving out faulty images. Also: seconds per judged image."""
    fit = [(r, d.image) for r, d in zip(requests, drawings, strict=True) if not d.fault]
    start = time.perf_counter()
    # A critic is not woken for nothing: on a small device that could mean loading it.
    replies = critic.judge([r for r, _ in fit], [image for _, image in fit]) if fit else []
    seconds = time.perf_counter() - start
    if len(replies) != len(fit):
        raise ValueError(f"the critic wrote {len(replies)} critiques for {len(fit)} images")
    rest = iter(replies)
    critiques = [Critique(problem=f"{d.fault} image") if d.fault else next(rest) for d in drawings]
    return critiques, seconds / max(1, len(fit))


def _round(
    index: int,
    tried: Iterable[tuple[Candidate, Drawing, Critique]],
    draw_seconds: float,
    judge_seconds: float,
) -> Round:
    attempts = (
        Attempt(
            candidate,
            critique,
            image_name(index, position),
            draw_seconds=draw_seconds,
            judge_seconds=0.0 if drawing.fault else judge_seconds,
        )
        for position, (candidate, drawing, critique) in enumerate(tried)
    )
    return Round(index, tuple(attempts))


def ranked(run: Run) -> list[Attempt]:
    """The attempts of a run, best first.

    Higher scores come first and a tie goes to the earlier attempt. Unscored attempts come after
    every scored one: first those whose critique could not be read, then those never judged.
    """
    return sorted(run.attempts, key=_rank)


def _rank(attempt: Attempt) -> tuple[int, float]:
    if attempt.score is not None:
        return 0, -attempt.score
    # Only an image that was never judged, because it is faulty, has neither aspects nor a reply.
    return (1 if attempt.critique.aspects or attempt.critique.raw else 2), 0.0


def best(run: Run) -> Attempt | None:
    """The attempt that none after it exceeds by more than the critic's own noise; None before the
    first round.

    With a critic whose noise is unknown that is the highest score, and the earlier of equals.
    Where nothing was scored this is the first image that has no fault, or failing that the first
    image: something to look at, whose `score` is None. Check it before calling it a result.
    """
    scored = [attempt for attempt in run.attempts if attempt.score is not None]
    if not scored:
        return next(iter(ranked(run)), None)
    least = margin(scored)
    found, *later = scored
    for attempt in later:
        if (attempt.score or 0.0) - (found.score or 0.0) > least:
            found = attempt
    return found


def raw(run: Run) -> Attempt:
    """The baseline: the user's own words drawn with the user's own seed. Needs one round."""
    return run.rounds[0].attempts[0]
