"""Whether one arm of a comparison is better than another, from the differences of their scores.

Each prompt gives one difference, so that hard and easy prompts do not count as chance. Knows
numbers only; nothing of prompts, images or evaluators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.05
"""How often arms that do not differ may be called different."""
POWER = 0.8
FEWEST = 20
"""Prompts without which there is no verdict: fewer look alike, or all of a kind, by chance."""
FLIPS = 1 << 16
"""Ways to flip signs that are tried; up to 16 differences other than 0 these are all there are."""
MOST_NEEDED = 1_000_000_000
"""Prompts that would show a difference: more than anybody has are not named."""
RESAMPLES = 9_999
TAUS = 999  # resamples of a rank correlation, which takes longer
AT_ONCE = 10_000_000  # numbers in memory


class Verdict(StrEnum):
    """What may be said of an arm against another."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few"


@dataclass(frozen=True, slots=True)
class Finding:
    """How an arm did against another.

    prompts: how many both have a score for; wins, ties and losses sum to it.
    difference: of the scores, on average; None without prompts.
    interval: that holds it in 95 of 100 such comparisons, each looked at alone; None where nothing
        varies.
    p: how often chance alone makes a difference at least as large; None without prompts.
    adjusted: p after Holm's correction for all that is tested together; None where there are too
        few prompts to test.
    needed: how many prompts more a verdict needs: those without which there is none, or those that
        would show the difference seen so far 4 times in 5; None where there is nothing to show.
    """

    prompts: int
    wins: int
    ties: int
    losses: int
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    adjusted: float | None
    verdict: Verdict
    needed: int | None


def judge(family: Sequence[Sequence[float]]) -> list[Finding]:
    """A finding for each list of differences; all verdicts together are wrong about arms that do
    not differ at most one time in 20 (Holm, 1979).
    """
    values = [p_value(differences) for differences in family]
    tested = [i for i, differences in enumerate(family) if len(differences) >= FEWEST]
    corrected = holm([p for i in tested if (p := values[i]) is not None])
    adjusted = dict(zip(tested, corrected, strict=True))
    return [
        _finding(differences, values[i], adjusted.get(i)) for i, differences in enumerate(family)
    ]


def _finding(differences: Sequence[float], p: float | None, adjusted: float | None) -> Finding:
    count = len(differences)
    mean = math.fsum(differences) / count if count else None
    wins = sum(difference > 0 for difference in differences)
    losses = sum(difference < 0 for difference in differences)
    if adjusted is None or mean is None:
        verdict = Verdict.TOO_FEW
    elif adjusted > LEVEL:
        verdict = Verdict.NO_DIFFERENCE
    else:
        verdict = Verdict.BETTER if mean > 0 else Verdict.WORSE
    return Finding(
        prompts=count,
        wins=wins,
        ties=count - wins - losses,
        losses=losses,
        difference=mean,
        interval=interval(differences),
        p=p,
        adjusted=adjusted,
        verdict=verdict,
        needed=_needed(differences, verdict),
    )


def _needed(differences: Sequence[float], verdict: Verdict) -> int | None:
    size = sample_size(differences)
    if verdict is Verdict.TOO_FEW:
        return max(FEWEST, size or 0) - len(differences)
    if verdict is Verdict.NO_DIFFERENCE and size is not None and size > len(differences):
        return size - len(differences)
    return None


def p_value(differences: Sequence[float]) -> float | None:
    """Of a two-sided test that flips signs: were the arms alike, each difference would as often
    have the other sign. Exact for differences that are all of one size, which makes it McNemar's
    test, and for few others. None without differences.
    """
    import numpy as np
    from scipy import stats

    if not differences:
        return None
    changed = np.array([difference for difference in differences if difference])
    if not len(changed):
        return 1.0
    if np.ptp(np.abs(changed)) == 0:
        return float(stats.binomtest(int((changed > 0).sum()), len(changed)).pvalue)
    found = stats.permutation_test(
        (changed,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        batch=max(1, AT_ONCE // len(changed)),
        rng=0,
    )
    return float(found.pvalue)


def leaning(one_way: int, other_way: int) -> float:
    """How often a fair coin falls at least as often one way, of all these throws."""
    from scipy import stats

    throws = one_way + other_way
    return float(stats.binomtest(one_way, throws, alternative="greater").pvalue) if throws else 1.0


def interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """The mean's 95% interval by the paired bootstrap: BCa (Efron, 1987), or of percentiles where
    that has no value. None where all differences are equal: they say nothing of their spread.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    found = _bootstrapped([values], _mean, "BCa")
    return found if _finite(found) else _bootstrapped([values], _mean, "percentile")


def clustered(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The 95% interval of the mean of all values, by the bootstrap over their groups, such as
    prompts: values of one are no independent evidence. None where nothing varies.
    """
    import numpy as np

    full = [group for group in groups if group]
    values = [value for group in full for value in group]
    if len(full) < 2 or len(set(values)) == 1:
        return None
    sums = np.array([math.fsum(group) for group in full])
    counts = np.array([float(len(group)) for group in full])
    return _bootstrapped([sums, counts], _ratio, "percentile")


def _ratio(
    sums: NDArray[np.float64], counts: NDArray[np.float64], axis: int = 0
) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = sums.sum(axis) / counts.sum(axis)
    return ratio


def kendall(pairs: Sequence[Scores]) -> tuple[float | None, tuple[float, float] | None]:
    """Kendall's tau-b of two scores of the same images, and its 95% interval by the bootstrap over
    images; None where one of them does not vary.
    """
    import numpy as np
    from scipy import stats

    first, second = np.array(pairs, dtype=float).T
    if len(pairs) < 2 or len(set(first)) == 1 or len(set(second)) == 1:
        return None, None
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(first), size=len(first)) for _ in range(TAUS))
    found = np.array([float(stats.kendalltau(first[i], second[i]).statistic) for i in drawn])
    low, high = np.nanquantile(found, [LEVEL / 2, 1 - LEVEL / 2])
    return float(stats.kendalltau(first, second).statistic), (float(low), float(high))


