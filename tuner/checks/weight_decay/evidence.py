"""Evidence of the measurement weight_decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class WeightDecay(Evidence):
    """A step with zero gradients: it should shrink exactly the decayed parameters, and none with decay off.

    `asked`: of the recipe; `in_groups`: of the optimizer's groups; `factors`: by which decayed parameters shrank.
    """

    asked: float | None
    in_groups: Sequence[float]
    decayed: Sequence[str] = ()
    exempt: Sequence[str] = ()
    not_shrunk: Sequence[str] = ()
    moved_though_exempt: Sequence[str] = ()
    moved_with_decay_off: Sequence[str] = ()
    factors: Sequence[float | None] = ()
