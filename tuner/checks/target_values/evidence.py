"""Evidence of the measurement target_values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class TargetValues(Evidence):
    """The quantities of train and val, of the quantity that differs most, and the column that says most about one.

    `distance`: the largest difference of the two cumulative distributions (Kolmogorov and Smirnov), `p` its p-value,
    `medians` of train and val; None without val. `best`: the share of a quantity's variance in train that one column
    explains, the larger of the squared correlations of the values and of their ranks; `name` is that column, `second`:
    the best of the columns that do not go with it. `in_a_row`: the columns beside it are the same quantity a step
    earlier or later, as in a window of a series; `by_value`: what its values explain of the quantity.
    """

    quantities: int
    distance: float | None = None
    p: float | None = None
    medians: Sequence[float] | None = None
    best: float | None = None
    second: float | None = None
    name: str | None = None
    in_a_row: bool = False
    by_value: float | None = None
    features: int = 0
    n: int = 0
