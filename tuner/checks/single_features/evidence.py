"""Evidence of the measurement single_features."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class SingleFeatures(Evidence):
    """The one column or pixel that says most about the label: accuracy of bins made on one half, judged on `n` others.

    `second`: of the best one that does not go with it; `chance`: the share of the largest class.
    """

    features: int
    best: float
    name: str
    second: float
    chance: float
    n: int
    is_image: bool = False
