"""Evidence of the measurement near_copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class NearCopies(Evidence):
    """Val images whose nearest train image is far nearer than the tenth nearest, and than images are apart.

    `near`, `exact`: how many of `asked`; `share`: of near ones; `expected`: how many stand out by chance where data
    fill `dimension` dimensions; `agreeing`: the share of near ones with the same label; `first`: a pair of places.
    """

    asked: int
    train: int
    near: int
    share: float
    expected: float
    dimension: float
    exact: int = 0
    agreeing: float | None = None
    median_ratio: float | None = None
    first: Sequence[str] | None = None
