"""Several labels per example: six marks, of which each is there or not; what goes wrong, and what only looks so."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy, without

TRAIN, VAL, COLUMNS, LABELS = 700, 400, 24, 6


def marks(share=0.35):
    """Return rows (N, 24), sums of the marks that are there and noise, and which are there (N, 6)."""
    rng = np.random.default_rng(0)
    y = (rng.random((TRAIN + VAL, LABELS)) < share).astype(np.float32)
    x = y @ rng.normal(0, 1, (LABELS, COLUMNS)) + rng.normal(0, 0.9, (len(y), COLUMNS))
    return x.astype(np.float32), y


def cut(x, y):
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def sound():
    return cut(*marks())


def net(num_classes, width=48):
    return nn.Sequential(
        nn.Linear(COLUMNS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, num_classes)
    )


MARKS = {
    "data.source": "multilabels.py:sound",
    "data.task": "multilabel",
    "model.name": "multilabels.py:net",
    "loss.name": "torch.nn.BCEWithLogitsLoss",
    "optimizer.name": "adam",
    "optimizer.lr": 3e-3,
    "optimizer.momentum": None,
    "train.batch_size": 32,
}


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    changes=without("data.source", MARKS),
    twin=MARKS,
)
def marks_of_other_rows():
    """The label file of train is sorted, the rows are not."""
    (x, y), val = sound()
    return (x, y[np.random.default_rng(1).permutation(len(y))]), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="diagnose",
    changes=without("data.source", MARKS),
    twin=MARKS,
)
def columns_of_labels_in_another_order_in_val():
    """The columns of labels are made from a set, whose order differs between the two files."""
    train, (x, y) = sound()
    return train, (x, np.ascontiguousarray(y[:, [3, 5, 0, 4, 1, 2]]))


class Probabilities(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).sigmoid()


@bug(
    "digits-mlp",
    "model.name",
    causes=["double-softmax"],
    step="overfit",
    changes=without("model.name", MARKS),
    twin=MARKS,
)
def labels_through_sigmoid_twice(num_classes):
    """The net ends with a sigmoid, and the loss takes another."""
    return Probabilities(net(num_classes))


@bug(
    "digits-mlp", "model.name", causes=["dead-units"], step="overfit", changes=without("model.name", MARKS), twin=MARKS
)
def rectified_scores_of_labels(num_classes):
    """The last layer is followed by a ReLU: no label can be said to be absent."""
    return nn.Sequential(*net(num_classes), nn.ReLU())


@bug(
    "digits-mlp",
    "train.step",
    causes=["gradients-accumulate"],
    step="check-init",
    changes={**MARKS, "optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9},
    twin={**MARKS, "optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9},
)
def marks_with_gradients_never_cleared(model, batch, loss, optimizer):
    """The gradients are never set to zero."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


@bug(
    "digits-mlp",
    "loss.name",
    causes=["sign-flipped-loss", "loss-mismatch"],
    step="check-init",
    changes=without("loss.name", MARKS),
    twin=MARKS,
)
def likelihood_of_labels_not_its_negative(outputs, targets):
    """The mean log-likelihood is returned as the loss, without its minus."""
    return (targets * functional.logsigmoid(outputs) + (1 - targets) * functional.logsigmoid(-outputs)).mean()


@healthy("digits-mlp", "data.source", changes=without("data.source", MARKS), twin=MARKS)
def labels_that_are_seldom_there():
    """Each label is there in one row of eight."""
    return cut(*marks(share=0.12))


@healthy("digits-mlp", "loss.name", changes=without("loss.name", MARKS), twin=MARKS)
def focal_loss_of_labels(outputs, targets):
    """What is answered well already counts less: a focal loss over labels."""
    each = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return (each * (1 - torch.exp(-each)) ** 2).mean() * 4


@healthy("digits-mlp", "loss.name", changes=without("loss.name", MARKS), twin=MARKS)
def positives_weighed_by_their_rarity(outputs, targets):
    """What is there counts twice as much as what is not, as there is half as much of it."""
    return functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=torch.full((LABELS,), 2.0))


@healthy("digits-mlp", "model.name", changes=without("model.name", MARKS), twin=MARKS)
def one_small_head_per_label(num_classes):
    """Each label has a head of its own over common features, with dropout."""
    return Heads(num_classes)


class Heads(nn.Module):
    def __init__(self, labels, width=48):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(COLUMNS, width), nn.ReLU(), nn.Dropout(0.1))
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(labels))

    def forward(self, x):
        features = self.body(x)
        return torch.cat([head(features) for head in self.heads], 1)
