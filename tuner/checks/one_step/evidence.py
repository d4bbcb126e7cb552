"""Evidence of the measurement one_step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Normalisation:
    """Batch norms in train mode: how many, those used whose running statistics stayed, and the largest momentum."""

    layers: int = 0
    still: Sequence[str] = ()
    largest_momentum: float | None = None


@dataclass(frozen=True)
class OneStep(Evidence):
    """A few updates with the recipe's optimizer and step: what got gradient, what moved. Parameters are named.

    `calls` of the step made `updates`; `other_optimizers`: made updates beside the recipe's. `had_gradient`: at any
    update; `no_gradient`, `zero_gradient`: missing or exactly 0 at the last. `not_moved`: had gradient and stayed.
    `frozen_at_random`: frozen at values that another seed makes different; `frozen_by_the_recipe`: by `[finetune]`.
    `unregistered`: shapes of trainable tensors that are no parameters. `rates_set`: the rates of the updates where they
    change between them. `parameters`, `trainable`: counts of numbers. `batch_size`: the recipe's.
    """

    updates: int
    calls: int
    parameters: int
    trainable: int
    moved: int
    known_to_optimizer: int
    other_optimizers: int = 0
    foreign_in_optimizer: int = 0
    steps_per_epoch: int = 0
    batch_size: int | None = None
    state_lost: bool = False
    momentum: float = 0.0
    rates_set: Sequence[float] = ()
    precisions: Sequence[str] = ()
    frozen: Sequence[str] = ()
    frozen_at_random: Sequence[str] = ()
    frozen_by_the_recipe: Sequence[str] = ()
    unregistered: Sequence[Sequence[int]] = ()
    unknown_to_optimizer: Sequence[str] = ()
    at_rate_0: Sequence[str] = ()
    no_gradient: Sequence[str] = ()
    zero_gradient: Sequence[str] = ()
    had_gradient: Sequence[str] = ()
    not_moved: Sequence[str] = ()
    forward_in_eval_mode: bool = False
    left_in_eval_mode: bool = False
    eval_modules: Sequence[str] = ()
    normalisation: Normalisation = Normalisation()
