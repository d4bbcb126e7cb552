"""A quantity per example, a smooth function of eight columns; what goes wrong with it, and what only looks so."""

import numpy as np
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy, without

TRAIN, VAL, COLUMNS = 700, 400, 8


def rows(noise=0.15):
    """Return rows (N, 8) and values (N,), of mean 0 and spread 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (TRAIN + VAL, COLUMNS))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.5 * np.abs(x[:, 2]) * x[:, 3] + noise * rng.normal(0, 1, len(x))
    return x.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def cut(x, y):
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def sound():
    return cut(*rows())


def net(width=48, outputs=1):
    return nn.Sequential(
        nn.Linear(COLUMNS, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def column(num_classes):
    return net()


def squared(outputs, targets):
    return functional.mse_loss(outputs.squeeze(1), targets)


VALUES = {
    "data.source": "quantities.py:sound",
    "data.task": "regression",
    "model.name": "quantities.py:column",
    "loss.name": "quantities.py:squared",
    "optimizer.name": "adam",
    "optimizer.lr": 3e-3,
    "optimizer.momentum": None,
    "train.batch_size": 32,
}


@bug(
    "digits-mlp",
    "loss.name",
    causes=["loss-mismatch", "wrong-axis"],
    step="check-init",
    changes=without("loss.name", VALUES),
    twin=VALUES,
)
def a_column_less_a_row(outputs, targets):
    """Outputs (N, 1) less targets (N,) are a square: each prediction is held against every target."""
    return ((outputs - targets) ** 2).mean()


@bug(
    "digits-mlp",
    "model.name",
    causes=["dead-units"],
    step="overfit",
    changes=without("model.name", VALUES),
    twin=VALUES,
)
def a_rectifier_on_the_answer(num_classes):
    """The last layer is followed by a ReLU, and half of the values are negative."""
    return nn.Sequential(*net(), nn.ReLU())


@bug(
    "digits-mlp",
    "model.name",
    causes=["double-softmax", "saturated-units", "loss-mismatch"],
    step="overfit",
    changes=without("model.name", VALUES),
    twin=VALUES,
)
def a_sigmoid_on_the_answer(num_classes):
    """The last layer is followed by a sigmoid, and the values go from -3 to 3."""
    return nn.Sequential(*net(), nn.Sigmoid())


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    changes=without("data.source", VALUES),
    twin=VALUES,
)
def values_of_other_rows():
    """The values of train were sorted, the rows were not."""
    (x, y), val = sound()
    return (x, np.sort(y)), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="check-init",
    changes=without("data.source", VALUES),
    twin=VALUES,
)
def values_of_val_in_another_unit():
    """The values of val were not divided by the spread of train: they are as in the file, ten times as large."""
    train, (x, y) = sound()
    return train, (x, y * 10 + 40)


@bug(
    "digits-mlp",
    "data.source",
    causes=["unnormalised-input"],
    step="check-init",
    changes=without("data.source", VALUES),
    twin=VALUES,
)
def columns_in_the_units_of_the_file():
    """One column is a year, one an income: nobody scaled them."""
    x, y = rows()
    x[:, 4] = 1990 + 10 * x[:, 4]
    x[:, 5] = 40000 + 15000 * x[:, 5]
    return cut(x, y)


@bug(
    "digits-mlp",
    "data.source",
    causes=["target-leak", "train-val-shift"],
    step="diagnose",
    changes=without("data.source", VALUES),
    twin=VALUES,
)
def a_column_that_is_known_afterwards():
    """One column of train is the value itself, filled in later; in val it is not known yet, and 0."""
    (x, y), (x_val, y_val) = sound()
    x[:, 7], x_val[:, 7] = y, 0
    return (x, y), (x_val, y_val)


@healthy(
    "digits-mlp",
    "data.source",
    changes={**without("data.source", VALUES), "loss.name": "quantities.py:huber"},
    twin=VALUES,
)
def a_few_values_far_out():
    """One value in fifty of train was mistyped, by up to ten spreads; the loss is Huber's, which expects that."""
    (x, y), val = sound()
    rng = np.random.default_rng(3)
    far = rng.random(len(y)) < 0.02
    return (x, np.where(far, rng.uniform(-10, 10, len(y)), y).astype(np.float32)), val


def huber(outputs, targets):
    return functional.huber_loss(outputs.squeeze(1), targets, delta=0.5)


@healthy("digits-mlp", "loss.name", changes=without("loss.name", VALUES), twin=VALUES)
def absolute_differences(outputs, targets):
    """The loss is the mean absolute difference, whose best constant is the median."""
    return functional.l1_loss(outputs.squeeze(1), targets)


@healthy("digits-mlp", "data.source", changes=without("data.source", VALUES), twin=VALUES)
def values_far_from_zero():
    """The values are years: their mean is many spreads from 0, and the model's last bias starts there."""
    x, y = rows()
    return cut(x, y + 5)


class TwoValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(outputs=2)

    def forward(self, x):
        return self.net(x)


def two_at_once(num_classes):
    return TwoValues()


@healthy(
    "digits-mlp",
    "data.source",
    changes={**without("data.source", VALUES), "model.name": "quantities.py:two_at_once", "loss.name": "mse"},
    twin=VALUES,
)
def two_values_per_row():
    """Two values are answered at once, of which the second is a simple sum."""
    x, y = rows()
    second = (x[:, 4] + x[:, 5]) / np.sqrt(2)
    return cut(x, np.stack([y, second], 1).astype(np.float32))
