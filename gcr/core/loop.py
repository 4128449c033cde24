"""The loop: propose, draw, judge, and again, until a rule says stop.

One loop serves one request and ten thousand. It advances a *wave* of runs one phase at a time, so
that images are judged in batches and two models can take turns on one device:

    propose for all ──▶ draw for all ──▶ judge for all ──▶ reword ──▶ one Step for each run
          ▲                                                                 │
          └───────────────────────── runs that go on ───────────────────────┘

To judge is to score and to write a critique. Where scores do not come from what is written, all
images can be scored first, and a critique be written only of the best of each round.

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
from gcr.core.background import in_background
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
    Tokens,
    Wording,
    image_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from PIL.Image import Image

    from gcr.core.guards import Excess
    from gcr.core.stopping import StopRule

    OnDrawn = Callable[[Sequence[Image]], None]


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
    screen: bool = False,
    gallery: Gallery | None = None,
    overlap: Callable[[], bool] = lambda: False,
    pause: Callable[[], bool] = lambda: False,
    drawn: OnDrawn = lambda _: None,
    amended: Callable[[Run], Run] = lambda run: run,
) -> Iterator[Step]:
    """Advance a wave of runs round by round; yield each round as it is finished.

    A run that `rule` already calls finished yields nothing: `rule.reason(run)`, a pure function,
    tells its consumer why. The `stop` of a run passed in is not looked at, so that an interrupted
    run simply goes on.

    history: whether the critic words a prompt after each round, with all in view that was tried.
    screen: whether a critique is written only of the best image of each round, by scores that the
        critic gives to all of them first.
    gallery: where a run's images are found; needed only for requests that edit a source, for a
        strategy that starts from images of rounds that were yielded before, and for a critic that
        is to see these again when it words a prompt.
    overlap: whether to judge one half of the runs, in another thread, while the other is drawn;
        asked each time.
    pause: whether to draw no more, asked before each drawing. What is drawn is judged and yielded,
        and the loop ends with runs that have no `stop`.
    drawn: called with the images of a run as soon as there are any.
    amended: a run with what a person decided about it since it was yielded; asked before each
        drawing.
    """
    live = [run for run in runs if rule.reason(run) is None]
    waiting = deque(_parts(live, halve=overlap()))
    judging: Callable[[], list[Step]] | None = None
    while True:
        unjudged = None
        try:
            if waiting and not pause():
                runs = [amended(run) for run in waiting.popleft()]
                unjudged = _draw(runs, generator, strategy, rule, gallery, drawn)
        except Exception:
            if judging is not None:
                yield from judging()  # the round of the other half is not lost
            raise
        if judging is not None:
            steps = judging()
            yield from steps
            going = [step.run for step in steps if step.run.stop is None]
            waiting.extend(_parts(going, halve=unjudged is None and overlap()))
        elif unjudged is None:
            return
        judging = None
        if unjudged is not None:
            parts = unjudged, critic, generator.excess, rule, gallery
            finish = partial(_finish, *parts, history=history, screen=screen)
            judging = in_background(finish) if waiting and overlap() else finish


def _parts(runs: list[Run], *, halve: bool) -> Iterator[list[Run]]:
    """The runs that go on together; none that is empty."""
    middle = (len(runs) + 1) // 2 if halve else len(runs)
    return filter(None, (runs[:middle], runs[middle:]))


class _Unjudged(NamedTuple):
    """An image that was drawn and is not judged yet. source: the image that its request edits."""

    candidate: Candidate
    drawing: Drawing
    source: Image | None


class _Judged(NamedTuple):
    """What the critic said of an image, and this image's share of what its batch took."""

    critique: Critique
    seconds: float = 0.0
    tokens: Tokens = Tokens()


class _Drawn(NamedTuple):
    """The next round of some runs, to be judged together. seconds: for each image."""

    rounds: list[tuple[Run, list[_Unjudged]]]
    seconds: float


