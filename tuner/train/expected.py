"""What a loss says of outputs that know nothing of the input, for every task: asked of the loss function itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.train.data import Data


def class_counts(data: Data) -> Tensor:
    """Return how many train examples, or positions, each class has; an ignored position has none.

    Of labels: how many examples have each. Of quantities there is nothing to count: one class.
    """
    targets = data.targets("train")
    if data.task.noun == "label":
        return targets.sum(0)
    if data.task.noun == "value":
        return torch.tensor([len(targets)])
    inside = targets[(targets >= 0) & (targets < data.num_classes)] if targets.ndim > 1 else targets.clamp_min(0)
    return torch.bincount(inside, minlength=data.num_classes)[: data.num_classes]


def entropies(data: Data, counts: Tensor) -> dict[str, float | None]:
    """Return the loss of knowing nothing in nats, where the targets have one: at equal shares and at the real ones."""
    if data.task.noun == "value":
        return {"log_c": None, "prior_entropy": None}
    if data.task.noun == "label":
        shares = counts.double() / len(data.targets("train"))
        each = -torch.special.xlogy(shares, shares) - torch.special.xlogy(1 - shares, 1 - shares)
        return {"log_c": math.log(2), "prior_entropy": float(each.mean())}
    shares = counts.double() / counts.sum()
    return {"log_c": math.log(data.num_classes), "prior_entropy": float(-torch.special.xlogy(shares, shares).sum())}


def towards(targets: Tensor, shape: torch.Size) -> Tensor | None:
    """Return outputs of the shape that favour each target by 1: one-hot, +-1 for yes and no, the quantity itself."""
    scores = not targets.is_floating_point() and len(shape) == targets.ndim + 1 and shape[1] > 1
    if scores and tuple(shape[2:]) == tuple(targets.shape[1:]):
        return F.one_hot(targets.clamp(0, shape[1] - 1), shape[1]).movedim(-1, 1).float()
    if not targets.is_floating_point() and targets.ndim > 1 and tuple(shape[:-1]) == tuple(targets.shape):
        return F.one_hot(targets.clamp(0, shape[-1] - 1), shape[-1]).float()
    if targets.numel() == math.prod(shape):
        values = targets.float().reshape(shape)
        yes_or_no = bool(((values == 0) | (values == 1)).all())
        return 2.0 * values - 1 if yes_or_no else values
    return None
