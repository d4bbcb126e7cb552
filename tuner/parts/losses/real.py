"""Losses of real-valued targets: (N,) or (N, D), with outputs of the same shape ((N, 1) for (N,))."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tuner.core.errors import UsageError


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the mean squared distance.

    When: regression with errors that are about normal. The variance of the targets at their mean.
    Source: the notes, loss functions: mean squared error (L2).
    """
    return F.mse_loss(*_fitted(outputs, targets, "mse"))


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the mean absolute distance.

    When: regression with outliers, which it is robust against.
    Source: the notes, loss functions: mean absolute error (L1).
    """
    return F.l1_loss(*_fitted(outputs, targets, "mae"))


def huber(outputs: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Take half the squared distance up to `delta`, and beyond it delta times (the distance - delta / 2).

    When: regression with outliers, smooth near the target.
    delta: 0.1 to 10, log.
    Source: P. Huber 1964.
    """
    return F.huber_loss(*_fitted(outputs, targets, "huber"), delta=delta)


def _fitted(outputs: Tensor, targets: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if not targets.is_floating_point():
        hint = 'Set data.task = "regression"; for classes take cross_entropy or mse_one_hot.'
        raise UsageError(f"loss.name: {name} needs real targets, they are {targets.dtype}", hint)
    flat = outputs.squeeze(1) if outputs.ndim == targets.ndim + 1 and outputs.shape[1] == 1 else outputs
    if flat.shape != targets.shape:
        shapes = f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape {tuple(targets.shape)}"
        raise UsageError(f"loss.name: {name}: {shapes}", "Give one output per value of the target.")
    return flat, targets.to(outputs.dtype)
