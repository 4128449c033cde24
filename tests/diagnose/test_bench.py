"""`gcr bench`: what it measures, and what is kept of it."""

import json
import os
import re
import threading
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from gcr.cli.app import run
from gcr.device import memory
from gcr.device.out_of_memory import Ladder
from gcr.diagnose import bench
from gcr.diagnose.bench import (
    Curve,
    Overlap,
    Point,
    measure_curve,
    measure_overlap,
    timed,
)
from gcr.engine.machine import ThisMachine
from gcr.settings import profiles, resolving
from gcr.settings.measurements import OVERLAPS, SPEEDS, Speed, device_key, on_device, pair

ROOT = Path(__file__).parents[2]


def of_speed(**seconds):
    """Work that takes so many seconds for each item at a size."""
    tried = []

    def work(size):
        tried.append(size)
        each = seconds.get(f"at{size}")
        return None if each is None else each * size

    work.tried = tried
    return work


def test_larger_batches_are_tried_until_the_gain_is_too_small():
    work = of_speed(at1=1.0, at2=0.6, at4=0.5, at8=0.47, at16=0.1)
    curve = measure_curve(work)
    assert work.tried == [1, 2, 4, 8]
    assert curve.best == Point(4, 0.5)
    assert curve.full == 0


def test_or_until_memory_runs_out():
    curve = measure_curve(of_speed(at1=1.0, at2=0.5))
    assert (curve.best, curve.full) == (Point(2, 0.5), 4)
    assert [point.batch for point in curve.points] == [1, 2]


def test_or_until_it_was_told_to_stop():
    work = of_speed(at1=1.0, at2=0.5, at4=0.25, at8=0.1)
    assert measure_curve(work, most=5).best.batch == 4
    assert work.tried == [1, 2, 4]


def test_a_slower_batch_is_never_the_best():
    assert Curve((Point(1, 0.1), Point(2, 0.2))).best.batch == 1


def test_a_size_that_the_ladder_had_to_leave_does_not_count():
    ladder = Ladder(1, "images")

    def work(count):
        def limited(batch):
            if len(batch) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return batch

        list(ladder.each(range(count), limited))

    take = timed(work, ladder)
    assert take(2) is not None
    assert take(4) is None


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_pair(place):
    """A profile of two tiny models of random weights, of a critic that writes little."""
    torch.manual_seed(0)
    short = (ROOT / "prompts" / "pocket.yaml").read_text()
    Path("short.yaml").write_text(re.sub("max_new_tokens: .*", "max_new_tokens: 4", short))
    values = profiles.load("pocket").model_dump(mode="json", exclude={"name"}) | {
        "generator": str(tiny.stable_diffusion(place / "generator")),
        "critic": str(tiny.llava(place / "critic")),
        "rubric": "short.yaml",
        "call": {},
    }
    Path("own.yaml").write_text(yaml.safe_dump(values))
    return values


