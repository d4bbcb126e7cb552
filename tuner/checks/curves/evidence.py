"""Evidence of the measurement curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Curves(Evidence):
    """The winner's curves, one value per epoch (None where one is missing or not finite), and what was at its best
    epoch.

    `val_*`, `train_*`: eval mode, no augmentation, on val and on a train subset of val's size (`val_n`);
    `running_*`: the training objective. Losses in nats, accuracies as fractions; `lrs`: the rate. `gap`: train
    minus val accuracy, `gap_interval`: its 95 % interval. `best_epochs`: of every seed, from 1. `majority_share`:
    of val's largest class. `target`: the train accuracy that counts as fitted. `own_evaluate`: val is measured by
    the recipe's own code.
    `copies_in_train`: the share of train examples that have a near copy in train. `lost_at`: the first epoch whose
    running loss is not finite, `last_finite_loss` the one before it, `lost_lr` the rate then.
    """

    epochs: int
    best_epoch: int | None = None
    best_epochs: Sequence[int] | None = None
    steps: int = 0
    val_n: int | None = None
    majority_share: float | None = None
    target: float = 0.95
    monitor: str = "val_accuracy"
    own_evaluate: bool | None = None
    copies_in_train: float | None = None
    plain_cross_entropy: bool | None = None
    val_accuracies: Sequence[float] | None = None
    val_losses: Sequence[float] | None = None
    train_accuracies: Sequence[float] | None = None
    train_losses: Sequence[float] | None = None
    running_losses: Sequence[float] | None = None
    running_accuracies: Sequence[float] | None = None
    lrs: Sequence[float] | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None
    train_loss: float | None = None
    gap: float | None = None
    gap_interval: Sequence[float] | None = None
    lost_at: int | None = None
    last_finite_loss: float | None = None
    lost_lr: float | None = None
