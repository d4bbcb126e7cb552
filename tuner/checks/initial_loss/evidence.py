"""Evidence of the measurement initial_loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class InitialLoss(Evidence):
    """The loss of the fresh model over several seeds: train mode, dropout off, no augmentation; in nats.

    `loss_at_uniform`, `loss_at_prior`: the loss function's own value on the same batches at outputs that say
    nothing about the input, and at the classes' shares; of quantities `loss_at_zero` at outputs of zero.
    `kind`: of outputs (logits, probabilities, ...); `output_shape`: of one example. `too_narrow`: fewer outputs than
    classes, so that no loss was computed; `narrow`: fewer, and the loss takes them, as one of ordered classes does.
    `doubled_batch_ratio`: the loss on a batch and its copy over that on the batch: 1 for a mean, 2 for a sum.
    """

    num_classes: int
    output_shape: Sequence[int]
    task: str = "classification"
    score_name: str | None = None
    kind: str = "logits"
    log_c: float | None = None
    prior_entropy: float | None = None
    examples: int = 0
    batch_size: int = 0
    too_narrow: bool = False
    narrow: bool = False
    random_in_train_mode: bool = False
    init_losses: Sequence[float | None] | None = None
    init_loss: float | None = None
    init_loss_std: float | None = None
    init_accuracy: float | None = None
    output_std: float | None = None
    loss_at_uniform: float | None = None
    loss_at_prior: float | None = None
    loss_at_zero: float | None = None
    doubled_batch_ratio: float | None = None
