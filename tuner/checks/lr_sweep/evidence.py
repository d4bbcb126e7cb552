"""Evidence of the measurement lr_sweep."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence
from tuner.core.metrics import LrSweepMetrics


@dataclass(frozen=True)
class LrSweep(Evidence, LrSweepMetrics):
    """The sweep: what its iterations do to the loss at every learning rate, and the band where it falls; and what of
    the recipe bears on that. `trained_before`: it begins from weights of another training; `searched`: the later steps
    take the band for their rates.
    """

    optimizer: str = ""
    weight_decay: float | None = None
    momentum: float | None = None
    dropout: float | None = None
    clip_norm: float | None = None
    trained_before: bool = False
    searched: bool = True
