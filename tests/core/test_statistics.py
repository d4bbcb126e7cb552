"""Oracles: the published table of Wilson intervals, scipy.stats, closed forms and simulation."""

import base64
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from tuner.core import statistics

TABLE = {  # collected in the project's notes on diagnosis, per cent
    (50, 0.5): (36.6, 63.4), (100, 0.8): (71.1, 86.7), (200, 0.9): (85.1, 93.4), (500, 0.98): (96.4, 98.9),
    (1000, 0.8): (77.4, 82.4), (5000, 0.5): (48.6, 51.4), (10000, 0.98): (97.7, 98.3), (50, 0.98): (89.5, 99.7),
}  # fmt: skip


@pytest.mark.parametrize("at", TABLE)
def test_wilson_equals_the_published_table(at):
    n, share = at
    assert [100 * end for end in statistics.wilson(share, n)] == pytest.approx(TABLE[at], abs=0.06)


def test_wilson_equals_scipy_and_stays_inside():
    low, high = scipy_stats.binomtest(37, 40).proportion_ci(0.95, "wilson")
    assert statistics.wilson(37 / 40, 40) == pytest.approx((low, high), abs=1e-9)
    assert statistics.wilson(1.0, 10)[1] == pytest.approx(1.0) and statistics.wilson(1.0, 10)[1] <= 1.0
    assert statistics.wilson(0.5, 0) == (0.0, 1.0)


def test_difference_interval_equals_newcombes_example():
    # Newcombe 1998, table II, method 10: 56/70 - 48/80
    assert statistics.difference_interval(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("values", "spread"), [([1.0, 2.0, 4.0], np.std([1, 2, 4], ddof=1)), ([3.0], None)])
def test_the_spread_of_several_values_and_of_one(values, spread):
    assert statistics.mean_std(values) == (pytest.approx(np.mean(values)), spread and pytest.approx(spread))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_have_no_spread(bad):
    mean, spread = statistics.mean_std([1.0, bad])
    assert not math.isfinite(mean) and spread is None


def test_the_variance_within_groups_is_the_mean_square_of_an_analysis_of_variance():
    groups = [[1.0, 2.0, 4.0], [10.0, 10.5], [7.0], []]
    within = sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in groups[:2])
    assert statistics.pooled_variance(groups) == (pytest.approx(within / 3), 3)
    assert statistics.pooled_variance([[1.0], []]) == statistics.pooled_variance([]) == (0.0, 0)


@pytest.mark.parametrize(
    ("p", "gap", "error", "told"),
    [
        (0.049, None, None, True),
        (0.05, None, None, False),
        (None, 0.02, 0.01, True),
        (None, -0.0199, 0.01, False),
        (0.001, 0.0199, 0.01, False),  # the seeds leave a doubt
        (0.2, 0.1, 0.01, False),  # the examples do
        (None, 0.02, None, True),  # nothing speaks against it
    ],
)
def test_the_better_of_two_is_told_where_neither_examples_nor_seeds_leave_a_doubt(p, gap, error, told):
    assert statistics.is_indistinguishable(p, gap, error) is not told


@pytest.mark.parametrize(("b", "c"), [(10, 2), (0, 6), (5, 5), (0, 0), (1, 0)])
def test_mcnemar_exact_equals_the_binomial_test(b, c):
    expected = scipy_stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert statistics.mcnemar_exact(b, c) == pytest.approx(expected)


def test_mcnemar_p_gives_each_example_one_vote_over_seeds():
    a = np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    b = np.array([[0, 0, 1, 0], [0, 1, 1, 0]])
    # a wins examples 0 and 1, b wins example 2, example 3 is even
    assert statistics.mcnemar_p(a, b) == statistics.mcnemar_exact(2, 1)
    assert statistics.mcnemar_p(a[0], b[0]) == statistics.mcnemar_exact(2, 0)


def test_unpack_bits_undoes_packing_and_drops_the_padding():
    bits = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1])
    evidence = {"n": 10, "bits": base64.b64encode(np.packbits(bits).tobytes()).decode()}
    assert statistics.unpack_bits(evidence).tolist() == bits.tolist()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6]),
        ([1, 1, 2, 3, 3, 3, 4, 9], [9, 7, 7, 5, 1, 2, 2, 0.5]),
        ([1, 2, 3], [3, 1, 2]),
    ],
)
def test_rank_correlation_equals_scipy(a, b):
    expected = scipy_stats.spearmanr(a, b)
    assert statistics.rank_correlation(a, b) == pytest.approx((expected.statistic, expected.pvalue))


def test_rank_correlation_of_what_does_not_vary_or_is_too_little_is_none():
    assert statistics.rank_correlation([1, 1, 1, 1], [1, 2, 3, 4]) == (0.0, 1.0)
    assert statistics.rank_correlation([1, 2], [1, 2]) == (pytest.approx(1.0), 1.0)


def test_theil_sen_equals_scipy_and_ignores_an_outlier():
    values = [0.0, 1.1, 1.9, 3.2, 50.0, 5.1, 5.8]
    assert statistics.theil_sen(values) == pytest.approx(scipy_stats.theilslopes(values).slope)
    assert statistics.theil_sen(values) == pytest.approx(1.0, abs=0.1)
    assert statistics.theil_sen([1.0]) == 0.0


def test_robust_sigma_finds_the_noise_under_a_trend_and_a_spike():
    series = 0.5 * np.arange(4000) + np.random.default_rng(0).normal(0, 0.3, 4000)
    series[100] += 1e6
    assert statistics.robust_sigma(series.tolist()) == pytest.approx(0.3, rel=0.05)
    assert statistics.robust_sigma([1.0]) == 0.0


def test_binomial_noise_equals_scipy():
    assert statistics.binomial_noise(0.9, 1000) == pytest.approx(scipy_stats.binom(1000, 0.9).std() / 1000)


@pytest.mark.parametrize(
    ("k", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (30, 2.0428)]
)
def test_expected_maximum_equals_the_known_values(k, expected):
    assert statistics.expected_maximum(k) == pytest.approx(expected, abs=1e-4)


def test_the_error_of_an_area_under_the_roc_curve_equals_that_of_shuffled_groups():
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(4000):
        ranks = rng.permutation(42) + 1
        areas.append((ranks[:12].sum() - 12 * 13 / 2) / (12 * 30))  # Mann and Whitney's U over its pairs
    assert np.std(areas) == pytest.approx(statistics.auroc_error(12, 30), rel=0.05)
    assert statistics.auroc_error(1, 1) == 0.5  # it is 0 or 1


def test_drift_and_moving_look_at_the_tail_alone():
    series = [10.0, 5.0, *[1.0 + 0.01 * (i % 2) for i in range(14)]]
    assert abs(statistics.drift(series)) < 0.02 and not statistics.moving(series)
    assert statistics.moving([0.1 * i for i in range(16)])
    assert statistics.drift([0.1 * i for i in range(16)]) == pytest.approx(0.4)
