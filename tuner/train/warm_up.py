"""What is done once, before trials are forked: what torch, numpy and we do when something is used for the first time.

A forked trial finds the caches filled and the lazily imported modules there. Nothing here starts a thread (one would
not survive the fork), touches a GPU or runs autograd, which would do both where there is a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tuner.core.packages import version_of
from tuner.recipe.registry import resolve
from tuner.train.device import keep_freed_memory


def warm_up() -> None:
    """Take a tiny net through what every trial does but its backward pass."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for package in ("scikit-learn", "pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version_of(package)
    inputs, targets = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Dropout(0.1), torch.nn.Linear(36, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer.zero_grad()
    with torch.no_grad():
        outputs = net(inputs)
        torch.nn.functional.cross_entropy(outputs, targets).item()
        (outputs.argmax(1) == targets).sum().item()
    for value in (outputs, outputs.numpy(), net):
        isinstance(value, Mapping), isinstance(value, Sequence)  # the classes remember the answer
    resolve("probe", "val_predictions", Path())  # asked of every configuration of fine
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, io.BytesIO())
