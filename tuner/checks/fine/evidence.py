"""Evidence of the measurement fine."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence
from tuner.core.metrics import FineMetrics


@dataclass(frozen=True)
class Fine(Evidence, FineMetrics):
    """What fine measured."""
