"""The loop: propose, draw, judge, and again, until a rule says stop.

One loop serves one request and ten thousand. It advances a *wave* of runs one phase at a time, so
that images are drawn and judged in batches and two models can take turns on one device:

    propose for all ──▶ draw for all ──▶ judge for all ──▶ reword ──▶ one Step for each run
          ▲                                                                 │
          └───────────────────────── runs that go on ───────────────────────┘

Where both models can work at once, a wave goes in two halves: while one is judged, the next is
drawn.

The loop knows nothing of disk, terminal or models. Whoever consumes its steps saves them, shows
them, and may stop asking for more. To resume is to pass in runs that already have rounds.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from gcr.core import guards
from gcr.core.background import aside
from gcr.core.records import (
    Attempt,
    Candidate,
    Critic,
    Critique,
    Drawing,
    Gallery,
    Generator,
    Round,
    Run,
    Strategy,
    Wording,
    image_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from PIL.Image import Image

    from gcr.core.guards import Excess
    from gcr.core.stopping import StopRule


@dataclass(frozen=True, slots=True)
class Step:
    """One finished round of one run.

    run: the run with the new round last; `run.stop` is set when it is the run's last round.
    images: the new round's images, in the order of its attempts.
    last: whether it is the last of those that were judged together.
    """

    run: Run
    images: tuple[Image, ...]
    last: bool = False


def refine(  # noqa: PLR0913 - what takes part, each for itself
    runs: Iterable[Run],
    generator: Generator,
    critic: Critic,
    strategy: Strategy,
    rule: StopRule,
    *,
    history: bool = True,
    gallery: Gallery | None = None,
    overlap: Callable[[], bool] = lambda: False,
    pause: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Advance a wave of runs round by round; yield each round as it is finished.

    A run that `rule` already calls finished yields nothing: `rule.reason(run)`, a pure function,
    tells its consumer why. The `stop` of a run passed in is not looked at, so that an interrupted
    run simply goes on.

    history: whether the critic words a prompt after each round, with all in view that was tried.
    gallery: where a run's images are found; needed only for requests that edit a source, and for a
        strategy that starts from images of rounds that were yielded before.
    overlap: whether to judge one half of the runs, in another thread, while the other is drawn;
        asked each time.
    pause: whether to draw no more, asked before each drawing. What is drawn is judged and yielded,
        and the loop ends with runs that have no `stop`.
    """
    live = [run for run in runs if rule.reason(run) is None]
    waiting = deque(_parts(live, halve=overlap()))
    judging: Callable[[], list[Step]] | None = None
    while True:
        drawn = None
        try:
            if waiting and not pause():
                drawn = _drawn(waiting.popleft(), generator, strategy, rule, gallery)
        except Exception:
            if judging is not None:
                yield from judging()  # the round of the other half is not lost
            raise
        if judging is not None:
            steps = judging()
            yield from steps
            going = [step.run for step in steps if step.run.stop is None]
            waiting.extend(_parts(going, halve=drawn is None and overlap()))
        elif drawn is None:
            return
        judging = None
        if drawn is not None:
            judge = partial(_judged, drawn, critic, generator.excess, rule, history=history)
            judging = aside(judge) if waiting and overlap() else judge


def _parts(runs: list[Run], *, halve: bool) -> Iterator[list[Run]]:
    """The runs that go on together; none that is empty."""
    middle = (len(runs) + 1) // 2 if halve else len(runs)
    return filter(None, (runs[:middle], runs[middle:]))


class _Drawn(NamedTuple):
    """The next round of some runs, before it is judged.

    shares: candidates of each run. wave: all candidates with their runs, and for each one a
    drawing, and a source or None. seconds: per image.
    """

    runs: list[Run]
    shares: list[int]
    wave: list[tuple[Run, Candidate]]
    sources: list[Image | None]
    drawings: list[Drawing]
    seconds: float


def _drawn(
    runs: list[Run],
    generator: Generator,
    strategy: Strategy,
    rule: StopRule,
    gallery: Gallery | None,
) -> _Drawn:
    proposals = [_propose(strategy, run, rule.room(run)) for run in runs]
    wave = [(run, c) for run, proposal in zip(runs, proposals, strict=True) for c in proposal]
    sources = _sources(gallery, runs, proposals)
    drawings, seconds = _draw(generator, wave, sources, gallery)
    return _Drawn(runs, [len(own) for own in proposals], wave, sources, drawings, seconds)


