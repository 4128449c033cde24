"""What counts attempts to break the tool must not overlook that one succeeded."""

import json
import os
import signal
import time

import pytest

from benchmarks.reliability import ROOT, Limits, Tally, in_children
from benchmarks.reliability.__main__ import PIECES, page


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def endless():
    while True:
        pass


def waiting():
    time.sleep(60)


def hungry():
    bytearray(1 << 40)


def raising():
    raise RuntimeError("staged")


BROKEN = {killed: "SIGKILL", endless: "SIGXCPU", waiting: "SIGALRM", hungry: "MemoryError"}


@pytest.mark.parametrize(("broken", "named"), [*BROKEN.items(), (raising, "RuntimeError: staged")])
def test_an_attempt_that_ends_its_process_is_a_failure_and_the_others_go_on(broken, named):
    tally = Tally()

    def attempt(case):
        if case == 1:
            broken()
        return [("kind", "fine", "")]

    # On a busy machine a second of the processor can take many of the clock.
    clock = 5 if broken is waiting else 120
    in_children(range(3), attempt, tally, Limits(processor=1, clock=clock, memory=1 << 30))
    assert tally.outcomes["kind", "fine"] == 2
    assert tally.attempts == 3
    (failure,) = tally.failures
    assert named in failure


def test_no_attempt_begins_after_the_time_is_over():
    tally = Tally(until=time.monotonic())
    in_children(range(3), lambda _: [("kind", "fine", "")], tally, Limits())
    assert tally.attempts == 0


def test_every_piece_can_be_run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    assert all(callable(piece.load()) for piece in PIECES.values())


def test_the_page_is_that_of_its_figures():
    """`make reliability` writes both."""
    record = ROOT / "docs" / "reliability.json"
    assert page(json.loads(record.read_text())) == record.with_suffix(".md").read_text()
