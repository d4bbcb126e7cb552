"""Losses: functions `loss(outputs, targets, **args)` of a batch that give the mean, in nats for likelihoods.

Adding a loss is adding a function. outputs: (N, C) logits unless said otherwise; targets: (N,) class indices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, weight: Sequence[float] | None = None
) -> Tensor:
    """Take the negative log-likelihood of the softmax; `weight`: one factor per class.

    With smoothing s the target is (1 - s) one-hot + s / C, so that the floor is its entropy, not 0.
    """
    return F.cross_entropy(outputs, targets, weight=_per_class(weight, outputs), label_smoothing=label_smoothing)


def focal(outputs: Tensor, targets: Tensor, gamma: float = 2.0, weight: Sequence[float] | None = None) -> Tensor:
    """Scale each example's cross-entropy by (1 - p)^gamma, p the probability of its class: easy examples count less.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection.
    """
    log_p = F.log_softmax(outputs, dim=1).gather(1, targets[:, None]).squeeze(1)
    losses = -((1 - log_p.exp()) ** gamma) * log_p
    factors = _per_class(weight, outputs)
    return losses.mean() if factors is None else (losses * factors[targets]).mean()


def nll(outputs: Tensor, targets: Tensor, weight: Sequence[float] | None = None) -> Tensor:
    """Take the negative log-likelihood of outputs that are log-probabilities already (a log_softmax ends the model)."""
    return F.nll_loss(outputs, targets, weight=_per_class(weight, outputs))


def mse_one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the mean squared distance of the raw outputs from the one-hot targets, over examples and classes."""
    return F.mse_loss(outputs, _one_hot(targets, outputs))


def brier(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the squared distance of the softmax from the one-hot target, summed over classes, mean over examples.

    Source: Brier 1950; (C - 1) / C at uniform outputs.
    """
    return (outputs.softmax(dim=1) - _one_hot(targets, outputs)).square().sum(dim=1).mean()


def bce_one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the binary cross-entropy of each output against the one-hot targets: log 2 at zero outputs, for any C."""
    return F.binary_cross_entropy_with_logits(outputs, _one_hot(targets, outputs))


def multi_margin(
    outputs: Tensor, targets: Tensor, margin: float = 1.0, p: int = 1, weight: Sequence[float] | None = None
) -> Tensor:
    """Take the multi-class hinge loss: by how much each other output comes nearer than `margin` to the right one."""
    return F.multi_margin_loss(outputs, targets, p=p, margin=margin, weight=_per_class(weight, outputs))


def _per_class(weight: Sequence[float] | None, outputs: Tensor) -> Tensor | None:
    return None if weight is None else torch.as_tensor(weight, dtype=outputs.dtype, device=outputs.device)


def _one_hot(targets: Tensor, outputs: Tensor) -> Tensor:
    return F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
