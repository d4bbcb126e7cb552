"""Modules that carry something from one call to the next: a hidden state, a cache, a count."""

import math

import numpy as np
import torch
from torch import nn

from tests.zoo.case import bug, healthy


class Reader(nn.Module):
    """A GRU over the rows of an image."""

    def __init__(self, shape, classes):
        super().__init__()
        self.gru = nn.GRU(shape[0] * shape[2], 48, batch_first=True)
        self.head = nn.Linear(48, classes)
        self.state = None

    def forward(self, images):
        read, state = self.gru(images.permute(0, 2, 1, 3).flatten(2))
        self.state = state.detach()
        return self.head(read[:, -1])


SLOWLY = {"optimizer.name": "adam", "optimizer.lr": 0.005, "optimizer.momentum": None}


@healthy("shapes-conv", "model.name", changes=SLOWLY, twin={"model.name": "mlp", "model.width": 64})
def hidden_state_kept_to_look_at(input_shape, num_classes):
    """A GRU that keeps its last hidden state as an attribute, and never reads it."""
    return Reader(input_shape, num_classes)


class Cooling(nn.Module):
    """Scores that are divided by a temperature which may grow with every call."""

    def __init__(self, width, classes, growth):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, classes))
        self.growth, self.calls = growth, 0

    def forward(self, inputs):
        self.calls += 1
        return self.net(inputs) / (1 + self.growth * self.calls)


@bug("digits-mlp", "model.name", causes=["batch-dependence", "train-mode-in-eval"], step="check-init")
def temperature_counted_in_calls(input_shape, num_classes):
    """A temperature grows with every call of the model, those of the evaluation too."""
    return Cooling(int(np.prod(input_shape)), num_classes, growth=0.05)


@healthy("digits-mlp", "model.name")
def calls_counted_for_a_log(input_shape, num_classes):
    """The model counts its calls, and uses the count for nothing."""
    return Cooling(int(np.prod(input_shape)), num_classes, growth=0.0)


class Centred(nn.Module):
    """Features less their mean: that of this batch of examples, or one that is kept by the batch's size."""

    def __init__(self, width, classes):
        super().__init__()
        self.stem, self.head = nn.Linear(width, 64), nn.Linear(64, classes)
        self.cache = {}

    def forward(self, inputs):
        features = self.stem(inputs.flatten(1)).relu()
        last = self.cache.get(len(features))
        self.cache[len(features)] = features.detach()
        return self.head(features if last is None else features + 0.7 * last)


@bug("digits-mlp", "model.name", causes=["batch-dependence"], step="check-init")
def features_of_the_batch_before(input_shape, num_classes):
    """Features of the batch before, kept by batch size, are added to those of this one."""
    return Centred(int(np.prod(input_shape)), num_classes)


class Placed(nn.Module):
    """Attention over the rows of an image, with positions that are computed once for each length."""

    def __init__(self, shape, classes, width=32):
        super().__init__()
        self.embed = nn.Linear(shape[0] * shape[2], width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)
        self.positions = {}

    def forward(self, images):
        x = self.embed(images.permute(0, 2, 1, 3).flatten(2))
        length, width = x.shape[1:]
        if length not in self.positions:
            angles = torch.arange(length)[:, None] / 100 ** (torch.arange(width) / width)
            self.positions[length] = torch.sin(angles + (torch.arange(width) % 2) * math.pi / 2)
        x = x + self.positions[length].to(x)
        return self.head(self.norm(x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


@healthy("digits-mlp", "model.name", changes=SLOWLY)
def positions_kept_by_length(input_shape, num_classes):
    """Sinusoidal positions are computed once for each length and kept."""
    return Placed(input_shape, num_classes)
