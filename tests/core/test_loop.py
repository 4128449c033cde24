"""The loop, on fakes: waves, phases, resuming, and what is best."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from fakes import FakeCritic, FakeGenerator, paint, seed_of

from gcr.core.loop import refine
from gcr.core.ranking import best, raw
from gcr.core.records import Candidate, Critique, Request, Run, StopReason, Tokens, Wording
from gcr.core.stopping import StopRule
from gcr.core.strategies import Refine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gcr.core.records import Drawing

RULE = StopRule(rounds=3, patience=9)


def run(name: str = "a", prompt: str = "a cat") -> Run:
    return Run(name, Request(prompt))


def untimed(run: Run) -> Run:
    """A run without its seconds, which are never the same twice."""
    rounds = tuple(
        replace(
            round_,
            attempts=tuple(replace(a, draw_seconds=0, judge_seconds=0) for a in round_.attempts),
        )
        for round_ in run.rounds
    )
    return replace(run, rounds=rounds)


def test_a_run_goes_round_by_round_to_its_stop() -> None:
    critic = FakeCritic({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.9, 4: 0.4, 5: 0.5})
    steps = list(refine([run()], FakeGenerator(), critic, Refine(2, 0), RULE))
    assert [len(step.run.rounds) for step in steps] == [1, 2, 3]
    assert [step.run.stop for step in steps] == [None, None, StopReason.ROUNDS]
    assert [[seed_of(image) for image in step.images] for step in steps] == [[0, 1], [2, 3], [4, 5]]
    last = steps[-1].run
    assert [a.image for a in last.attempts] == [
        "00-0.png",
        "00-1.png",
        "01-0.png",
        "01-1.png",
        "02-0.png",
        "02-1.png",
    ]
    assert best(last) is last.attempts[3]
    assert raw(last).candidate == Candidate("a cat", 0)


def test_a_wave_draws_for_each_run_alone_and_judges_once_each_round() -> None:
    """How many images a model draws at once decides how it rounds."""
    runs = [run("a", "a cat"), run("b", "a dog"), run("c", "a hen")]
    generator, critic = FakeGenerator(), FakeCritic({})
    steps = list(refine(runs, generator, critic, Refine(2, 7), StopRule(rounds=2)))
    assert [{c.prompt for c in call} for call in generator.calls[:3]] == [
        {"a cat"},
        {"a dog"},
        {"a hen"},
    ]
    assert [len(call) for call in generator.calls] == [2] * 6
    assert [len(call) for call in critic.calls] == [6, 6]
    assert [step.run.id for step in steps] == ["a", "b", "c", "a", "b", "c"]


def test_images_are_judged_against_the_request_and_never_against_a_rewrite() -> None:
    runs = [run("a", "a cat"), run("b", "a dog")]
    generator, critic = FakeGenerator(), FakeCritic({})
    list(refine(runs, generator, critic, Refine(1, 0), StopRule(rounds=2)))
    assert generator.drawn[2:] == [("the prompt after 0", 1)] * 2
    assert [r.prompt for r, _ in critic.calls[1]] == ["a cat", "a dog"]


def test_each_run_of_a_wave_gets_its_own_images_and_stops_on_its_own() -> None:
    class Strategy:
        """Run a draws one image a round with even seeds, run b two with odd seeds."""

        def propose(self, run: Run) -> tuple[Candidate, ...]:
            many = 1 if run.id == "a" else 2
            start = 10 * len(run.rounds) + (run.id == "b")
            return tuple(Candidate(run.request.prompt, start + 2 * i) for i in range(many))

    critic = FakeCritic({0: 1.0, 1: 0.2, 3: 0.3})
    runs = [run("a"), run("b")]
    generator = FakeGenerator()
    steps = list(refine(runs, generator, critic, Strategy(), StopRule(rounds=2)))
    assert [(s.run.id, s.run.stop, [seed_of(i) for i in s.images]) for s in steps] == [
        ("a", StopReason.TARGET, [0]),
        ("b", None, [1, 3]),
        ("b", StopReason.ROUNDS, [11, 13]),
    ]
    assert [a.score for a in steps[1].run.attempts] == [0.2, 0.3]
    assert [seed for _, seed in generator.drawn] == [0, 1, 3, 11, 13]


def test_to_screen_is_to_score_all_and_to_write_of_the_best_of_each_run() -> None:
    critic = FakeCritic({0: 0.3, 1: 0.7, 2: 0.9, 10: 0.6, 11: 0.6, 12: None})
    generator = FakeGenerator({2: "blank"})
    runs = [run("a", "a cat"), run("b", "a dog")]

    class Strategy(Refine):
        def propose(self, run: Run) -> tuple[Candidate, ...]:
            first = 10 * (run.id == "b")
            return tuple(replace(c, seed=c.seed + first) for c in Refine(3, 0).propose(run))

    steps = list(refine(runs, generator, critic, Strategy(3, 0), StopRule(rounds=2), screen=True))
    assert critic.screened[0] == [0, 1, 10, 11, 12]  # not what is blank
    assert [seed for _, seed in critic.calls[0]] == [1, 10]  # of equals the first
    cats, dogs = (step.run.attempts for step in steps[:2])
    assert [a.score for a in (*cats, *dogs)] == [0.3, 0.7, None, 0.6, 0.6, None]
    assert [a.critique.is_score_alone for a in cats] == [True, False, False]
    assert [bool(a.critique.raw) for a in (*cats, *dogs)] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert {prompt for prompt, _ in generator.drawn[6:]} == {
        "the prompt after 1",
        "the prompt after 10",
    }
    screening, judging, none = (attempt.judge_seconds for attempt in cats)
    assert 0 < screening < judging
    assert none == 0


def test_the_last_round_is_cut_to_the_budget_of_images() -> None:
    generator = FakeGenerator()
    rule = StopRule(rounds=9, patience=9, images=5)
    steps = list(refine([run()], generator, FakeCritic({}), Refine(2, 0), rule))
    assert [len(call) for call in generator.calls] == [2, 2, 1]
    assert steps[-1].run.stop is StopReason.IMAGES


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(done: int) -> None:
    critic = FakeCritic({seed: seed * 0.07 for seed in range(12)})
    strategy, rule = Refine(3, 0), StopRule(rounds=4, patience=9)
    whole = [s.run for s in refine([run()], FakeGenerator(), critic, strategy, rule)]
    part = run()
    for step in islice(refine([run()], FakeGenerator(), critic, strategy, rule), done):
        part = step.run
    part = replace(part, stop=StopReason.INTERRUPTED)
    rest = [s.run for s in refine([part], FakeGenerator(), critic, strategy, rule)]
    assert [untimed(r) for r in rest] == [untimed(r) for r in whole[done:]]


def test_a_finished_run_draws_nothing_and_its_rule_says_why() -> None:
    done = list(refine([run()], FakeGenerator(), FakeCritic({}), Refine(1, 0), RULE))[-1].run
    generator = FakeGenerator()
    steps = list(refine([done, run("b")], generator, FakeCritic({}), Refine(1, 0), RULE))
    assert {step.run.id for step in steps} == {"b"}
    assert [len(call) for call in generator.calls] == [1, 1, 1]
    assert RULE.reason(done) is StopReason.ROUNDS


def test_a_faulty_image_is_not_judged_and_never_wins() -> None:
    generator = FakeGenerator(faults={0: "blank"})
    critic = FakeCritic({1: 0.0})
    (step,) = refine([run()], generator, critic, Refine(2, 0), StopRule(rounds=1))
    assert [seed for _, seed in critic.calls[0]] == [1]
    faulty, sound = step.run.attempts
    assert (faulty.score, faulty.critique.problem) == (None, "blank image")
    assert faulty.judge_seconds == 0
    assert sound.score == 0
    assert best(step.run) is sound
    assert len(step.images) == 2


def test_the_critic_is_not_called_when_every_image_is_faulty() -> None:
    generator = FakeGenerator(faults={0: "blank", 1: "non-finite"})
    critic = FakeCritic({})
    (step,) = refine([run()], generator, critic, Refine(2, 0), StopRule(rounds=1))
    assert critic.calls == []
    assert step.run.stop is StopReason.FAILED


def test_seconds_are_an_images_share_of_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    # Draw from 0 to 6, judge from 10 to 13.
    clock = iter([0.0, 6.0, 10.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    generator = FakeGenerator(faults={2: "blank"})
    (step,) = refine([run()], generator, FakeCritic({}), Refine(3, 0), StopRule(rounds=1))
    assert [a.draw_seconds for a in step.run.attempts] == [2.0, 2.0, 2.0]
    assert [a.judge_seconds for a in step.run.attempts] == [1.5, 1.5, 0.0]


def test_what_it_takes_to_reword_is_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a resumed run would count it: 28 s leave room for another round, 33 do not."""
    clock = iter([0.0, 14.0, 20.0, 34.0, 40.0, 45.0])  # draw, judge, reword
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    critic = FakeCritic({})
    critic.wordings = {0: Wording("another cat")}
    rule = StopRule(rounds=9, patience=9, seconds=60)
    (step,) = refine([run()], FakeGenerator(), critic, Refine(1, 0), rule)
    assert step.run.rounds[0].seconds == 33
    assert step.run.stop is rule.reason(step.run) is StopReason.SECONDS


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    generator = FakeGenerator()
    steps = refine([run()], generator, FakeCritic({}), Refine(1, 0), RULE)
    assert generator.calls == []
    next(steps)
    assert len(generator.calls) == 1


