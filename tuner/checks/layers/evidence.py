"""Evidence of the measurement layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence
from tuner.core.metrics import LayerSignal


@dataclass(frozen=True)
class Layers(Evidence):
    """Every leaf module's outputs in a train-mode forward of the fresh model, and its gradient; in the order of the
    forward.
    """

    examples: int
    layers: Sequence[LayerSignal]
