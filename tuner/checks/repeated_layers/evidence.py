"""Evidence of the measurement repeated_layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class RepeatedLayers(Evidence):
    """Layers with weights that stand in one list more than once. `groups`: the names of each in turn."""

    groups: Sequence[Sequence[str]] = ()
