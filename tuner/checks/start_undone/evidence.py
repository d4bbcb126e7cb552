"""Evidence of the measurement start_undone."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class StartUndone(Evidence):
    """How long the first updates take to bring a loss that starts too high below that of uniform outputs.

    `first`: the loss of the first batch, over `uniform`'s on it; `updates`: how many updates of the recipe's, each on
    a batch of its own, until a batch had a loss below `uniform` (None: not within `asked`, 0: it was not too high).
    """

    first: float
    uniform: float
    asked: int
    updates: int | None = None
