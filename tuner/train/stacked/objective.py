"""The objectives of a stack: each trial's own loss of its own outputs, and the gradients that lead back from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.recipe.registry import arguments

Loss = Callable[[Any, Tensor], Tensor]


def is_plain(table: Mapping[str, Any]) -> bool:
    """Return whether a loss is the cross-entropy as it is, without smoothing, weights or targets that are left out."""
    return table["name"] == "cross_entropy" and not any(arguments(table).values())


def objectives(outputs: Tensor, targets: Tensor, losses: Sequence[Loss], plain: bool) -> tuple[list[Tensor], Tensor]:
    """Return the objective of each trial, and the gradient of each with respect to its outputs.

    Shapes: outputs (K, N, ...), targets (K, N, ...); K objectives, gradients as outputs. `plain`: all are `is_plain`.
    """
    outputs = outputs.detach()
    if plain and outputs.ndim == 3 and targets.ndim == 2 and not targets.is_floating_point():
        return _cross_entropy(outputs, targets)
    leaves = [part.requires_grad_() for part in outputs.clone().unbind()]
    values = [loss(part, target) for loss, part, target in zip(losses, leaves, targets.unbind(), strict=True)]
    grads = torch.autograd.grad(values, leaves)
    return [value.detach() for value in values], torch.stack(grads)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the mean cross-entropies, and their gradients by the operations that torch takes for one of them."""
    log_p = F.log_softmax(outputs, dim=2)
    values = [F.nll_loss(part, target) for part, target in zip(log_p.unbind(), targets.unbind(), strict=True)]
    share = torch.tensor(-1.0) / targets.shape[1]
    picked = torch.zeros_like(log_p).scatter_(2, targets.unsqueeze(2), float(share))
    return values, torch._log_softmax_backward_data(picked, log_p, 2, log_p.dtype)
