"""Evidence of the measurement dropout_noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class DropoutNoise(Evidence):
    """Forwards of one batch in train mode, each with other draws of dropout.

    `shared`: the share of the outputs' variance over the examples that two forwards have in common: what the input
    says; the rest is the draw. `rates`: the modules' own, largest first. `passes`, `examples`: of the measurement.
    """

    shared: float | None
    rates: Mapping[str, float]
    passes: int
    examples: int
