"""Evidence of the measurement weights_return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class WeightsReturn(Evidence):
    """The recipe's optimizer under one gradient, again and again. `returned`: the updates, of `updates`, after which
    all weights that had moved are the first ones again.
    """

    updates: int
    returned: Sequence[int] = ()
