"""Penalties: functions `penalty(model, outputs, **args)` that give a scalar which is added to the loss of each step.

Only weights are penalised, not biases and the factors of normalisation layers: parameters of two dimensions or more.
Adding one is adding a function. Weight decay is the optimizer's (`optimizer.weight_decay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def l1(model: nn.Module, outputs: Any, factor: float = 1e-5) -> Tensor:
    """Add `factor` times the sum of the weights' absolute values; many weights become small, few stay.

    When: a sparse model is wanted, or weight decay alone does not close the gap between train and val.
    factor: 1e-7 to 1e-3, log.
    Source: the lecture, regularisation: R(W) = sum |W|; R. Tibshirani 1996.
    """
    return factor * torch.stack([weight.abs().sum() for weight in _weights(model)]).sum()


def l2(model: nn.Module, outputs: Any, factor: float = 1e-4) -> Tensor:
    """Add `factor` times the sum of the squared weights; for adaptive optimizers this is not weight decay.

    When: the objective must hold its penalty, as in a closed-form comparison; else use `optimizer.weight_decay`.
    factor: 1e-6 to 1e-2, log.
    Source: the lecture, regularisation: R(W) = sum W^2.
    """
    return factor * torch.stack([weight.square().sum() for weight in _weights(model)]).sum()


def elastic(model: nn.Module, outputs: Any, factor: float = 1e-5, beta: float = 1.0) -> Tensor:
    """Add `factor` times the sum of beta W^2 + |W|.

    When: L1 drops too much of groups of correlated weights.
    factor: 1e-7 to 1e-3, log. beta: 0.1 to 10, log.
    Source: the lecture, regularisation: R(W) = sum beta W^2 + |W|; H. Zou, T. Hastie 2005.
    """
    return factor * torch.stack([beta * weight.square().sum() + weight.abs().sum() for weight in _weights(model)]).sum()


def confidence(model: nn.Module, outputs: Any, factor: float = 0.1) -> Tensor:
    """Add minus `factor` times the entropy (nats) of the softmax: confident answers cost.

    When: the model is over-confident on val; label smoothing does nearly the same.
    factor: 0.01 to 1, log.
    Source: G. Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions.
    """
    log_p = outputs.log_softmax(1)
    return factor * (log_p.exp() * log_p).sum(1).mean()


def _weights(model: nn.Module) -> Iterator[Tensor]:
    return (item for item in model.parameters() if item.requires_grad and item.ndim > 1)
