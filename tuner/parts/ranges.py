"""Ranges of columns: functions `range(values, **args)` of a column's numbers, for `data.ranges` of a table.

They are applied to the cells as they are read, before anything is filled or normalised; missing cells stay missing.
Adding one is adding a function.
"""

from __future__ import annotations

import numpy as np

from tuner.core.errors import UsageError


def log(values: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Take sign(x) log(1 + |x| / scale): amounts over many decades come into one range, with their order kept.

    When: a column is positive and its largest values are a thousand times the usual ones.
    scale: 0.01 to 1000, log.
    Source: the notes, preprocessing: keep the dynamic range of the inputs.
    """
    _positive("log", scale)
    return np.sign(values) * np.log1p(np.abs(values) / scale)


def tanh(values: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Take tanh(x / scale): linear up to about the scale, and -1 or 1 beyond it.

    When: a column has no bound, and what lies beyond the scale may count alike.
    scale: 0.01 to 1e6, log.
    Source: the notes, preprocessing: tanh(x / C) for data from 0 to 140 million.
    """
    _positive("tanh", scale)
    return np.tanh(values / scale)


def _positive(name: str, scale: float) -> None:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not scale > 0:
        raise UsageError(f"data.ranges {name}: scale must be a number greater than 0 (got {scale!r})")