def _judged(
    drawn: _Drawn, critic: Critic, excess: Excess, rule: StopRule, *, history: bool
) -> list[Step]:
    """The finished round of each run, with what the critic would draw next."""
    critiques, seconds = _judge(critic, drawn, excess)
    candidates = (candidate for _, candidate in drawn.wave)
    tried = zip(candidates, drawn.drawings, critiques, strict=True)
    steps = []
    for run, count in zip(drawn.runs, drawn.shares, strict=True):
        share = list(islice(tried, count))
        new = _round(len(run.rounds), share, drawn.seconds, seconds)
        longer = replace(run, rounds=(*run.rounds, new))
        longer = replace(longer, stop=rule.reason(longer))
        steps.append(Step(longer, tuple(drawing.image for _, drawing, _ in share)))
    *before, last = _reworded(critic, steps, excess) if history else steps
    return [*before, replace(last, last=True)]


def _propose(strategy: Strategy, run: Run, room: int | None) -> tuple[Candidate, ...]:
    proposal = strategy.propose(run)[:room]
    if not proposal:
        raise ValueError(f"{type(strategy).__name__} proposed nothing to draw for run {run.id}")
    return proposal


def _sources(
    gallery: Gallery | None, live: Sequence[Run], proposals: Sequence[Sequence[Candidate]]
) -> list[Image | None]:
    """For each candidate of a wave the image it edits, which is one object for all of a run.

    What is edited is the source each time, round 0 by the user's own words and every later round
    by a rewrite of them: an edit of an edit would keep the faults of the first.
    """
    found = [_image(gallery, run, run.request.source) for run in live]
    return [image for image, own in zip(found, proposals, strict=True) for _ in own]


def _draw(
    generator: Generator,
    wave: Sequence[tuple[Run, Candidate]],
    sources: Sequence[Image | None],
    gallery: Gallery | None,
) -> tuple[list[Drawing], float]:
    """Draw a whole wave in one call. Also: seconds per image."""
    candidates = [candidate for _, candidate in wave]
    starts = [_image(gallery, run, candidate.start) for run, candidate in wave]
    start = time.perf_counter()
    drawings = generator.draw(candidates, starts, sources)
    seconds = time.perf_counter() - start
    if len(drawings) != len(candidates):
        raise ValueError(
            f"the generator drew {len(drawings)} images for {len(candidates)} candidates"
        )
    return drawings, seconds / len(candidates)


def _image(gallery: Gallery | None, run: Run, name: str) -> Image | None:
    if not name:
        return None
    if gallery is None:
        raise ValueError(f"run {run.id} needs its image {name}: give a gallery")
    return gallery(run, name)


def _judge(critic: Critic, drawn: _Drawn, excess: Excess) -> tuple[list[Critique], float]:
    """Judge a whole wave in one call, leaving out faulty images. Also: seconds per judged image."""
    critiques = [Critique(problem=f"{drawing.fault} image") for drawing in drawn.drawings]
    sound = [i for i, drawing in enumerate(drawn.drawings) if not drawing.fault]
    if not sound:
        return critiques, 0.0  # asking the critic could mean bringing its weights to the device
    requests = [drawn.wave[i][0].request for i in sound]
    images = [drawn.drawings[i].image for i in sound]
    sources = [drawn.sources[i] for i in sound]
    start = time.perf_counter()
    judged = critic.judge(requests, images, sources)
    if len(judged) != len(sound):
        raise ValueError(f"the critic wrote {len(judged)} critiques for {len(sound)} images")
    judged = guards.check_critiques(critic, requests, images, sources, judged, excess)
    seconds = time.perf_counter() - start
    for i, critique in zip(sound, judged, strict=True):
        critiques[i] = critique
    return critiques, seconds / len(sound)


def _reworded(critic: Critic, steps: Sequence[Step], excess: Excess) -> list[Step]:
    """The steps with what the critic would draw next, where the run goes on."""
    going = [step.run for step in steps if step.run.stop is None]
    if not going:
        return list(steps)
    start = time.perf_counter()
    wordings = iter(guards.check_wordings(critic, going, critic.reword(going), excess))
    seconds = (time.perf_counter() - start) / len(going)
    return [step if step.run.stop else _worded(step, next(wordings), seconds) for step in steps]


def _worded(step: Step, wording: Wording | None, seconds: float) -> Step:
    if wording is None:
        return step
    *before, last = step.run.rounds
    last = replace(last, wording=replace(wording, seconds=seconds))
    return replace(step, run=replace(step.run, rounds=(*before, last)))


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
            batch=drawing.batch,
            sampler=drawing.sampler,
        )
        for position, (candidate, drawing, critique) in enumerate(tried)
    )
    return Round(index, tuple(attempts))
