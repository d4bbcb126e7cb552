"""Evidence of the measurement layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Layer:
    """One leaf module. `signal_std`: how much a unit varies over the examples, averaged over units.

    `dead_fraction`: the share of units that are zero for every example (rectifiers); `dead_input_fraction`: of its
    inputs, where these come out of a rectifier; `saturated_fraction`: outputs at the end of their range (tanh,
    sigmoid); `symmetric`: every unit of its weights is the same, and not zero. Norms are over the module's own
    parameters.
    """

    name: str
    type: str = ""
    linear: bool = False
    activation_mean: float | None = None
    activation_std: float | None = None
    signal_std: float | None = None
    zero_fraction: float | None = None
    dead_fraction: float | None = None
    dead_input_fraction: float | None = None
    saturated_fraction: float | None = None
    weight_norm: float | None = None
    grad_norm: float | None = None
    symmetric: bool | None = None


@dataclass(frozen=True)
class Layers(Evidence):
    """Every leaf module's outputs in a train-mode forward of the fresh model, and its gradient; in the order of the
    forward.
    """

    examples: int
    layers: Sequence[Layer]
