"""Targets as the losses need them: class indices, shares of the classes, factors per class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.core.errors import UsageError


def shares(targets: Tensor, outputs: Tensor) -> Tensor:
    """Return targets as (N, C): one-hot of class indices; shares as they are."""
    if targets.is_floating_point():
        return targets
    return F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)


def are_mixed(targets: Tensor) -> bool:
    """Return whether targets (N, C) are shares that an augmentation mixed, neither 0 nor 1."""
    return bool(((targets > 0) & (targets < 1)).any())


def are_of_classes(targets: Tensor) -> bool:
    """Return whether targets (N, C) are mixed shares of classes, which add up to 1, not labels by themselves."""
    return are_mixed(targets) and bool(((targets.sum(1) - 1).abs() < 1e-4).all())


def indices(targets: Tensor, name: str) -> Tensor:
    """Return class indices.

    Raises:
        UsageError: "needs one class per example": the targets are shares.
    """
    if targets.is_floating_point():
        raise UsageError(
            f"loss.name: {name} needs one class per example, the targets are shares of shape {tuple(targets.shape)}",
            "Leave mixup and cutmix out, or take a loss of shares such as cross_entropy.",
        )
    return targets


def counted(targets: Tensor, weight: Sequence[float] | None = None, ignore_index: int = -100) -> Tensor:
    """Return what a batch counts in a mean over classes, as torch's cross-entropy divides by it.

    How many targets have a class, or the sum of the factors of their classes; of shares the number of examples.
    """
    if targets.is_floating_point():
        return torch.tensor(len(targets))
    kept = targets != ignore_index
    if weight is None:
        return kept.sum()
    factors = torch.as_tensor(weight, dtype=torch.float64, device=targets.device)
    return (factors[torch.where(kept, targets, 0)] * kept).sum()


def per_class(weight: Sequence[float] | None, outputs: Tensor) -> Tensor | None:
    """Return the factors of the classes as a tensor like the outputs."""
    return None if weight is None else torch.as_tensor(weight, dtype=outputs.dtype, device=outputs.device)
