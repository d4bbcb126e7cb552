"""Evidence of the measurement class_shares."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ClassShares(Evidence):
    """The classes of train and val: half the summed difference of their shares, and chi-squared's p."""

    distance: float
    p: float
