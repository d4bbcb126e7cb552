"""Evidence of the measurement gradient_seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class GradientSeen(Evidence):
    """The gradient that an update sees against that of the loss on the same batch, computed apart; per batch.

    `ratios`: of norms, what is left of it; `cosines`: -1 means uphill; `norms`: of what the update sees. `calls`:
    of the step for one update, all with the same batch. `adaptive`: the optimizer divides by the gradient's size.
    """

    ratios: Sequence[float | None]
    cosines: Sequence[float | None]
    norms: Sequence[float | None] = ()
    maximises: bool = False
    adaptive: bool = False
    clip_norm: float | None = None
    calls: int = 1
