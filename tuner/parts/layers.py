"""Layers of the built-in models that torch has no equal of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError


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


class Maxout(nn.Module):
    """Take the maximum over `pieces` groups of channels: (N, pieces C, ...) gives (N, C, ...)."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.pieces, -1)).amax(1)


class DualPool(nn.Module):
    widens = 2

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.avg_pool2d(x, x.shape[2:]), x.amax((2, 3), keepdim=True)], 1)


class GeMPool(nn.Module):
    def __init__(self, p: float, least: float = 1e-6) -> None:
        super().__init__()
        self.p, self.least = nn.Parameter(torch.tensor(float(p))), least

    def forward(self, x: Tensor) -> Tensor:
        powers = x.float().clamp(min=self.least) ** self.p
        return F.avg_pool2d(powers, x.shape[2:]) ** (1 / self.p)


def pieces(where: str, granularities: Sequence[int]) -> tuple[int, ...]:
    """Return into how many pieces an image is cut, once for each granularity.

    Raises:
        UsageError: "must be a list of whole numbers".
    """
    good = isinstance(granularities, (list, tuple)) and len(granularities) > 0
    if not good or not all(isinstance(item, int) and not isinstance(item, bool) and item > 0 for item in granularities):
        raise UsageError(f"{where}.granularities: must be a list of whole numbers above 0 (got {granularities!r})")
    return tuple(granularities)


class StripePool(nn.Module):
    """Pool the horizontal stripes of an image, for each granularity as many as that, one after the other.

    (N, C, H, W) gives (N, C p, 1, 1), p the sum of the granularities; the channels of a stripe lie together.
    """

    def __init__(self, granularities: Sequence[int], largest: bool) -> None:
        super().__init__()
        self.granularities, self.widens, self.largest = tuple(granularities), sum(granularities), largest

    def forward(self, x: Tensor) -> Tensor:
        pool = F.adaptive_max_pool2d if self.largest else F.adaptive_avg_pool2d
        found = [pool(x, (count, 1))[..., 0].transpose(1, 2).flatten(1) for count in self.granularities]
        return torch.cat(found, 1)[..., None, None]
