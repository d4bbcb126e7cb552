"""Evidence of the measurement fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Fine(Evidence):
    """The search of fine. `trials` by how they ended; `failures`: kind -> {count, message}. `at_border`: key -> the
    end (low, high) of its range where the best value lies. `runner_up`: the second's trial; `runner_up_p`: of the
    paired test; `runner_up_gap`, `runner_up_error`: difference over the seeds and its standard error. `preferred`:
    why an equal was taken. `finalists`: each with `trial` and the repeats it `lost`.
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
    runner_up: str | None = None
    runner_up_p: float | None = None
    runner_up_gap: float | None = None
    runner_up_error: float | None = None
    preferred: str | None = None
    finalists: Sequence[Mapping[str, Any]] | None = None