def _draw(  # noqa: PLR0913, PLR0917 - as `refine` has them
    runs: list[Run],
    generator: Generator,
    strategy: Strategy,
    rule: StopRule,
    gallery: Gallery | None,
    drawn: OnDrawn,
) -> _Drawn:
    """Draw the next round of all runs, each in a call of its own.

    How many images a model draws at once decides how it rounds, and with it the last bit of a few
    pixels. So a run draws, byte for byte, what it would draw outside of a wave; after a crash, too,
    when it is gone on with in a wave of others.

    What is edited is the source each time, round 0 by the user's own words and every later round
    by a rewrite of them: an edit of an edit would keep the faults of the first. Unless a person
    wants just that, and goes on from an image: then all that follows edits this one.
    """
    proposals = [proposed(strategy, run, rule) for run in runs]
    sources = [_image(gallery, run, run.request.source) for run in runs]
    calls = [
        (
            proposal,
            [_image(gallery, run, candidate.start) for candidate in proposal],
            [_image(gallery, run, candidate.edits) or source for candidate in proposal],
        )
        for run, proposal, source in zip(runs, proposals, sources, strict=True)
    ]
    rounds = []
    start = time.perf_counter()
    for run, source, call in zip(runs, sources, calls, strict=True):
        drawings, candidates = generator.draw(*call), call[0]
        if len(drawings) != len(candidates):
            counts = f"{len(drawings)} images for {len(candidates)} candidates"
            raise ValueError(f"the generator drew {counts}")
        drawn([drawing.image for drawing in drawings])
        both = zip(candidates, drawings, strict=True)
        rounds.append((run, [_Unjudged(*each, source) for each in both]))
    return _Drawn(rounds, (time.perf_counter() - start) / sum(map(len, proposals)))


def proposed(strategy: Strategy, run: Run, rule: StopRule) -> tuple[Candidate, ...]:
    """What is drawn next. Raises ValueError where a strategy proposes nothing."""
    proposal = strategy.propose(run)[: rule.room(run)]
    if not proposal:
        raise ValueError(f"{type(strategy).__name__} proposed nothing to draw for run {run.id}")
    return proposal


def _image(gallery: Gallery | None, run: Run, name: str) -> Image | None:
    if not name:
        return None
    if gallery is None:
        raise ValueError(f"run {run.id} needs its image {name}: give a gallery")
    return gallery(run, name)


def _finish(  # noqa: PLR0913 - as `refine` has them
    drawn: _Drawn,
    critic: Critic,
    excess: Excess,
    rule: StopRule,
    gallery: Gallery | None,
    *,
    history: bool,
    screen: bool,
) -> list[Step]:
    """Judge what was drawn: each run's finished round, with what the critic would draw next."""
    judged = iter(_judge(critic, drawn, excess, tell=not history, screen=screen))
    steps = []
    for run, images in drawn.rounds:
        attempts = [
            _attempt(run, i, image, next(judged), drawn.seconds) for i, image in enumerate(images)
        ]
        longer = replace(run, rounds=(*run.rounds, Round(len(run.rounds), tuple(attempts))))
        longer = replace(longer, stop=rule.reason(longer))
        steps.append(Step(longer, tuple(image.drawing.image for image in images)))
    *before, last = _reworded(critic, steps, rule, excess, gallery) if history else steps
    return [*before, replace(last, last=True)]


