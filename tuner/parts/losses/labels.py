"""Losses of several labels per example: targets (N, C) of 0 and 1; one class per example is taken as one-hot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.parts.losses._targets import are_mixed, are_of_classes, indices, per_class, shares


def bce(outputs: Tensor, targets: Tensor, weight: Sequence[float] | None = None) -> Tensor:
    """Take the binary cross-entropy of each output's sigmoid, mean over examples and labels: log 2 at zero outputs.

    Also of a single output (N,) or (N, 1) with one label of 0 or 1 per example. `weight`: one factor per label.

    When: several labels per example.
    Source: the notes on competitions, baseline: multi-label classification.
    """
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        labels = targets.reshape(outputs.shape).to(outputs.dtype)
    else:
        labels = shares(targets, outputs)
    return F.binary_cross_entropy_with_logits(outputs, labels, weight=per_class(weight, outputs))


def f_beta(outputs: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """Take 1 - the soft F-beta: counts of hits and false alarms made of the sigmoids, per label, mean over labels.

    When: the score is F-beta; beside bce (a list of losses), for alone it says little while all outputs are wrong.
    beta: 0.5 to 2, log.
    Source: the notes on competitions, metric loss; the F-beta of probabilities, Jansche 2005.
    """
    labels = shares(targets, outputs)
    one_class = targets.ndim == 1 or are_of_classes(targets)
    p = outputs.softmax(1) if one_class else outputs.sigmoid()
    hits, alarms, missed = (p * labels).sum(0), (p * (1 - labels)).sum(0), ((1 - p) * labels).sum(0)
    squared = beta**2
    return 1 - ((1 + squared) * hits / ((1 + squared) * hits + squared * missed + alarms).clamp(min=1e-8)).mean()


def lovasz(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the Lovasz extension of 1 - IoU (Jaccard), per class that occurs: softmax errors, or hinge for labels.

    When: the score is the intersection over union, or labels are rare.
    Source: M. Berman et al. 2018, The Lovasz-Softmax loss; the notes on competitions, Lovasz loss.
    """
    if targets.ndim == 2:  # hinge, each label of the batch as one set
        if are_mixed(targets):
            indices(targets, "lovasz")
        signs = 2 * targets.to(outputs.dtype) - 1
        errors, members = 1 - outputs * signs, targets
        return torch.stack([_extension(F.relu(errors[:, c]), members[:, c]) for c in range(outputs.shape[1])]).mean()
    p, labels = outputs.softmax(1), F.one_hot(indices(targets, "lovasz"), outputs.shape[1])
    present = labels.any(0).nonzero()[:, 0].tolist()
    return torch.stack([_extension((labels[:, c] - p[:, c]).abs(), labels[:, c]) for c in present]).mean()


def _extension(errors: Tensor, members: Tensor) -> Tensor:
    """Return the errors, largest first, times the steps by which the Jaccard loss grows as each becomes wrong."""
    if errors.shape[0] == 0:
        return errors.sum()
    ordered, order = errors.sort(descending=True)
    sorted_members = members[order].to(errors.dtype)
    total = sorted_members.sum()
    union = total + (1 - sorted_members).cumsum(0)
    jaccard = 1 - (total - sorted_members.cumsum(0)) / union
    return (ordered * torch.diff(jaccard, prepend=jaccard.new_zeros(1))).sum()
