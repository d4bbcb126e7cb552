"""Evidence of the measurement loss_function."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LossFunction(Evidence):
    """What the loss function itself says, in its own units: how low it goes, and what it rewards.

    `uniform`: its value at outputs that say nothing; `free_floor`: the least over free outputs; `own_floor`: over
    outputs of the model's `kind`; `*_unbounded`: it falls without end. `unpaired`: it stays the same with the
    targets in another order, `untouched`: at any others; `rewards_wrong`: raising the target's output raises it;
    `over_batch`: scores are normalised over the examples. None where it cannot be asked.
    """

    kind: str
    uniform: float | None
    free_floor: float | None
    own_floor: float | None
    free_unbounded: bool = False
    own_unbounded: bool = False
    unpaired: bool | None = None
    untouched: bool | None = None
    rewards_wrong: bool | None = None
    over_batch: bool | None = None
    loss_name: str = ""