def _finite(ends: tuple[float, float]) -> bool:
    return all(map(math.isfinite, ends))


def _bootstrapped(
    samples: Sequence[NDArray[np.float64]],
    statistic: Callable[..., NDArray[np.float64]],
    method: str,
) -> tuple[float, float]:
    """The 95% interval of a statistic. samples: arrays of what belongs together place by place."""
    import warnings

    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a division that leaves no value, which is looked at
        found = stats.bootstrap(
            samples,
            statistic,
            paired=True,
            confidence_level=1 - LEVEL,
            n_resamples=RESAMPLES,
            batch=max(1, AT_ONCE // len(samples[0])),
            method=method,
            rng=0,
        ).confidence_interval
    return float(found.low), float(found.high)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    means: NDArray[np.float64] = values.mean(axis)
    return means


Scores = tuple[float, float]
"""What two evaluators say of the same image."""


@dataclass(frozen=True, slots=True)
class Concord:
    """How far two evaluators agree about which of two images of a prompt is better.

    Attributes:
        prompts: of which both have scored two images or more.
        alike: pairs of images that both order, in the same way.
        opposite: pairs that both order, in opposite ways.
        half: pairs that only one of the two orders.
        tau: Kendall's tau-b of all these pairs, from -1 to 1; None where either orders none.
        interval: of tau, 95%, by the bootstrap over prompts; None where nothing varies.
    """

    prompts: int
    alike: int
    opposite: int
    half: int
    tau: float | None
    interval: tuple[float, float] | None


def concord(scored: Sequence[Sequence[Scores]]) -> Concord:
    """How far two evaluators agree. scored: for each prompt, what both say of each of its images.

    Images of different prompts are not held against each other: a prompt that is easy for both
    would count as agreement about images.
    """
    import numpy as np

    counts = np.array([_ordered(scores) for scores in scored if len(scores) > 1], dtype=float)
    if not len(counts):
        return Concord(0, 0, 0, 0, None, None)
    alike, opposite, first, second = (int(total) for total in counts.sum(0))
    tau = float(_tau_b(*counts.T))
    interval = None
    if len(counts) > 1 and math.isfinite(tau):
        interval = _bootstrapped(list(counts.T), _tau_b, "percentile")
    return Concord(
        prompts=len(counts),
        alike=alike,
        opposite=opposite,
        half=first + second,
        tau=tau if math.isfinite(tau) else None,
        interval=interval if interval and _finite(interval) and np.ptp(interval) else None,
    )


def _ordered(scores: Sequence[Scores]) -> tuple[int, int, int, int]:
    """How many pairs both order alike and oppositely, and how many only the first or second."""
    alike = opposite = first = second = 0
    for (a, b), (c, d) in combinations(scores, 2):
        if (a - c) * (b - d) > 0:
            alike += 1
        elif a != c and b != d:
            opposite += 1
        else:
            first += a != c
            second += b != d
    return alike, opposite, first, second


def _tau_b(
    alike: NDArray[np.float64],
    opposite: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    axis: int = 0,
) -> NDArray[np.float64]:
    """Kendall's tau-b of pairs counted by prompt; no number where either orders none."""
    import numpy as np

    a, o, f, s = (counts.sum(axis) for counts in (alike, opposite, first, second))
    with np.errstate(invalid="ignore"):
        tau: NDArray[np.float64] = (a - o) / np.sqrt((a + o + f) * (a + o + s))
    return tau


def holm(values: Sequence[float]) -> list[float]:
    """The p values, corrected for having been tested together."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected = [1.0] * len(values)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = least
    return corrected


def sample_size(differences: Sequence[float]) -> int | None:
    """How many prompts would show a difference like this 4 times in 5, by the normal
    approximation. None where there is no difference, or one that no number of prompts would show.
    """
    from statistics import NormalDist, fmean, stdev

    if len(differences) < 2 or not fmean(differences):
        return None
    normal = NormalDist()
    distance = normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)
    ratio = distance * stdev(differences) / fmean(differences)
    return math.ceil(ratio**2) if abs(ratio) <= MOST_NEEDED**0.5 else None
