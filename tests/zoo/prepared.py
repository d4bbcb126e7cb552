"""Files that a case's recipe names beside it: weights of an earlier training, examples without labels.

They are made where the folder of a case is written, always the same, in a second or two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo.arrays import digits

TURNED, TEACHER, UNLABELLED = "prepared/turned_digits.pt", "prepared/teacher.pt", "prepared/unlabelled.npz"


def write_named(text: str, folder: Path) -> None:
    """Write those of the files that a recipe's text names into its folder."""
    for name, write in FILES.items():
        if f'"{name}"' in text:
            (folder / name).parent.mkdir(exist_ok=True)
            write(folder / name)


def turned_digits(path: Path) -> None:
    """Train the net of `digits-convbn` on the digits turned by a quarter, and keep its weights: a task alike."""
    from tuner.parts.models import convnet

    images, labels = _train_half()
    model = _trained(lambda: convnet((1, 8, 8), 10, width=16, depth=2), images.rot90(1, (2, 3)), labels)
    torch.save(model.state_dict(), path)


def teacher(path: Path) -> None:
    """Train an mlp of 256 units on the digits, and keep its weights."""
    from tuner.parts.models import mlp

    images, labels = _train_half()
    torch.save(_trained(lambda: mlp((1, 8, 8), 10, width=256, depth=2), images, labels).state_dict(), path)


def unlabelled(path: Path) -> None:
    """Keep 600 digits, each moved by up to a pixel, without their labels: (N, 1, 8, 8) bytes."""
    images = digits()[0][0][:600]
    moves = np.random.default_rng(3).integers(-1, 2, (len(images), 2))
    moved = [np.roll(image, tuple(move), (1, 2)) for image, move in zip(images, moves, strict=True)]
    np.savez(path, inputs=np.stack(moved))


def _train_half() -> tuple[Tensor, Tensor]:
    images, labels = digits()[0]
    values = torch.from_numpy(images).float()
    return (values - values.mean()) / values.std(), torch.from_numpy(labels)


def _trained(build: Callable[[], nn.Module], images: Tensor, labels: Tensor, epochs: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(epochs):
            for chosen in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
                optimizer.step()
    return model.eval()


FILES: Mapping[str, Callable[[Path], Any]] = {TURNED: turned_digits, TEACHER: teacher, UNLABELLED: unlabelled}
