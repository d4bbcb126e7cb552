"""Losses of the wrong kind beyond cross-entropy, beside those that are meant so."""

import torch
from torch.nn import functional

from tests.zoo.case import bug, healthy


def soft(targets, classes, share=0.9):
    return functional.one_hot(targets, classes).float() * share + (1 - share) / classes


@bug(
    "shapes-conv",
    "loss.name",
    causes=["loss-mismatch"],
    step="check-init",
)
def divergence_of_probabilities(outputs, targets):
    """kl_div is given probabilities as its first argument, where log-probabilities belong."""
    return functional.kl_div(outputs.softmax(1), soft(targets, outputs.shape[1]), reduction="batchmean")


@healthy("shapes-conv", "loss.name")
def divergence_of_log_probabilities(outputs, targets):
    """kl_div of log-probabilities and softened targets."""
    return functional.kl_div(outputs.log_softmax(1), soft(targets, outputs.shape[1]), reduction="batchmean")


@bug(
    "digits-mlp",
    "loss.name",
    causes=["loss-mismatch"],
    step="check-init",
    changes={"optimizer.lr": 0.5},
    twin={"optimizer.lr": 0.5, "loss.name": "losses.py:soft_margin_of_both_signs"},
    source="https://pytorch.org/docs/stable/generated/torch.nn.SoftMarginLoss.html",
)
def soft_margin_of_zeros_and_ones(outputs, targets):
    """The soft margin loss wants -1 and 1, and is given 0 and 1: what is not the class is never pushed down."""
    return functional.soft_margin_loss(outputs, functional.one_hot(targets, outputs.shape[1]).float())


@healthy("digits-mlp", "loss.name", changes={"optimizer.lr": 0.5})
def soft_margin_of_both_signs(outputs, targets):
    """The soft margin loss of -1 and 1."""
    return functional.soft_margin_loss(outputs, 2 * functional.one_hot(targets, outputs.shape[1]).float() - 1)


@bug("shapes-conv", "loss.name", causes=["loss-mismatch"], step="check-init")
def likelihood_clamped_from_below(outputs, targets):
    """The probability is clamped at 0.2 before its logarithm: where the model is wrong there is no gradient."""
    probability = outputs.softmax(1).gather(1, targets[:, None])[:, 0]
    return -probability.clamp(0.2, 1).log().mean()


@healthy("shapes-conv", "loss.name")
def likelihood_clamped_at_a_millionth(outputs, targets):
    """The probability is clamped at 1e-6, against the logarithm of 0 alone."""
    probability = outputs.softmax(1).gather(1, targets[:, None])[:, 0]
    return -torch.log(probability.clamp(1e-6, 1)).mean()
