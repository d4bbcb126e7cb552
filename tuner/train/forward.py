"""The way of a batch from the inputs to what an update goes backward from, and how that is done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tuner.train.evaluate import Context, as_float
from tuner.train.own_loss import told

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Forward:
    """What a batch gave: what to go backward from, the objective (detached), the outputs with their targets."""

    backward: Tensor
    objective: Tensor
    outputs: Any
    targets: Tensor


class Together(Protocol):
    """Takes a batch forward that several processes share out between them."""

    def examples(self, batch: Batch) -> int:
        """Return how many examples the batch has in all processes."""

    def __call__(self, batch: Batch, how: How, is_last: bool) -> Forward:
        """Take a share forward; gradients are summed over the processes with the last batch of an update."""


@dataclass(frozen=True)
class How:
    """How an update is made: its precision, the limit of the gradients' norm, what is added to the loss.

    `together`: what takes a batch forward that is one process's share; None: the batch is a whole one.
    """

    autocast: Context = nullcontext
    scaler: torch.amp.GradScaler | None = None
    clip_norm: float | None = None
    penalty: Callable[..., Tensor | None] = lambda **offered: None
    together: Together | None = None


def forward(model: nn.Module, batch: Batch, loss: Callable[[Any, Tensor], Tensor], how: How) -> Forward:
    """Take a batch through the model and the loss, and add the penalties."""
    inputs, targets = batch
    with told(targets):
        with how.autocast():
            outputs = as_float(model(inputs))
        objective = loss(outputs, targets)
    extra = how.penalty(model=model, outputs=outputs, inputs=inputs, targets=targets)
    objective = objective if extra is None else objective + extra
    return Forward(objective, objective.detach(), outputs, targets)
