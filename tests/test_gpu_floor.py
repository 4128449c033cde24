"""benchmarks/gpu_floor.py, which is for a GPU, with tiny models on a CPU."""

import json
import re
import subprocess
import sys

import pytest

MEASURE = [sys.executable, "-m", "benchmarks.gpu_floor", "--tiny"]


@pytest.mark.parametrize("pair", ["dit", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_it_runs_with_tiny_models(pair):
    small = ["--images", "2", "--tokens", "3", "--most", "2", "--times", "1", "--steps", "1"]
    ran = subprocess.run(
        [*MEASURE, "--pair", pair, *small],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(ran.stdout)
    assert found["pair"] == f"{pair}, tiny"
    assert found["floor_seconds"] == pytest.approx(
        2 * (found["floor_draw_seconds"] + found["floor_judge_seconds"])
    )
    assert found["round_over_floor"] == found["round"]["seconds"] / found["floor_seconds"] > 0
    assert 0 < found["round"]["outside_seconds"] < found["round"]["seconds"]
    assert found["questions"]["ratio"] > 0
    for batch in (1, 4, 8):
        rates = found["decoding"][f"at_{batch}"]
        gained = rates["graph_tokens_per_second"] / rates["eager_tokens_per_second"]
        assert rates["ratio"] == pytest.approx(gained)
        assert rates["step_over_floor"]
    assert ran.stderr.count("decoding_at_") == 3
    assert found["overlap"]["fits"]
    assert found["overlap"]["ratio"] > 0
    assert [len(found[f"{phase}_curve"]["points"]) for phase in ("draw", "judge")] == [2, 2]
    assert found["left_out"] == []
    assert len(re.findall(r" (hit|miss)$", ran.stderr, re.MULTILINE)) == 7


def test_what_there_is_no_time_for_is_named():
    command = [*MEASURE, "--pair", "dit", "--minutes", "0"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    assert {"decoding", "round", "overlap", "swap"} < set(found["left_out"])
    assert "round_over_floor" not in found
    assert ran.stderr.count("not measured") == 7
