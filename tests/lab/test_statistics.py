"""Intervals against scipy's own tests and against simulation."""

import numpy as np
import pytest
from scipy import stats

from clearhead.lab.statistics import Interval, bootstrap, equivalent, exponent, interval, kendall, separation, spearman


def test_interval_is_that_of_a_t_test() -> None:
    values = [0.3, -0.1, 0.7, 0.4, 0.2]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == pytest.approx(0.3)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(1.0, 2.0, size=(4000, 6))
    covered = np.mean([found.low <= 1.0 <= found.high for found in map(interval, draws)])
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")]])
def test_too_little_decides_nothing(values: list[float]) -> None:
    found = interval(values)
    assert not found.excludes(0.0)
    assert not found.above
    assert not found.below


def test_bootstrap_covers_the_median() -> None:
    draws = np.random.default_rng(1).exponential(size=(300, 60))
    covered = np.mean([found.low <= np.log(2) <= found.high for found in map(bootstrap, draws)])
    assert covered == pytest.approx(0.95, abs=0.05)
    assert bootstrap(draws[0]) == bootstrap(draws[0])


def test_equivalence_is_two_one_sided_tests() -> None:
    values, margin = np.random.default_rng(2).normal(0.02, 0.1, size=30), 0.08
    low = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    high = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert equivalent(values, margin) == (max(low, high) < 0.05)
    assert not equivalent(values, 0.01)
    assert equivalent(values, 0.2)


def test_exponent_of_a_power_law() -> None:
    sizes = [4, 8, 16, 32, 64]
    found = exponent(sizes, [3.0 * each**1.7 for each in sizes])
    assert found.mean == pytest.approx(1.7, abs=1e-12)
    noisy = exponent(sizes * 3, [each**0.5 * noise for noise in (0.9, 1.0, 1.1) for each in sizes])
    assert noisy.low < 0.5 < noisy.high
    assert not exponent([4, 4], [1.0, 2.0]).excludes(0.0)


def test_rank_correlations() -> None:
    assert spearman([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1.0)
    assert kendall([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)


def test_separation_counts_pairs() -> None:
    scores, relevant = [0.1, 0.9, 0.5, 0.5, 0.7], [False, True, True, False, False]
    marked = list(zip(scores, relevant, strict=True))
    pairs = [(a, b) for a, r in marked if r for b, s in marked if not s]
    by_hand = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert separation(scores, relevant) == pytest.approx(by_hand)


def test_an_interval_reads_well() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 3)) == "0.5 [0.25, 0.75]"
