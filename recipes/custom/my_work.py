"""Your own data, model, loss and train step: everything that tuner needs of you, in one file."""

import torch
from sklearn.datasets import make_moons
from torch import nn


def load(examples, noise):
    """Return (train, val): pairs of arrays here, map-style datasets work as well."""
    inputs, targets = make_moons(examples, noise=noise, random_state=0)
    inputs = torch.as_tensor(inputs, dtype=torch.float32)
    targets = torch.as_tensor(targets)
    return (inputs, targets), None  # None: tuner takes val (and test) from train


def build(input_shape, num_classes, width):
    """Return the network; input_shape and num_classes come from the data, width from the recipe."""
    return nn.Sequential(
        nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, num_classes)
    )


def loss(outputs, targets, smoothing):
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=smoothing)


def train_step(model, batch, loss, optimizer):
    """One update, written by you: zero_grad, backward, step; return the loss."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return value
