"""Evidence of the measurement loss_calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LossCall:
    """One call: the `shape`, `low` and `high` of its outputs, and what it `wants`.

    `are_shares`: the outputs are not negative and have a sum of 1 over dimension 1; `target_values`: up to four.
    """

    function: str
    wants: str
    shape: Sequence[int] = ()
    low: float | None = None
    high: float | None = None
    are_shares: bool = False
    target_values: Sequence[float] = ()


@dataclass(frozen=True)
class LossCalls(Evidence):
    """What torch's own loss functions were given while the loss was computed once, call by call."""

    calls: Sequence[LossCall]
