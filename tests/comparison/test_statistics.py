"""What may be said of differences: known values, degenerate data, and few verdicts by chance."""

import math
import random
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from benchmarks import null
from gcr.comparison.figures import Pair, answer, contrast
from gcr.comparison.statistics import (
    FEWEST,
    Verdict,
    concord,
    holm,
    interval,
    judge,
    p_value,
    sample_size,
)


def one(differences):
    (finding,) = judge([differences])
    return finding


def test_differences_of_one_size_are_mcnemars_exact_test():
    differences = [1.0] * 12 + [-1.0] * 3 + [0.0] * 25
    assert p_value(differences) == pytest.approx(stats.binomtest(12, 15).pvalue)
    assert p_value(differences) == pytest.approx(0.03515625)


def test_few_differences_are_tested_exactly():
    """The mean of 1, 2, 3, 4, 5 has one sign in 2 of 32 ways to choose them."""
    assert p_value([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 32)
    assert p_value([1.0, 2.0, 3.0, 4.0, 5.0, 0.0]) == pytest.approx(2 / 32)


def test_many_differences_are_tested_as_a_t_test_would():
    values = np.random.default_rng(1).normal(0.25, 1, 80)
    assert p_value(list(values)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_p_does_not_depend_on_the_unit_or_the_direction():
    differences = [0.3, -0.1, 0.25, 0.7, 0.05, -0.2, 0.4]
    p = p_value(differences)
    assert p_value([-3 * d for d in differences]) == pytest.approx(p)


def test_the_interval_is_near_that_of_a_t_test():
    values = np.random.default_rng(2).normal(0.3, 1, 200)
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert interval(list(values)) == pytest.approx((low, high), abs=0.03)


def test_the_interval_of_one_who_stands_out_is_finite():
    low, high = interval([0.0] * 59 + [1.0])
    assert 0 <= low < 1 / 60 < high < 0.2


@pytest.mark.parametrize("differences", [[], [0.5], [0.0] * 30, [1.0] * 30])
def test_where_nothing_varies_there_is_no_interval(differences):
    assert interval(differences) is None


def test_no_differences_at_all_are_no_difference():
    finding = one([0.0] * 30)
    assert (finding.p, finding.verdict, finding.needed) == (1.0, Verdict.NO_DIFFERENCE, None)
    assert (finding.wins, finding.ties, finding.losses) == (0, 30, 0)


def test_without_prompts_nothing_is_said():
    finding = one([])
    assert (finding.difference, finding.p, finding.interval) == (None, None, None)
    assert (finding.verdict, finding.needed) == (Verdict.TOO_FEW, FEWEST)


def test_better_and_worse():
    differences = [0.2, 0.1, 0.3, -0.05, 0.25] * 8
    assert one(differences).verdict is Verdict.BETTER
    assert one([-d for d in differences]).verdict is Verdict.WORSE
    assert one(differences).difference == pytest.approx(0.16)


def test_however_clear_fewer_than_20_prompts_are_too_few():
    assert one([1.0] * (FEWEST - 1)).verdict is Verdict.TOO_FEW
    assert one([1.0] * (FEWEST - 1)).needed == 1
    assert one([1.0] * FEWEST).verdict is Verdict.BETTER


def test_how_many_prompts_an_effect_needs():
    """Half a standard deviation takes 32 pairs at 80% power: (1.960 + 0.842)² × 4 = 31.4."""
    differences = [0.5 + v * math.sqrt(9 / 10) for v in (1, -1) * 5]
    assert np.std(differences, ddof=1) == pytest.approx(1)
    assert sample_size(differences) == 32
    assert one(differences).needed == 22


def test_a_difference_that_is_not_shown_says_what_would_show_it():
    differences = [1.0, -1.0] * 10 + [1.0] * 4
    finding = one(differences)
    assert finding.verdict is Verdict.NO_DIFFERENCE
    assert finding.needed == sample_size(differences) - 24 > 0


@pytest.mark.parametrize("size", [1e15, 1.0, 1e-160])
def test_figures_of_any_scores_are_finite(size):
    """Of the largest that are taken and the smallest there are, also where a mean is almost 0."""
    from gcr.comparison.measuring import MOST_SCORE

    assert size <= MOST_SCORE
    differences = [2 * size, -2 * size] * 12 + [1e-160]
    finding = one(differences)
    assert finding.verdict is Verdict.NO_DIFFERENCE
    assert finding.difference == pytest.approx(1e-160 / 25)
    assert all(map(math.isfinite, [*finding.interval, finding.p, finding.adjusted]))
    assert (finding.needed is None) is (size > 1e-100)


def test_holm_as_in_its_text_book():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_several_comparisons_are_corrected_together():
    """P 0.035 is a verdict alone, and not beside two others."""
    clear = [1.0] * 12 + [-1.0] * 3 + [0.0] * 25
    unclear = [1.0, -1.0] * 20
    assert one(clear).verdict is Verdict.BETTER
    found = judge([clear, unclear, unclear])
    assert found[0].verdict is Verdict.NO_DIFFERENCE
    assert found[0].adjusted == pytest.approx(3 * found[0].p)
    assert judge([clear, unclear[:4]])[0].verdict is Verdict.BETTER  # too few are not tested


def test_arms_that_do_not_differ_are_seldom_told_apart():
    rng = random.Random(3)
    wrong = 0
    for _ in range(200):
        scores = [(rng.random() < 0.4, rng.random() < 0.4) for _ in range(60)]
        wrong += one([float(a) - b for a, b in scores]).verdict is not Verdict.NO_DIFFERENCE
    assert wrong <= 10


def test_the_null_comparison_draws_from_each_prompts_own_scores():
    """Prompts differ as much as they can, and seeds hardly: nothing to declare."""
    pools = [[float(i % 2)] * 3 + [0.0] for i in range(60)]
    assert null.declared(pools, 100, random.Random(0)) <= 0.05
    assert null.declared([[0.0], [1.0]], 5, random.Random(0)) == 0


def rated(prompts, images, noise, seed=1):
    """What two evaluators say, of whom the second is the first with some noise, in few steps."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, (prompts, images))
    second = np.round(first + rng.normal(0, noise, first.shape))
    return [list(zip(*both, strict=True)) for both in zip(first.tolist(), second, strict=True)]


def test_agreement_within_one_prompt_is_kendalls_tau_b():
    scored = rated(1, 40, 1.0)
    assert concord(scored).tau == pytest.approx(stats.kendalltau(*zip(*scored[0], strict=True))[0])


def test_agreement_counts_pairs_of_images_of_a_prompt_alone():
    scored = [[(0, 5), (1, 6), (1, 7)], [(9, 1), (8, 2)], [(3, 3)], []]
    found = concord(scored)
    assert (found.prompts, found.alike, found.opposite, found.half) == (2, 2, 1, 1)
    assert found.tau == pytest.approx(1 / math.sqrt(3 * 4))


@pytest.mark.parametrize("scored", [[], [[(1, 2)]], [[(1, 2), (1, 3)]] * 30])
def test_agreement_of_an_evaluator_that_orders_nothing_has_no_number(scored):
    found = concord(scored)
    assert (found.alike, found.tau, found.interval) == (0, None, None)


def test_agreement_without_any_spread_has_no_interval():
    assert concord([[(0, 0), (1, 1)]] * 30).tau == 1
    assert concord([[(0, 0), (1, 1)]] * 30).interval is None


def test_the_interval_of_agreement_holds_what_many_prompts_come_to():
    truth = concord(rated(20_000, 3, 1.5)).tau
    held = 0
    for seed in range(40):
        low, high = concord(rated(60, 3, 1.5, seed + 2)).interval
        held += low <= truth <= high
    assert held >= 34  # of 38 expected


def answered(won, lost, of, *, high=1.0, against="raw", evaluator="truth"):
    """What is said of two arms, of which the second won on some prompts and lost on others."""
    scores = [{"first": high * (i >= of - lost), "refine": high * (i < won)} for i in range(of)]
    (finding,) = judge([[each["refine"] - each["first"] for each in scores]])
    pair = Pair(**asdict(finding), arm="refine", against="first", category=None)
    known = {"name": evaluator, "model": None}
    return answer([pair], {"first": against, "refine": "refine"}, scores, known)


CHANCE = "you would see this difference by chance"


@pytest.mark.parametrize(
    ("compared", "says"),
    [
        (
            answered(9, 0, 24),
            (
                "Refining helped: judged by truth, 9 of 24 pictures became right and none became "
                f"wrong; {CHANCE} about 1 time in 260."
            ),
        ),
        (
            answered(1, 12, 24),
            (
                "Refining did harm: judged by truth, 12 of 24 pictures became wrong and 1 became "
                f"right; {CHANCE} about 1 time in 290."
            ),
        ),
        (
            answered(90, 0, 200, high=0.5, evaluator="command"),
            (
                "Refining helped: judged by your own program, 90 of 200 pictures became better and "
                f"none became worse, +0.23 on average; {CHANCE} less than 1 time in 10,000."
            ),
        ),
        (
            answered(9, 0, 24, high=0.01, evaluator="clipscore"),
            (
                "Refining helped: judged by clipscore, 9 of 24 pictures became better and none "
                f"became worse, +0.004 on average; {CHANCE} about 1 time in 260."
            ),
        ),
        (
            answered(6, 3, 24),
            (
                "It is not shown that refining helps: judged by truth, 6 of 24 pictures became "
                f"right and 3 became wrong; {CHANCE} about 5 times in 10, and it would take about "
                "165 more prompts to tell."
            ),
        ),
        (
            answered(0, 0, 24),
            (
                "It is not shown that refining helps: judged by truth, none of 24 pictures became "
                "right and none became wrong."
            ),
        ),
        (
            answered(3, 0, 6),
            (
                "Too few prompts to say whether refining helps: judged by truth, 3 of 6 pictures "
                "became right and none became wrong; about 14 more are needed."
            ),
        ),
        (
            answered(0, 0, 0),
            "Nothing can be said yet: truth has scored no prompt for both refine and first.",
        ),
        (
            answered(9, 0, 24, against="best-of-n"),
            (
                "Refine did better than first: judged by truth, its picture is better on 9 of 24 "
                f"prompts and worse on none; {CHANCE} about 1 time in 260."
            ),
        ),
    ],
)
def test_a_comparison_is_answered_in_one_sentence(compared, says):
    assert compared == says


def test_the_answer_is_about_the_arm_that_refines_and_is_the_same_from_either_side():
    kinds = {"best-of-n": "best-of-n", "refine": "refine", "raw": "raw"}
    assert contrast(kinds) == ("refine", "raw")
    assert contrast({"a": "best-of-n", "b": "best-of-n"}) == ("b", "a")
    assert contrast({"raw": "raw"}) is None
    (finding,) = judge([[-1.0] * 9 + [0.0] * 15])
    pair = Pair(**asdict(finding), arm="raw", against="refine", category=None)
    scores = [{"raw": 0.0, "refine": float(i < 9)} for i in range(24)]
    words = answer([pair], kinds, scores, {"name": "truth", "model": None})
    assert words.startswith("Refining helped: judged by truth, 9 of 24 pictures became right")
