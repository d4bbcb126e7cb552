"""Evidence of the measurement step_diet."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class StepDiet(Evidence):
    """Which examples reach the model when the user's step is given batches that share none, and with which labels.

    `used`: the share of each batch that the model sees; of what it sees, `stale`: were in an earlier batch only,
    `unknown`: were in none. `mispaired`: labels given to the loss that are not those of the model's inputs.
    """

    own_step: bool
    given: int = 0
    forwarded: int = 0
    used: float = 1.0
    stale: float = 0.0
    unknown: float = 0.0
    mispaired: float | None = None
