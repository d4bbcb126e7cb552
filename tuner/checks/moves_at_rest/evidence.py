"""Evidence of the measurement moves_at_rest."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class MovesAtRest(Evidence):
    """The user's step at rate and decay 0, until an update was made. `calls` of the step; `moved`: by what share of
    their length the weights moved all the same; `uphill`: the cosine of that move and the gradient of the update;
    `weights`: how many numbers have a gradient.
    """

    calls: int
    moved: float
    uphill: float | None
    weights: int | None = None