class Short:
    """A generator, critic and strategy that each leave something out."""

    def tokens(self) -> Tokens:
        return Tokens()

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        return FakeGenerator().draw(candidates)[1:]

    def judge(
        self,
        requests: Sequence[Request],
        images: Sequence[Image],
        sources: Sequence[Image | None] = (),
    ) -> list[Critique]:
        return FakeCritic({}).judge(requests, images)[1:]

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        return ()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((Short(), FakeCritic({}), Refine(2, 0)), "drew 1 images for 2"),
        ((FakeGenerator(), Short(), Refine(2, 0)), "wrote 1 critiques for 2"),
        ((FakeGenerator(), FakeCritic({}), Short()), "Short proposed nothing"),
    ],
)
def test_a_part_that_breaks_its_promise_is_named(parts: tuple[Any, Any, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(refine([run()], *parts, RULE))


class FromTheFirst(Refine):
    """Starts every later round from the run's first image."""

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        fresh = super().propose(run)
        if not run.rounds:
            return fresh
        return tuple(replace(c, start="00-0.png", strength=0.5) for c in fresh)


def test_images_to_start_from_come_out_of_the_gallery() -> None:
    kept: dict[tuple[str, str], Image] = {}
    generator = FakeGenerator()
    parts = generator, FakeCritic({}), FromTheFirst(1, 3), StopRule(rounds=2)
    for step in refine([run("a"), run("b")], *parts, gallery=lambda run, name: kept[run.id, name]):
        for attempt, image in zip(step.run.rounds[-1].attempts, step.images, strict=True):
            kept[step.run.id, attempt.image] = image
    assert generator.starts == [None, None, kept["a", "00-0.png"], kept["b", "00-0.png"]]


def test_every_round_edits_the_source_and_is_judged_beside_it() -> None:
    asked: list[tuple[str, str]] = []
    sources = {"a": paint(101), "c": paint(103)}
    edits = [replace(run(name), request=Request("x", source="source.png")) for name in sources]
    generator, critic = FakeGenerator(faults={1: "blank"}), FakeCritic({})

    def gallery(run: Run, name: str) -> Image:
        asked.append((run.id, name))
        return sources[run.id]

    wave = [edits[0], run("b"), edits[1]]
    parts = generator, critic, Refine(2, 0), StopRule(rounds=2)
    steps = list(refine(wave, *parts, gallery=gallery))
    assert len(steps) == 6
    drawn = [sources["a"]] * 2 + [None] * 2 + [sources["c"]] * 2
    assert generator.sources == drawn * 2
    assert critic.sources == drawn[::2] + drawn  # without the blank ones of the first round
    assert generator.starts == [None] * 12
    assert asked == [("a", "source.png"), ("c", "source.png")] * 2  # once a round
    assert [prompt for prompt, _ in generator.drawn[:6]] == ["x", "x", "a cat", "a cat", "x", "x"]


def test_without_a_gallery_nothing_can_be_edited() -> None:
    edit = replace(run(), request=Request("x", source="source.png"))
    parts = FakeGenerator(), FakeCritic({}), Refine(1, 0), StopRule(rounds=1)
    with pytest.raises(ValueError, match=r"source\.png: give a gallery"):
        list(refine([edit], *parts))


def test_without_a_gallery_nothing_can_be_started_from() -> None:
    parts = FakeGenerator(), FakeCritic({}), FromTheFirst(1, 0), StopRule(rounds=2)
    with pytest.raises(ValueError, match="gallery"):
        list(refine([run()], *parts))
