"""The statistics that a verdict rests on: intervals, paired tests, robust trends and noise."""

from __future__ import annotations

import base64
import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Z95 = 1.959963984540054
SIGNIFICANT = 0.05  # a p below it is no chance
CLEAR = 2.0  # standard errors by which two means must differ
MAD_TO_STD = 1.4826  # the median absolute deviation of a normal variable is std / 1.4826


def wilson(share: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval (95 %) of a share seen in `n` examples.

    Source: Wilson 1927; it stays inside [0, 1] and is honest near the ends, where the normal one is not.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def wilson_half(share: float, n: int) -> float:
    """Return half the width of the Wilson interval."""
    low, high = wilson(share, n)
    return (high - low) / 2


def difference_interval(share_a: float, n_a: int, share_b: float, n_b: int) -> tuple[float, float]:
    """Return the 95 % interval of `share_a - share_b`, two shares of different examples.

    Source: Newcombe 1998, method 10: the square-and-add of two Wilson intervals.
    """
    low_a, high_a = wilson(share_a, n_a)
    low_b, high_b = wilson(share_b, n_b)
    gap = share_a - share_b
    return gap - math.hypot(share_a - low_a, high_b - share_b), gap + math.hypot(high_a - share_a, share_b - low_b)


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (n - 1); None for fewer than two values, or one not finite."""
    known = len(values) > 1 and all(map(math.isfinite, values))
    return statistics.fmean(values), statistics.stdev(values) if known else None


def pooled_variance(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Return the variance within groups, pooled over those with several values, and their degrees of freedom."""
    several = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in several)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return (squares / degrees if degrees else 0.0), degrees


def unpack_bits(evidence: Mapping[str, Any]) -> Any:
    """Return the array of 0 and 1, one per val example, of the `val_predictions` probe."""
    import numpy as np

    packed = np.frombuffer(base64.b64decode(evidence["bits"]), dtype=np.uint8)
    return np.unpackbits(packed)[: evidence["n"]]


def unpack_values(evidence: Mapping[str, Any]) -> Any:
    """Return the array of how good each val answer is (larger is better) of the `val_predictions` probe."""
    import numpy as np

    return np.frombuffer(base64.b64decode(evidence["values"]), dtype=np.float32).astype(float)


def paired_p(a: Any, b: Any) -> float | None:
    """Return the two-sided p of the paired t test of two sets of values on the same examples; None for fewer than two.

    Two-dimensional arrays (seed, example) are averaged over seeds first: each example then counts once.

    Source: Student 1908.
    """
    import numpy as np
    from scipy.special import stdtr

    difference = np.atleast_2d(a).mean(0) - np.atleast_2d(b).mean(0)
    n = len(difference)
    if n < 2:
        return None
    error = difference.std(ddof=1) / math.sqrt(n)
    if error == 0:
        return 1.0 if difference.mean() == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(difference.mean()) / error))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p of McNemar's test from the two counts of discordant examples.

    Source: McNemar 1947; under the null the smaller count is binomial with p = 1/2.
    """
    from scipy.special import bdtr

    n = only_a + only_b
    return 1.0 if n == 0 else min(1.0, 2 * float(bdtr(min(only_a, only_b), n, 0.5)))


def mcnemar_p(right_a: Any, right_b: Any) -> float:
    """Return McNemar's p for two classifiers, from their right (1) and wrong (0) answers on the same examples.

    Two-dimensional arrays (seed, example) are summed over seeds first: each example then has one vote, for the
    configuration that gets it right more often. Votes of several seeds on one example are not independent.
    """
    import numpy as np

    difference = np.atleast_2d(right_a).astype(int).sum(0) - np.atleast_2d(right_b).astype(int).sum(0)
    return mcnemar_exact(int((difference > 0).sum()), int((difference < 0).sum()))


def is_indistinguishable(p: float | None, gap: float | None, error: float | None) -> bool:
    """Judge whether the better of two may be so by chance: neither the paired test nor the seeds may leave a doubt.

    `p`: of the paired test; `gap` and `error`: the difference of the means and its standard error. None: not known.
    """
    by_test = p is not None and p >= SIGNIFICANT
    by_seeds = error is not None and gap is not None and abs(gap) < CLEAR * error
    return by_test or by_seeds


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return Spearman's rank correlation (ties share their rank) and its two-sided p, by Student's t.

    Source: Spearman 1904; Kendall 1948 for the t approximation. Where one of the two is constant: 0 and 1.
    """
    from scipy.special import stdtr

    rank_a, rank_b = _ranks(a), _ranks(b)
    if len(set(rank_a)) < 2 or len(set(rank_b)) < 2:
        return 0.0, 1.0
    correlation = statistics.correlation(rank_a, rank_b)
    if len(a) < 3:
        return correlation, 1.0
    rest = max(1e-12, 1 - correlation**2)
    return correlation, 2 * float(stdtr(len(a) - 2, -abs(correlation) * math.sqrt((len(a) - 2) / rest)))


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value from 1; equal values have the mean of their ranks."""
    ordered = sorted(values)
    first = {value: ordered.index(value) for value in set(values)}
    return [first[value] + (ordered.count(value) + 1) / 2 for value in values]


def theil_sen(values: Sequence[float]) -> float:
    """Return the median slope per step over all pairs: a trend that one outlier does not move."""
    pairs = [(b - a) / (j - i) for i, a in enumerate(values) for j, b in enumerate(values) if j > i]
    return statistics.median(pairs) if pairs else 0.0


def robust_sigma(values: Sequence[float]) -> float:
    """Return the noise of a slowly moving series: MAD of its first differences, as a std, over sqrt 2."""
    steps = [b - a for a, b in itertools.pairwise(values)]
    if not steps:
        return 0.0
    middle = statistics.median(steps)
    return MAD_TO_STD * statistics.median(abs(step - middle) for step in steps) / math.sqrt(2)


def tail(values: Sequence[float]) -> Sequence[float]:
    """Return the last quarter of a series, at least four values."""
    return values[-max(4, math.ceil(0.25 * len(values))) :]


def drift(values: Sequence[float]) -> float:
    """Return by how much a series moves over its tail: Theil-Sen slope times length."""
    last = tail(values)
    return theil_sen(last) * len(last)


def moving(values: Sequence[float]) -> bool:
    """Return whether the tail of a series moves by more than twice its noise."""
    return abs(drift(values)) > 2 * robust_sigma(values)


def binomial_noise(share: float, n: int) -> float:
    """Return the standard deviation of an accuracy measured on `n` examples."""
    return math.sqrt(max(0.0, share * (1 - share)) / n)


def auroc_error(n_a: int, n_b: int) -> float:
    """Return the standard error of an area under the ROC curve where two groups do not differ.

    Source: Mann and Whitney 1947, the variance of U over the number of pairs.
    """
    return math.sqrt((n_a + n_b + 1) / (12 * n_a * n_b))


def expected_maximum(k: int) -> float:
    """Return the expected largest of `k` standard normal draws (0 for one; 2.04 for thirty)."""
    import numpy as np
    from scipy.special import log_ndtr

    if k < 2:
        return 0.0
    x = np.linspace(-9.0, 9.0, 3601)
    density = k * np.exp(-0.5 * x**2 + (k - 1) * log_ndtr(x)) / math.sqrt(2 * math.pi)
    return float((x * density).sum() * (x[1] - x[0]))


def optimism(k: int, noise: float) -> float:
    """Return by how much the best of `k` equally good configurations overstates itself, each measured with `noise`."""
    return expected_maximum(k) * noise
