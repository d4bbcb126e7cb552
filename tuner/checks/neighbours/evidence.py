"""Evidence of the measurement neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Neighbours(Evidence):
    """An eval-mode batch with the examples around a part of it swapped for others, and with that part put first.

    `differ`, `moved`: the largest change of the part's own outputs over their spread; None where the model gives
    `outputs` rows for `inputs` others (in (T, N, C) the examples are second).
    """

    differ: float | None
    outputs: int
    inputs: int
    moved: float | None = None
