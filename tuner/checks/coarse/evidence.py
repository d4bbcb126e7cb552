"""Evidence of the measurement coarse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Coarse(Evidence):
    """The search of coarse. `trials` by how they ended; `failures`: kind -> {count, message}. `at_border`: key -> the
    end (low, high) of its range where the best value lies. `constant_loss`: of the best answer without the input.
    `own_accuracy`: of the recipe's own configuration; `left_behind`: key -> {own, best} of values that the search left.
    """

    trials: int | None = None
    completed: int = 0
    stopped: int = 0
    diverged: int = 0
    failed: int = 0
    failures: Mapping[str, Any] = field(default_factory=dict)
    best_params: Mapping[str, Any] | None = None
    at_border: Mapping[str, str] = field(default_factory=dict)
    best_val_accuracy: float | None = None
    val_n: int | None = None
    best_val_loss: float | None = None
    constant_loss: float | None = None
    majority_share: float | None = None
    monitor: str = "val_accuracy"
    own_accuracy: float | None = None
    left_behind: Mapping[str, Any] = field(default_factory=dict)
