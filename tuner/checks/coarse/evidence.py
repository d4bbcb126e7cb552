"""Evidence of the measurement coarse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence
from tuner.core.metrics import CoarseMetrics


@dataclass(frozen=True)
class Coarse(Evidence, CoarseMetrics):
    """What coarse measured; `own_accuracy`: of the recipe's own configuration; `left_behind`: key -> {own, best} of
    values that the search left.
    """

    own_accuracy: float | None = None
    left_behind: Mapping[str, Any] = field(default_factory=dict)
