"""Outputs that are no bare (N, C): one score, a dictionary, a pair; and what is counted of them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy


def one_score(input_shape, num_classes):
    return nn.Sequential(nn.Linear(input_shape[0], 64), nn.ReLU(), nn.Linear(64, 1))


def bce(outputs, targets):
    return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())


@torch.no_grad()
def counted(model, batches, loss, answers):
    model.eval()
    total = right = examples = 0.0
    for inputs, targets in batches:
        outputs = model(inputs)
        total += float(loss(outputs, targets)) * len(targets)
        right += float((answers(outputs) == targets).sum())
        examples += len(targets)
    return {"loss": total / examples, "accuracy": right / examples}


BINARY = {"model.name": "outputs.py:one_score", "loss.name": "outputs.py:bce"}


def above_zero(model, batches, loss):
    """Class 1 is what scores above 0."""
    return counted(model, batches, loss, lambda outputs: (outputs[:, 0] > 0).long())


@bug(
    "cancer-mlp",
    "train.evaluate",
    causes=["metric-wrong"],
    step="coarse",
    harm="number",
    changes=BINARY,
    twin={**BINARY, "train.evaluate": "outputs.py:above_zero"},
)
def largest_of_a_single_score(model, batches, loss):
    """Two classes with one score; the answer is its argmax, which is always 0."""
    return counted(model, batches, loss, lambda outputs: outputs.argmax(1))


@healthy("cancer-mlp", "train.evaluate", changes=BINARY)
def single_score_above_zero(model, batches, loss):
    """Two classes with one score; class 1 is what scores above 0."""
    return above_zero(model, batches, loss)


class TwoHeads(nn.Module):
    """A trunk with two heads, in a dictionary; the loss trains one of them."""

    def __init__(self, width, classes):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU())
        self.fine, self.coarse = nn.Linear(64, classes), nn.Linear(64, classes)

    def forward(self, inputs):
        features = self.trunk(inputs)
        return {"logits": self.fine(features), "coarse": self.coarse(features.detach())}


def two_heads(input_shape, num_classes):
    return TwoHeads(int(np.prod(input_shape)), num_classes)


def of_the_logits(outputs, targets):
    return functional.cross_entropy(outputs["logits"], targets) + 0 * outputs["coarse"].sum()


HEADS = {"model.name": "outputs.py:two_heads", "loss.name": "outputs.py:of_the_logits"}


def from_the_logits(model, batches, loss):
    return counted(model, batches, loss, lambda outputs: outputs["logits"].argmax(1))


@bug(
    "digits-mlp",
    "train.evaluate",
    causes=["metric-wrong"],
    step="coarse",
    harm="number",
    changes=HEADS,
    twin={**HEADS, "train.evaluate": "outputs.py:from_the_logits"},
)
def answers_of_the_untrained_head(model, batches, loss):
    """The loss is of one head, the accuracy of the other, which is never trained."""
    return counted(model, batches, loss, lambda outputs: outputs["coarse"].argmax(1))


@healthy("digits-mlp", "train.evaluate", changes={**HEADS, "accept.codes": ["IN112"], "accept.reason": "a spare head"})
def answers_from_a_dictionary(model, batches, loss):
    """The outputs are a dictionary; loss and accuracy are of the same head."""
    return from_the_logits(model, batches, loss)


class Pair(nn.Module):
    """Scores and features, the scores through a softmax or not."""

    def __init__(self, width, classes, squash):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU())
        self.head, self.squash = nn.Linear(64, classes), squash

    def forward(self, inputs):
        features = self.trunk(inputs)
        scores = self.head(features)
        return (scores.softmax(1) if self.squash else scores), features


def of_the_first(outputs, targets):
    return functional.cross_entropy(outputs[0], targets)


def first_counted(model, batches, loss):
    return counted(model, batches, loss, lambda outputs: outputs[0].argmax(1))


PAIR = {"loss.name": "outputs.py:of_the_first", "train.evaluate": "outputs.py:first_counted"}


def pair(input_shape, num_classes):
    return Pair(int(np.prod(input_shape)), num_classes, squash=False)


@bug(
    "digits-mlp",
    "model.name",
    causes=["double-softmax"],
    step="overfit",
    changes=PAIR,
    twin={**PAIR, "model.name": "outputs.py:pair"},
)
def probabilities_in_a_pair(input_shape, num_classes):
    """The model returns probabilities and features; the loss is cross-entropy of the first."""
    return Pair(int(np.prod(input_shape)), num_classes, squash=True)


@healthy("digits-mlp", "model.name", changes=PAIR)
def scores_in_a_pair(input_shape, num_classes):
    """The model returns scores and features; the loss is cross-entropy of the first."""
    return pair(input_shape, num_classes)
