"""Models: functions `build(input_shape, num_classes, **args)` that give a Module with outputs (N, num_classes).

Adding a model is adding a function. input_shape is one example's: (F,) for a table, (C, H, W) for an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError, did_you_mean
from tuner.parts.layers import IBN, GlobalAveragePool


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 128,
    depth: int = 2,
    activation: Spec = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Stack `depth` hidden layers of `width` units on the flattened input; depth 0 is a linear classifier."""
    _at_least("depth", depth, 0)
    _at_least("width", width, 1)
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(input_shape)
    for _ in range(depth):
        layers += [nn.Linear(features, _pieces(activation) * width), _activation(activation), *_dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


def convnet(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 32,
    depth: int = 3,
    widths: Sequence[int] | None = None,
    batch_norm: bool = True,
    pool: str = "max",
    activation: Spec = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Stack blocks of convolution 3x3, batch norm, activation and 2x2 pooling; then global average pooling and a head.

    The channels are `width`, twice that, ... over `depth` blocks, or `widths`. A block does not pool where that would
    leave fewer than 2 pixels a side: 8x8 images pool twice. `pool`: max, avg or none. A rising activation is applied
    after max pooling: max(f(x)) = f(max(x)), with a quarter of the work.
    """
    channels, height, side = _image(input_shape, "convnet")
    _at_least("width", width, 1)
    _at_least("depth", depth, 1)
    if pool not in POOLS:
        raise UsageError(f"model.pool: unknown pooling {pool!r}{did_you_mean(pool, POOLS)} (known: {', '.join(POOLS)})")
    side = min(height, side)
    blocks: list[nn.Module] = []
    for out in widths if widths is not None else [width * 2**index for index in range(depth)]:
        wide = _pieces(activation) * out
        block: list[nn.Module] = [nn.Conv2d(channels, wide, 3, padding=1, bias=not batch_norm)]
        block += [nn.BatchNorm2d(wide)] if batch_norm else []
        tail = [_activation(activation)]
        if pool != "none" and side >= 4:
            tail.insert(0 if pool == "max" and isinstance(tail[0], RISING) else 1, POOLS[pool](2))
            side //= 2
        blocks.append(nn.Sequential(*block, *tail, *_dropout(dropout, nn.Dropout2d)))
        channels = out
    return nn.Sequential(*blocks, GlobalAveragePool(), nn.Flatten(), nn.Linear(channels, num_classes))


POOLS = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d, "none": nn.Identity}
RISING = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softplus)


def resnet8(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    activation: Spec = "relu",
    dropout: float = 0.0,
    norm: str = "batch",
) -> nn.Module:
    """Build the CIFAR residual net with one block per stage: 6 x 1 + 2 layers; see `resnet20`."""
    return _ResNet(input_shape, num_classes, 1, width, (activation, _norm(norm)), dropout)


def resnet20(
    input_shape: Sequence[int],
    num_classes: int,
    width: int = 16,
    activation: Spec = "relu",
    dropout: float = 0.0,
    norm: str = "batch",
) -> nn.Module:
    """Build the CIFAR residual net with three blocks per stage: 6 x 3 + 2 layers, 0.27 million weights at width 16.

    Three stages of `width`, 2 and 4 times that, halving the image between them; shortcuts without parameters. `norm`:
    batch, ibn (in the first convolution of each block of the first two stages half of the channels are normalised
    within each image) or none (for `model.init = "fixup"`).
    Source: He et al. 2016, Deep Residual Learning, section 4.2; X. Pan et al. 2018, IBN-Net; the notes, IBN.
    """
    return _ResNet(input_shape, num_classes, 3, width, (activation, _norm(norm)), dropout)


Spec = str | Callable[[], nn.Module]
Parts = tuple[Spec, str]
NORMS = ("batch", "ibn", "none")


class _ResNet(nn.Module):
    def __init__(
        self, input_shape: Sequence[int], num_classes: int, blocks: int, width: int, parts: Parts, dropout: float
    ) -> None:
        super().__init__()
        channels, _, _ = _image(input_shape, "resnet")
        _at_least("width", width, 1)
        activation, norm = parts
        first = _pieces(activation) * width
        self.conv = nn.Conv2d(channels, first, 3, padding=1, bias=norm == "none")
        self.norm = nn.Identity() if norm == "none" else nn.BatchNorm2d(first)
        self.activation = _activation(activation)
        layers = []
        before = width
        for stage in range(3):
            out = width * 2**stage
            for index in range(blocks):
                inner = "batch" if norm == "ibn" and stage == 2 else norm
                layers.append(_Block(before, out, 2 if stage > 0 and index == 0 else 1, (activation, inner)))
                before = out
        self.blocks = nn.Sequential(*layers)
        self.pool = GlobalAveragePool()
        self.dropout = nn.Sequential(*_dropout(dropout))
        self.head = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.activation(self.norm(self.conv(x))))
        return self.head(self.dropout(self.pool(x).flatten(1)))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which drops every other pixel and pads channels with zeros (option A)."""

    def __init__(self, before: int, out: int, stride: int, parts: Parts) -> None:
        super().__init__()
        activation, norm = parts
        self.pieces = _pieces(activation)
        wide = self.pieces * out
        self.conv1 = nn.Conv2d(before, wide, 3, stride=stride, padding=1, bias=norm == "none")
        self.norm1 = IBN(wide) if norm == "ibn" else nn.Identity() if norm == "none" else nn.BatchNorm2d(wide)
        self.activation1 = _activation(activation)
        self.conv2 = nn.Conv2d(out, wide, 3, padding=1, bias=norm == "none")
        self.norm2 = nn.Identity() if norm == "none" else nn.BatchNorm2d(wide)
        self.activation2 = _activation(activation)
        self.branch_drop: nn.Module | None = None
        self.stride = stride
        self.padding = out - before
        self.repeats = (
            norm == "none"
        )  # zeros, where the branch begins at zero, are where ReLU has no gradient: for good

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        if self.branch_drop is not None:
            y = self.branch_drop(y)
        shortcut = F.avg_pool2d(x, 1, self.stride) if self.stride > 1 else x  # a slice's gradient is not channels-last
        if self.padding > 0 and self.repeats:
            shortcut = torch.cat([shortcut, shortcut[:, : self.padding]], 1)
        elif self.padding > 0:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.padding))
        if self.pieces > 1:  # the largest of (piece + shortcut) is the largest piece + shortcut
            shortcut = shortcut.repeat(1, self.pieces, 1, 1)
        return self.activation2(y + shortcut)


