"""Evidence of the measurement attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence
from tuner.checks.overfit.evidence import Overfit


@dataclass(frozen=True)
class Attempts(Evidence):
    """All attempts to fit the tiny subset, by rate, and the best of them; `clip_norm`: the recipe's."""

    best: Overfit | None = None
    attempts: Sequence[Overfit] = ()
    clip_norm: float | None = None
