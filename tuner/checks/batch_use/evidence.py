"""Evidence of the measurement batch_use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class BatchUse(Evidence):
    """Whether an update depends on all of its batch.

    `idle`: the halves (0, 1) that could be swapped for other examples, in every round, without an effect on the
    gradient.
    """

    idle: Sequence[int]
    batch_size: int
