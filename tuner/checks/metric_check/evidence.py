"""Evidence of the measurement metric_check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class MetricCheck(Evidence):
    """The user's evaluate and metric, held against outputs of which a planned share is right.

    `hooks`: those the recipe has. `evaluate`, `metric`: what each reported, for a good model, a poor one and the
    good one again; `reads` in them: the quantity that explains all reported numbers (accuracy, or the name of a
    mistake).
    """

    hooks: Sequence[str] = ()
    evaluate: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None
