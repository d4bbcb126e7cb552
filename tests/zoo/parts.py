"""Data sets and a model that the zoo's recipes use beside tuner's own; copied beside every case's recipe.

A user's file imports it as `from tests.zoo import parts`. Everything here is deterministic and needs no download.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Arrays = tuple[np.ndarray, np.ndarray]

SHAPES = ("disc", "square", "triangle", "cross", "ring", "stripes")


def shapes(train: int = 1600, val: int = 500, seed: int = 0, size: int = 16, noise: float = 0.1) -> tuple[Arrays, ...]:
    """Return (train, val) of rendered shapes: uint8 (N, 3, size, size), six balanced classes.

    Place, size, angle and both colours are drawn for each example, with clutter and pixel noise: neither the colour
    nor a single pixel tells the class.
    """
    generator = np.random.default_rng([seed, 16])
    labels = generator.permutation(np.arange(train + val) % len(SHAPES))
    images = _rendered(labels, size, noise, generator)
    return (images[:train], labels[:train]), (images[train:], labels[train:])


def _rendered(labels: np.ndarray, size: int, noise: float, generator: np.random.Generator) -> np.ndarray:
    n = len(labels)
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")

    def draw(low: float, high: float) -> np.ndarray:
        return generator.uniform(low, high, (n, 1, 1))

    dx, dy, angle, radius = draw(-0.25, 0.25), draw(-0.25, 0.25), draw(-0.4, 0.4), draw(0.5, 0.8)
    u = ((x - dx) * np.cos(angle) + (y - dy) * np.sin(angle)) / radius
    v = ((y - dy) * np.cos(angle) - (x - dx) * np.sin(angle)) / radius
    r = np.hypot(u, v)
    box = np.maximum(np.abs(u), np.abs(v))
    distances = [  # negative inside the shape, in units of its radius
        r - 0.85,
        box - 0.8,
        np.maximum(-v - 0.6, np.abs(u) * 0.9 + v * 0.5 - 0.45),
        np.maximum(np.minimum(np.abs(u), np.abs(v)) - 0.24, box - 0.95),
        np.abs(r - 0.72) - 0.22,
        np.maximum(np.abs((v * 1.6) % 1.0 - 0.5) - 0.25, box - 0.9),
    ]
    distance = np.choose(labels[:, None, None], distances)
    mask = np.clip(0.5 - distance * radius * size / 2, 0, 1)[..., None]  # one pixel of smooth edge
    back = generator.uniform(0, 0.45, (n, 1, 1, 3))
    ink = generator.uniform(0.55, 1, (n, 1, 1, 3))
    image = back + _clutter(n, x, y, generator)
    image = image + mask * (ink - image)
    image = image + generator.normal(0, noise, image.shape)
    return np.clip(image * 255, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2).copy()


def _clutter(n: int, x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return coloured specks and a slope of light for each image."""
    slope = generator.normal(0, 0.08, (2, n, 1, 1, 3))
    total = slope[0] * x[..., None] + slope[1] * y[..., None]
    for _ in range(3):
        cx, cy = generator.uniform(-1, 1, (2, n, 1, 1))
        speck = (np.maximum(np.abs(x - cx), np.abs(y - cy)) < 0.12)[..., None]
        total = total + speck * generator.normal(0, 0.3, (n, 1, 1, 3))
    return total


def cancer(scale: bool = True) -> tuple[Arrays, ...]:
    """Return (train, val) of scikit-learn's breast cancer table (30 columns, 2 classes), 399 and 170 rows.

    `scale`: standardise the columns with the statistics of train.
    """
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(targets))
    inputs, targets = inputs[order].astype(np.float64), targets[order].astype(np.int64)
    if scale:
        inputs = (inputs - inputs[:399].mean(0)) / inputs[:399].std(0)
    inputs = inputs.astype(np.float32)
    return (inputs[:399], targets[:399]), (inputs[399:], targets[399:])


def cifar(images: int = 3000) -> tuple[Arrays, ...]:
    """Return (train, val) of a fixed, balanced subset of CIFAR-10's train images: uint8 (N, 3, 32, 32), 4 to 1.

    Read from `$TUNER_DATA/cifar10/train/<class>/*.jpg`, and decoded once.

    Raises:
        FileNotFoundError: the images are not there.
    """
    values, labels = _cifar_arrays(images)
    order = np.random.default_rng(0).permutation(len(labels))
    values, labels = values[order], labels[order]
    size = len(labels) * 4 // 5
    return (values[:size], labels[:size]), (values[size:], labels[size:])


def cifar_folder() -> Path | None:
    """Return the folder of CIFAR-10's train images, None where it is not."""
    folder = Path(os.environ.get("TUNER_DATA", "")) / "cifar10" / "train"
    return folder if "TUNER_DATA" in os.environ and folder.is_dir() else None


def _cifar_arrays(images: int) -> Arrays:
    cache = Path(os.environ.get("TUNER_CACHE") or tempfile.gettempdir()) / f"tuner-zoo-cifar-{images}.npz"
    if cache.is_file():
        with np.load(cache) as held:
            return held["values"], held["labels"]
    folder = cifar_folder()
    if folder is None:
        raise FileNotFoundError("$TUNER_DATA/cifar10/train/<class>/*.jpg is not there")
    from PIL import Image

    values, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir() if path.is_dir())):
        for path in sorted((folder / name).glob("*.jpg"))[: images // 10]:
            values.append(np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1))
            labels.append(label)
    result = np.stack(values), np.array(labels)
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, values=result[0], labels=result[1])
    part.replace(cache)
    return result


def transformer(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    patches: int = 4,
    positions: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a small vision transformer: `patches` x `patches` patches, pre-norm blocks, mean over patches, a head."""
    return Transformer(input_shape, num_classes, width, depth, heads, patches, positions, dropout)


class Transformer(nn.Module):
    """See `transformer`; a case may change a part of it."""

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        width: int,
        depth: int,
        heads: int,
        patches: int,
        positions: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        channels, height, _ = input_shape
        side = height // patches
        self.embed = nn.Conv2d(channels, width, side, stride=side)
        self.positions = nn.Parameter(torch.randn(1, patches * patches, width) * 0.02) if positions else None
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.positions is not None:
            x = x + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


class Block(nn.Module):
    """One pre-norm block: self-attention, then a small perceptron, each beside a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))

    def attention(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        query, key, value = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = functional.softmax(query @ key.transpose(-2, -1) / math.sqrt(width // self.heads), dim=-1)
        return self.mix((scores @ value).transpose(1, 2).reshape(n, tokens, width))
