"""Layers of the built-in models that torch has no equal of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalAveragePool(nn.Module):
    """Average each channel over the pixels; unlike AdaptiveAvgPool2d's, the gradient stays channels-last.

    (N, C, H, W) gives (N, C, 1, 1).
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[2:])


class IBN(nn.Module):
    """Normalise the first half of the channels within each image, the other half over the batch.

    Source: X. Pan et al. 2018, Two at Once: IBN-Net.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = channels // 2
        self.instance = nn.InstanceNorm2d(self.first, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.first)

    def forward(self, x: Tensor) -> Tensor:
        within, over = x.split([self.first, x.shape[1] - self.first], dim=1)
        return torch.cat([self.instance(within), self.batch(over)], 1)