def _judge(
    critic: Critic, drawn: _Drawn, excess: Excess, *, tell: bool, screen: bool
) -> list[_Judged]:
    """Judge all images but the faulty ones in one call; to screen, in one for all and another for
    the best of each run.

    tell: as `guards.check_critiques` has it: what words a prompt after the round is told anyway.
    """
    wave = [(run.request, image) for run, images in drawn.rounds for image in images]
    judged = [_Judged(Critique(problem=f"{image.drawing.fault} image")) for _, image in wave]

    def ask(places: Sequence[int], judge: Callable[..., list[Critique]]) -> None:
        """Have the images of these places in the wave judged together."""
        if not places:
            return  # asking the critic could mean bringing its weights to the device
        requests = [wave[i][0] for i in places]
        images = [wave[i][1].drawing.image for i in places]
        sources = [wave[i][1].source for i in places]
        before, start = critic.tokens(), time.perf_counter()
        critiques = judge(requests, images, sources)
        if len(critiques) != len(places):
            raise ValueError(
                f"the critic wrote {len(critiques)} critiques for {len(places)} images"
            )
        critiques = guards.check_critiques(
            critic, requests, images, sources, critiques, excess, tell=tell
        )
        seconds = (time.perf_counter() - start) / len(places)
        shares = (critic.tokens() - before).shares(len(places))
        for i, critique, tokens in zip(places, critiques, shares, strict=True):
            judged[i] = _Judged(critique, judged[i].seconds + seconds, judged[i].tokens + tokens)

    places = iter(range(len(wave)))
    rounds = [list(islice(places, len(images))) for _, images in drawn.rounds]
    sound = [[i for i in round_ if not wave[i][1].drawing.fault] for round_ in rounds]
    every = [i for round_ in sound for i in round_]
    if not screen:
        ask(every, critic.judge)
        return judged
    ask(every, critic.screen)
    best = [max(round_, key=lambda i: _score(judged[i])) for round_ in sound if round_]
    scored = [judged[i].critique for i in best]
    ask(best, partial(critic.judge, scored=scored))
    return judged


def _score(judged: _Judged) -> float:
    """Its score; less than any where there is none."""
    return -1.0 if judged.critique.overall is None else judged.critique.overall


def _attempt(
    run: Run, position: int, image: _Unjudged, judged: _Judged, draw_seconds: float
) -> Attempt:
    drawing = image.drawing
    return Attempt(
        image.candidate,
        judged.critique,
        image_name(len(run.rounds), position, run.format),
        draw_seconds=draw_seconds,
        judge_seconds=judged.seconds,
        batch=drawing.batch,
        sampler=drawing.sampler,
        tokens=judged.tokens,
    )


def _reworded(
    critic: Critic, steps: Sequence[Step], rule: StopRule, excess: Excess, gallery: Gallery | None
) -> list[Step]:
    """The steps with what the critic would draw next, where the run goes on.

    Asking takes time, too: a budget of seconds may be used up by it.
    """
    going = [step.run for step in steps if step.run.stop is None]
    if not going:
        return list(steps)
    wordings = iter(worded(critic, going, excess, _with_latest(gallery, steps)))
    return [step if step.run.stop else _with(step, next(wordings), rule) for step in steps]


def worded(
    critic: Critic, runs: Sequence[Run], excess: Excess, gallery: Gallery | None
) -> list[Wording | None]:
    """What the critic would draw next for each run, with this run's share of what it took to ask;
    None where it is not to be asked.
    """
    start, before = time.perf_counter(), critic.tokens()
    first = critic.reword(runs, gallery=gallery)
    wordings = guards.check_wordings(critic, runs, first, excess, gallery)
    seconds = (time.perf_counter() - start) / len(runs)
    shares = (critic.tokens() - before).shares(len(runs))
    return [
        wording and replace(wording, seconds=seconds, tokens=tokens)
        for wording, tokens in zip(wordings, shares, strict=True)
    ]


def _with_latest(gallery: Gallery | None, steps: Sequence[Step]) -> Gallery | None:
    """A gallery that also has the images of these steps, which nobody has saved yet."""
    if gallery is None:
        return None
    latest = {
        (step.run.id, attempt.image): image
        for step in steps
        for attempt, image in zip(step.run.rounds[-1].attempts, step.images, strict=True)
    }

    return lambda run, name: latest.get((run.id, name)) or gallery(run, name)


def _with(step: Step, wording: Wording | None, rule: StopRule) -> Step:
    if wording is None:
        return step
    *before, last = step.run.rounds
    run = replace(step.run, rounds=(*before, replace(last, wording=wording)))
    return replace(step, run=replace(run, stop=rule.reason(run)))
