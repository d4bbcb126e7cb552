"""Evidence of the measurement overfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Overfit(Evidence):
    """One attempt to fit a tiny fixed subset, at one rate. Losses in the loss's own units.

    `status`: floor, plateau (stuck), steps (still falling at the end), diverged. `loss_floor`: the least over free
    outputs; `target`: near enough to it; `span`: from there to the loss at uniform outputs. `squashed_floors`: over
    outputs behind a softmax, sigmoid, tanh; `constant_floor`: of a constant output. `ambiguous`: the share of the
    positions whose beginning goes on differently elsewhere, for a model that reads in order: its floors are of one
    answer for equal beginnings. `cut_off`: the share of the wrong answers whose right class has an output of exactly
    0. `recalibrated_*`: in eval mode after more forwards in train mode; `own_statistics_*`: with the subset's own
    running statistics. `reference`: Adam in place of the recipe's optimizer. None where the attempt diverged.
    """

    status: str
    lr: float
    kind: str = "logits"
    reference: bool = False
    steps: int = 0
    examples: int = 0
    classes: int = 0
    distinct_inputs: int = 2
    moved: bool = True
    unbounded: bool = False
    random_in_train_mode: bool = False
    loss_floor: float | None = None
    own_floor: float | None = None
    loss_at_uniform: float | None = None
    constant_floor: float | None = None
    ambiguous: float = 0.0
    label_entropy: float | None = None
    squashed_floors: Mapping[str, float | None] = field(default_factory=dict)
    span: float | None = None
    target: float | None = None
    first_loss: float | None = None
    initial_loss: float | None = None
    last_objective: float | None = None
    lowest_loss: float | None = None
    final_loss: float | None = None
    final_accuracy: float | None = None
    train_mode_loss: float | None = None
    eval_loss: float | None = None
    eval_accuracy: float | None = None
    outputs_low: float | None = None
    outputs_high: float | None = None
    outputs_vary: float | None = None
    cut_off: float | None = None
    loss_zeroed: float | None = None
    loss_rolled: float | None = None
    norm_layers: int = 0
    smallest_momentum: float | None = None
    recalibrated_loss: float | None = None
    recalibrated_accuracy: float | None = None
    own_statistics_loss: float | None = None
    own_statistics_accuracy: float | None = None
    curve: Sequence[Mapping[str, Any]] = ()
