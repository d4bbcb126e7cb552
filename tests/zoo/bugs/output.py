"""Bugs between the last layer and the loss: squashed outputs, the wrong loss, its sign, sum or axis."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo import parts
from tests.zoo.case import bug
from tuner.parts.models import convnet, mlp, resnet8


@bug(
    "cifar-convbn",
    "model.name",
    causes=["double-softmax"],
    step="check-init",
    source="https://github.com/IBM/dstc-noesis/issues/18",
)
def softmax_before_cross_entropy(input_shape, num_classes, width, depth):
    """The model ends in a softmax, and cross-entropy makes another."""
    return nn.Sequential(convnet(input_shape, num_classes, width, depth), nn.Softmax(dim=1))


@bug("shapes-conv", "model.name", causes=["double-softmax"], step="check-init")
def sigmoid_before_cross_entropy(input_shape, num_classes, width, depth, batch_norm):
    """The model ends in a sigmoid, as for two classes, and is trained with cross-entropy."""
    net = convnet(input_shape, num_classes, width, depth, batch_norm=batch_norm)
    return nn.Sequential(net, nn.Sigmoid())


@bug("shapes-convbn", "model.name", causes=["double-softmax"], step="check-init")
def tanh_on_the_logits(input_shape, num_classes, width, depth):
    """The logits pass through a tanh, left from a model that gave values of -1 to 1."""
    return nn.Sequential(convnet(input_shape, num_classes, width, depth), nn.Tanh())


bug(
    "digits-mlp",
    name="nll_of_raw_logits",
    what="NLLLoss is given raw logits: the log_softmax at the end of the model is missing.",
    causes=["loss-mismatch"],
    step="check-init",
    changes={"loss.name": "torch.nn.NLLLoss"},
)


@bug(
    "shapes-resnet",
    "model.name",
    causes=["loss-mismatch"],
    step="check-init",
    changes={"loss.name": "torch.nn.NLLLoss"},
)
def nll_of_probabilities(input_shape, num_classes, width):
    """The model ends in a softmax where NLLLoss wants a log_softmax."""
    return nn.Sequential(resnet8(input_shape, num_classes, width), nn.Softmax(dim=1))


@bug(
    "digits-resnet",
    "model.name",
    causes=["double-softmax"],
    step="check-init",
    changes={"loss.name": "bce_one_hot"},
    twin={"loss.name": "bce_one_hot"},
    source="https://github.com/yudi-mars/daisyRec/pull/15",
)
def sigmoid_before_bce_with_logits(input_shape, num_classes, width):
    """The model ends in a sigmoid, and the binary cross-entropy with logits makes another."""
    return nn.Sequential(resnet8(input_shape, num_classes, width), nn.Sigmoid())


@bug("shapes-convbn", "loss.name", causes=["sign-flipped-loss"], step="check-init")
def log_likelihood_without_its_minus(outputs, targets):
    """The loss is the mean log-likelihood of the targets, which training then minimises."""
    return functional.log_softmax(outputs, dim=1).gather(1, targets[:, None]).mean()


bug(
    "digits-conv",
    name="cross_entropy_summed_over_the_batch",
    what="Cross-entropy is summed over the batch, at a rate that was chosen for its mean.",
    causes=["summed-loss", "lr-too-high"],
    step="check-init",
    changes={"loss.name": "torch.nn.CrossEntropyLoss", "loss.reduction": "sum"},
)


@bug("digits-mlp", "loss.name", causes=["summed-loss", "lr-too-low"], step="check-init")
def mean_loss_divided_by_the_batch_again(outputs, targets):
    """The loss is a mean already, and is divided by the size of the batch once more."""
    return functional.cross_entropy(outputs, targets) / len(targets)


@bug("digits-convbn", "loss.name", causes=["wrong-axis"], step="check-init")
def log_softmax_over_the_batch(outputs, targets):
    """The loss makes the log_softmax over the examples instead of the classes."""
    return functional.nll_loss(functional.log_softmax(outputs, dim=0), targets)


@bug(
    "shapes-conv",
    "model.name",
    causes=["wrong-axis", "batch-dependence", "double-softmax"],
    step="check-init",
    twin={"loss.name": "cross_entropy"},
)
def softmax_over_the_batch(input_shape, num_classes, width, depth, batch_norm):
    """The model ends in a softmax over the examples of the batch."""
    net = convnet(input_shape, num_classes, width, depth, batch_norm=batch_norm)
    return nn.Sequential(net, nn.Softmax(dim=0))


@bug("cancer-mlp", "loss.name", causes=["loss-mismatch"], step="check-init")
def squared_error_broadcast_over_the_batch(outputs, targets):
    """The squared error of a column of probabilities (N, 1) against a row of targets (N,): an N x N matrix."""
    probabilities = torch.sigmoid(outputs[:, 1:] - outputs[:, :1])
    return functional.mse_loss(probabilities, targets.float())


@bug("cancer-mlp", "loss.name", causes=["loss-mismatch"], step="check-init", harm="crash")
def bce_of_raw_logits(outputs, targets):
    """BCELoss, which wants probabilities, is given logits."""
    return functional.binary_cross_entropy(outputs, functional.one_hot(targets, 2).float())


bug(
    "cifar-resnet",
    name="smoothing_of_09",
    what="label_smoothing is 0.9, meant as the share that the target keeps.",
    causes=["smoothing-too-strong"],
    step="overfit",
    changes={"loss.label_smoothing": 0.9},
)


def few_of_three_shapes():
    """Return shapes whose train split has 20 examples of each of three classes; val is balanced."""
    (images, labels), val = parts.shapes()
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    kept = (labels < 3) | (rank < 20)
    return (images[kept], labels[kept]), val


bug(
    "shapes-convbn",
    name="class_weights_upside_down",
    what="The weights of the loss are the classes' frequencies, not their inverse.",
    causes=["smoothing-too-strong", "class-imbalance"],
    step="diagnose",
    changes={
        "data.source": "output.py:few_of_three_shapes",
        "loss.weight": [1.86, 1.86, 1.86, 0.14, 0.14, 0.14],
    },
    twin={
        "data.source": "output.py:few_of_three_shapes",
        "loss.weight": [0.14, 0.14, 0.14, 1.86, 1.86, 1.86],
    },
)


@bug("cifar-resnet", "loss.name", causes=["over-regularised", "smoothing-too-strong"], step="overfit")
def penalty_on_the_logits_a_thousand_times_too_strong(outputs, targets):
    """A penalty on the size of the logits, meant to have the weight 1, has 1000."""
    return functional.cross_entropy(outputs, targets) + 1e3 * outputs.square().mean()


@bug("cifar-resnet", "model.name", causes=["wrong-label-range"], step="check-init", harm="crash")
def head_of_another_data_set(input_shape, num_classes, width):
    """The head keeps the five outputs of the data set that the program was written for."""
    return resnet8(input_shape, 5, width)


@bug("digits-mlp", "model.name", causes=["double-softmax", "dead-units"], step="overfit")
def relu_after_the_last_layer(input_shape, num_classes, width, depth):
    """The logits pass through a ReLU, like every layer before: a class whose logit is negative gets no gradient."""
    return nn.Sequential(mlp(input_shape, num_classes, width, depth), nn.ReLU())


@bug("cifar-convbn", "loss.name", causes=["loss-mismatch", "sign-flipped-loss"], step="check-init")
def focal_loss_that_favours_the_easy(outputs, targets):
    """The focal loss weighs by p^2 where it should weigh by (1 - p)^2."""
    log_p = functional.log_softmax(outputs, dim=1).gather(1, targets[:, None]).squeeze(1)
    return -(log_p.exp().square() * log_p).mean()
