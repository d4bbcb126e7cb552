"""What a user writes: torchvision transforms, a DataLoader and the usual loop, in fp32 with the defaults of torch."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.task import BATCH, CLASSES, MEAN, STD, WIDTHS, Task, digits


def build(kind: str) -> nn.Module:
    """Build the net of the comparison."""
    if kind == "digits":
        layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
        return nn.Sequential(*layers)
    blocks: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        blocks += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def loaders(task: Task, workers: int) -> tuple[DataLoader, DataLoader]:
    """Make the loaders of train and val."""
    if task.kind == "digits":
        x, y, xv, yv = map(torch.from_numpy, digits())
        train, val = TensorDataset(x, y), TensorDataset(xv, yv)
    else:
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        first = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4)]
        train = ImageFolder(f"{task.folder}/train", transforms.Compose(first + last))
        val = ImageFolder(f"{task.folder}/val", transforms.Compose(last))
    more = {"num_workers": workers, "persistent_workers": workers > 0}
    return DataLoader(train, BATCH, shuffle=True, **more), DataLoader(val, 256, **more)


def train(
    task: Task,
    lr: float,
    workers: int,
    epochs: int,
    report: Callable[[int, float], None],
    weight_decay: float = 0.0,
    seed: int = 0,
) -> float:
    """Train one trial; return its best val accuracy. `report(epoch, accuracy)` after each epoch."""
    torch.manual_seed(seed)
    batches, val = loaders(task, workers)
    model = build(task.kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    best = 0.0
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
        model.eval()
        hits = 0
        with torch.no_grad():
            for inputs, targets in val:
                hits += (model(inputs).argmax(1) == targets).sum().item()
        best = max(best, hits / len(val.dataset))
        report(epoch, hits / len(val.dataset))
    return best


def best_workers(task: Task, choices: tuple[int, ...]) -> tuple[int, dict[str, float]]:
    """Find the number of loader workers with which a trial of two epochs, their start included, is fastest.

    Return it, and the seconds per batch with each.
    """
    epochs, seconds = min(task.epochs, 2), {}
    for workers in choices:
        start = time.perf_counter()
        train(task, 0.01, workers, epochs, lambda epoch, accuracy: None)
        seconds[workers] = (time.perf_counter() - start) / (epochs * len(loaders(task, 0)[0]))
    best = min(seconds, key=seconds.__getitem__)
    return best, {f"{workers}": round(value, 5) for workers, value in seconds.items()}