def test_a_pair_is_measured_and_later_runs_know_it(tiny_pair, capsys):
    command = ["bench", "--profile", "own.yaml", "--most", "2", "--steps", "2"]
    assert run([*command, "--quiet", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["generator"], record["size"]) == (tiny_pair["generator"], [128, 128])
    for curve in (record["draw"], record["judge"]):
        assert [point["batch"] for point in curve["points"]] == [1, 2]
        assert all(point["seconds"] > 0 for point in curve["points"])
    assert record["tokens"] > 0
    assert record["overhead"] > 0
    assert record["peak_gib"] > 0.1
    assert not Path("outputs").exists()  # nothing is left behind
    if not torch.cuda.is_available():
        assert record["swap"] == {}

    key = device_key("draw", tiny_pair["generator"], memory.device_name(), (128, 128))
    kept = SPEEDS.read(os.environ)[key]
    assert kept.batch == record["draw"]["best"]
    assert kept.weights > kept.part > 100_000
    chosen = resolving.resolve({"profile": "own.yaml"}, ThisMachine()).settings
    assert chosen.draw_batch == record["draw"]["best"]
    assert chosen.judge_batch == record["judge"]["best"]

    assert run([*command, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "used from now on" in shown
    assert "no GPU: nothing moves" in shown or torch.cuda.is_available()


def test_measurements_are_kept_beside_those_that_are_known(place):
    size = (64, 64)
    first, second = Speed(1, 0.5, 10, 5, 3), Speed(2, 0.5, 10, 5)
    for model, what in (("a", first), ("b", second)):
        SPEEDS.keep(os.environ, {device_key("draw", model, "cpu", size): what})
    assert set(SPEEDS.read(os.environ).values()) == {first, second}
    assert first.footprint() == (10, 5, 3)
    assert second.footprint() is None
    assert on_device(SPEEDS.read(os.environ), "judge", "a", size, lambda: "cpu") is None
    path = SPEEDS.path(os.environ)
    good = path.read_text()
    for damage in ("- a", "a: b", "a: {batch: 1}", "a: {batch: x, seconds: 1}", "{"):
        path.write_text(damage)
        assert SPEEDS.read(os.environ) == {}
    path.write_text(f"{good}c: broken\n")  # what can be read stays
    assert set(SPEEDS.read(os.environ).values()) == {first, second}


class Staged:
    """Two models on a clock of their own, that take so many of its seconds, alone or beside each
    other; the second may do worse then.
    """

    def __init__(self, draw=5, judge=3, slower=1, *, disturbed=False, fickle=False):
        self.seconds = {"draw": draw, "judge": judge}
        self.slower = slower
        self.disturbed, self.fickle = disturbed, fickle
        self.beside = False
        self.now = 0.0
        self.count = 0

    def in_background(self, work):
        """What runs in the background begins now, and so does whatever comes next."""
        self.beside = True
        began = self.now
        result = work()
        ended, self.now = self.now, began

        def wait():
            self.beside = False
            self.now = max(self.now, ended)
            return result

        return wait

    def take(self, what):
        self.now += self.seconds[what] * (self.slower if self.beside else 1)

    def draw(self):
        self.take("draw")
        return "image"

    def judge(self):
        self.take("judge")
        self.count += 1
        return "critique", self.disturbed and self.beside, self.fickle and self.count

    def tried(self, monkeypatch):
        monkeypatch.setattr(bench, "in_background", self.in_background)
        return measure_overlap(self.draw, self.judge, lambda: self.now)


def test_drawing_and_judging_at_once_pays_where_it_saves_time(monkeypatch):
    assert Staged().tried(monkeypatch) == Overlap(5 / 8, same=True)
    assert Staged(slower=2).tried(monkeypatch).ratio == 10 / 8
    assert Overlap(5 / 8, same=True).pays
    assert not Overlap(0.95, same=True).pays
    assert not Overlap(10 / 8, same=True).pays


def test_nor_does_it_pay_where_results_differ_that_are_the_same_in_turn(monkeypatch):
    overlap = Staged(disturbed=True).tried(monkeypatch)
    assert (overlap.same, overlap.pays) == (False, False)
    assert Staged(fickle=True).tried(monkeypatch).same


def test_both_are_really_at_work_at_once():
    drawing = threading.Event()

    def draw():
        drawing.set()
        return "image"

    def judge():
        if threading.current_thread() is threading.main_thread():
            drawing.clear()
        else:
            assert drawing.wait(20), "nothing is drawn beside it"
        return "critique"

    assert measure_overlap(draw, judge).same


def test_runs_overlap_as_bench_found(place):
    flags = {"generator": "a/b", "width": 64, "height": 64}
    chosen = resolving.resolve(flags, ThisMachine()).settings
    assert chosen.overlap is None
    size, device = (chosen.width, chosen.height), memory.device_name()
    key = device_key("overlap", pair(chosen.generator, chosen.critic), device, size)
    for pays in (True, False):
        OVERLAPS.keep(os.environ, {key: pays})
        found = resolving.resolve(flags, ThisMachine())
        assert (found.settings.overlap, found.origins["overlap"]) == (pays, "gcr bench")
        assert resolving.recalled(chosen.decisive(), ThisMachine()).overlap is pays
        assert (
            resolving.recalled(chosen.decisive(), ThisMachine(), overlap=not pays).overlap
            is not pays
        )
        assert (
            resolving.resolve({**flags, "overlap": not pays}, ThisMachine()).settings.overlap
            is not pays
        )
    assert (
        resolving.resolve({**flags, "width": 128}, ThisMachine()).settings.overlap is None
    )  # another size
    graphed = resolving.resolve({**flags, "graphs": True}, ThisMachine()).settings
    assert graphed.overlap is None  # nor for captures, with which a critic takes another time
    key = device_key("judge", graphed.critic_timed, device, size)
    SPEEDS.keep(os.environ, {key: Speed(8, 0.5, 1, 1)})
    assert resolving.resolve({**flags, "graphs": True}, ThisMachine()).settings.judge_batch == 8
    assert resolving.resolve(flags, ThisMachine()).settings.judge_batch == chosen.judge_batch
