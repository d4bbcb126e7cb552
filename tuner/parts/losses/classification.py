"""Losses of one class per example: cross-entropy and what is made of it, squared and hinge losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.core.errors import UsageError
from tuner.parts.losses._targets import indices, per_class, shares


def cross_entropy(
    outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, weight: Sequence[float] | None = None
) -> Tensor:
    """Take the negative log-likelihood of the softmax; `weight`: one factor per class, or "balanced".

    With smoothing s the target is (1 - s) one-hot + s / C, so that the floor is its entropy, not 0.

    When: one class per example; the place to begin. Smoothing where labels are few or not always right.
    label_smoothing: 0 to 0.2.
    Source: the lecture, checking the initial loss: -log(1 / C) at uniform outputs; C. Szegedy et al. 2015 (smoothing).
    """
    return F.cross_entropy(outputs, targets, weight=per_class(weight, outputs), label_smoothing=label_smoothing)


def focal(outputs: Tensor, targets: Tensor, gamma: float = 2.0, weight: Sequence[float] | None = None) -> Tensor:
    """Scale each example's cross-entropy by (1 - p)^gamma, p the probability of its class: easy examples count less.

    When: classes of very different size, where most examples are easy.
    gamma: 0.5 to 5.
    Source: T. Lin et al. 2017, Focal Loss for Dense Object Detection; the notes on competitions, class balance.
    """
    log_p = F.log_softmax(outputs, dim=1)
    missing = (1 - log_p.exp()).clamp(min=1e-12)  # a power below 1 has no finite slope at 0, where p is rounded to 1
    losses = -(missing**gamma) * log_p
    factors = per_class(weight, outputs)
    losses = losses if factors is None else losses * factors
    return (losses * shares(targets, outputs)).sum(1).mean()


def ohem(outputs: Tensor, targets: Tensor, share: float = 0.5, label_smoothing: float = 0.0) -> Tensor:
    """Take the mean cross-entropy of the `share` of the batch where it is largest: hard examples alone are learnt from.

    When: most examples are learnt already. Wrong labels are hard examples too: not with noisy labels.
    share: 0.1 to 1.
    Source: A. Shrivastava et al. 2016; the notes on competitions, top-k loss.
    """
    if not 0 < share <= 1:
        raise UsageError(f"loss.share: must be above 0, up to 1 (got {share!r})")
    losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)
    return losses.topk(max(1, math.ceil(share * len(losses)))).values.mean()


def nll(outputs: Tensor, targets: Tensor, weight: Sequence[float] | None = None) -> Tensor:
    """Take the negative log-likelihood of outputs that are log-probabilities already (a log_softmax ends the model)."""
    return F.nll_loss(outputs, indices(targets, "nll"), weight=per_class(weight, outputs))


def kl(outputs: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Take the Kullback-Leibler divergence of softmax(outputs / T) from the targets' shares, times T squared.

    When: targets are distributions: a teacher's answers, several annotators. For one class per example it is the
    cross-entropy.
    temperature: 1 to 10, log.
    Source: G. Hinton, O. Vinyals, J. Dean 2015, Distilling the Knowledge in a Neural Network.
    """
    if not temperature > 0:
        raise UsageError(f"loss.temperature: must be greater than 0 (got {temperature!r})")
    log_p = F.log_softmax(outputs / temperature, dim=1)
    return F.kl_div(log_p, shares(targets, outputs), reduction="batchmean") * temperature**2


def mse_one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the mean squared distance of the raw outputs from the one-hot targets, over examples and classes."""
    return F.mse_loss(outputs, shares(targets, outputs))


def brier(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the squared distance of the softmax from the one-hot target, summed over classes, mean over examples.

    Source: G. Brier 1950; (C - 1) / C at uniform outputs.
    """
    return (outputs.softmax(dim=1) - shares(targets, outputs)).square().sum(dim=1).mean()


def bce_one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Take the binary cross-entropy of each output against the one-hot targets: log 2 at zero outputs, for any C."""
    return F.binary_cross_entropy_with_logits(outputs, shares(targets, outputs))


def multi_margin(
    outputs: Tensor, targets: Tensor, margin: float = 1.0, p: int = 1, weight: Sequence[float] | None = None
) -> Tensor:
    """Take the multi-class hinge loss: by how much each other output comes nearer than `margin` to the right one.

    When: a large-margin classifier is wanted; wrong labels weigh as much as they are wrong.
    margin: 0.1 to 10, log.
    Source: the lecture, regularisation: the sum over j of max(0, f_j - f_y + 1); the notes, hinge loss.
    """
    labels = indices(targets, "multi_margin")
    return F.multi_margin_loss(outputs, labels, p=p, margin=margin, weight=per_class(weight, outputs))


def cosface(outputs: Tensor, targets: Tensor, s: float = 16.0, m: float = 0.35) -> Tensor:
    """Take the cross-entropy of s (cos - m) for the right class and s cos for the others; outputs are cosines.

    The scale s bounds the loss from below: with C classes about log(1 + (C - 1) exp(-2 s)) at best, so that few
    classes need a small s and many a large one.

    When: features are compared by their angle (retrieval, open sets); with `model.head = "cosine"`.
    s: 4 to 64, log. m: 0.05 to 0.5.
    Source: H. Wang et al. 2018, CosFace; the notes on competitions, margin-based softmax.
    """
    labels = indices(targets, "cosface")
    cosines = _cosines(outputs, "cosface")
    return F.cross_entropy(s * (cosines - m * F.one_hot(labels, outputs.shape[1])), labels)


def arcface(outputs: Tensor, targets: Tensor, s: float = 16.0, m: float = 0.3) -> Tensor:
    """Take the cross-entropy of s cos(angle + m) for the right class and s cos for the others; outputs are cosines.

    Where the angle plus m would pass pi, the cosine goes on falling in a straight line: cos - m sin(m).

    When: as cosface; the margin is one of the angle.
    s: 4 to 64, log. m: 0.05 to 0.7.
    Source: J. Deng et al. 2019, ArcFace; the notes on competitions, margin-based softmax.
    """
    labels = indices(targets, "arcface")
    cosines = _cosines(outputs, "arcface").clamp(-1 + 1e-7, 1 - 1e-7)
    right = cosines.gather(1, labels[:, None])
    moved = torch.where(right > -math.cos(m), torch.cos(right.acos() + m), right - m * math.sin(m))
    return F.cross_entropy(s * cosines.scatter(1, labels[:, None], moved), labels)


def _cosines(outputs: Tensor, name: str) -> Tensor:
    if bool((outputs.detach().abs() > 1.001).any()):
        raise UsageError(
            f"loss.name: {name} needs cosines as outputs, one is {float(outputs.detach().abs().max()):.3g}",
            'Set model.head = "cosine".',
        )
    return outputs