def _norm(name: str) -> str:
    if name not in NORMS:
        known = ", ".join(NORMS)
        raise UsageError(f"model.norm: unknown norm {name!r}{did_you_mean(name, NORMS)} (known: {known})")
    return name


def _activation(spec: Spec) -> nn.Module:
    """Build one of torch's activation modules by its lower-case name (relu, leaky_relu, ...), or call what does."""
    if not isinstance(spec, str):
        return spec()
    known = {
        item.lower(): item for item in nn.modules.activation.__all__ if item not in ("MultiheadAttention", "Softmax2d")
    }
    found = known.get(spec.lower().replace("_", ""))
    if found is None:
        shown = "relu, leaky_relu, gelu, silu, elu, selu, tanh, sigmoid, ..."
        raise UsageError(f"model.activation: unknown activation {spec!r}{did_you_mean(spec, known)} (known: {shown})")
    return getattr(nn, found)()


def _pieces(spec: Spec) -> int:
    """Return how many times wider the layer before an activation is: maxout takes the largest of several outputs."""
    return getattr(spec, "pieces", 1)


def _dropout(p: float, kind: type[nn.Module] = nn.Dropout) -> list[nn.Module]:
    if not isinstance(p, (int, float)) or not 0 <= p < 1:
        raise UsageError(f"model.dropout: must be at least 0 and less than 1 (got {p!r})")
    return [kind(p)] if p > 0 else []


def _at_least(key: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"model.{key}: must be an integer of at least {least} (got {value!r})")


def _image(input_shape: Sequence[int], name: str) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise UsageError(
            f"model.name: {name} needs images (channels, height, width); one example has shape {tuple(input_shape)}",
            'Use model.name = "mlp" for tables.',
        )
    channels, height, width = input_shape
    return channels, height, width
