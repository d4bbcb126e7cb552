"""Losses and outputs that look unusual and are sound."""

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import healthy
from tuner.parts import models

healthy(
    "digits-conv",
    name="label_smoothing_of_a_tenth",
    changes={"loss.name": "cross_entropy", "loss.label_smoothing": 0.1},
    what="Label smoothing 0.1: the loss cannot fall below 0.50.",
)
healthy(
    "cifar-convbn",
    name="label_smoothing_on_photographs",
    changes={"loss.name": "cross_entropy", "loss.label_smoothing": 0.1, "optimizer.weight_decay": 5e-4},
    what="Label smoothing 0.1 and weight decay on photographs.",
)
healthy(
    "digits-mlp",
    name="hinge_loss",
    changes={"loss.name": "multi_margin"},
    what="The multi-class hinge loss: its value at the start is not log C.",
)


@healthy("shapes-conv", "loss.name", source="Lin et al. 2017, focal loss")
def focal_loss(outputs, targets):
    """The focal loss with gamma 2: lower than log C at the start."""
    log = functional.log_softmax(outputs, 1).gather(1, targets[:, None])[:, 0]
    return (-((1 - log.exp()) ** 2) * log).mean()


@healthy("digits-resnet", "loss.name")
def binary_loss_per_class(outputs, targets):
    """One binary question per class: log 2 at the start, whatever the number of classes."""
    return functional.binary_cross_entropy_with_logits(outputs, functional.one_hot(targets, outputs.shape[1]).float())


@healthy("digits-mlp", "loss.name", source="Brier 1950")
def brier_score(outputs, targets):
    """The squared error of the probabilities, chosen on purpose."""
    return (outputs.softmax(1) - functional.one_hot(targets, outputs.shape[1])).square().sum(1).mean()


@healthy("shapes-conv", "loss.name")
def soft_targets(outputs, targets):
    """Cross-entropy against one-hot vectors of floats."""
    return functional.cross_entropy(outputs, functional.one_hot(targets, outputs.shape[1]).float())


@healthy("digits-mlp", "loss.name", source="Pereyra et al. 2017, confident outputs")
def confidence_penalty(outputs, targets):
    """Cross-entropy minus a tenth of the entropy of the outputs."""
    log = outputs.log_softmax(1)
    return functional.nll_loss(log, targets) + 0.1 * (log.exp() * log).sum(1).mean()


@healthy("digits-conv", "model.name")
def log_softmax_before_cross_entropy(input_shape, num_classes, width, depth, batch_norm):
    """log_softmax before cross-entropy changes nothing: it is its own log_softmax."""
    return nn.Sequential(
        models.convnet(input_shape, num_classes, width, depth, batch_norm=batch_norm), nn.LogSoftmax(1)
    )


@healthy("cancer-mlp", "model.name", changes={"loss.name": "losses.py:likelihood"})
def log_probabilities_and_nll(input_shape, num_classes, width, depth):
    """The model gives log-probabilities, the loss is the negative log-likelihood: they fit."""
    return nn.Sequential(models.mlp(input_shape, num_classes, width, depth), nn.LogSoftmax(1))


def likelihood(outputs, targets):
    return functional.nll_loss(outputs, targets)


class Capped(nn.Module):
    """Logits that are bent softly at +-30."""

    def forward(self, x):
        return 30 * torch.tanh(x / 30)


@healthy("digits-transformer", "model.name", source="Gemma 2, logit soft-capping")
def soft_capped_logits(input_shape, num_classes):
    """30 tanh(x / 30) after the head."""
    from tests.zoo import parts

    return nn.Sequential(parts.transformer(input_shape, num_classes), Capped())


class CosineHead(nn.Module):
    """Scores that are cosines, times a learned scale."""

    def __init__(self, features, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x):
        return self.scale * functional.linear(functional.normalize(x), functional.normalize(self.weight))


@healthy("digits-mlp", "model.name", source="Gidaris and Komodakis 2018, cosine classifier")
def cosine_head(input_shape, num_classes, width):
    """The head compares directions; its scale is learned and starts at 10."""
    return nn.Sequential(models.mlp(input_shape, 64, width, 1), nn.ReLU(), CosineHead(64, num_classes))
