"""Evidence of the measurement weights_shortened."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class WeightsShortened(Evidence):
    """What `after_update` makes of the untrained weights. `shortened`: the share of units whose weights it shortens;
    `length`: of the median one of these, what is left of it; `left`: the outputs' spread, after over before.
    """

    shortened: float
    length: float | None
    left: float | None
