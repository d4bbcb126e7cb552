"""Activations and gradients of every layer of the fresh model, on one batch; and whether their sizes let it learn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
AT_ONCE = 1 << 20  # values that are looked at together


def _by_unit(outputs: Tensor) -> Tensor:
    """Return (observations, units): channels are dimension 1 of images, the last of everything else."""
    values = outputs.detach().float()
    if values.ndim >= 4:
        values = values.movedim(1, -1)
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)


@dataclass(frozen=True)
class Units:
    """Sums over the observations of a layer's units.

    `mean`, `square`: (units,) in double precision, the mean and the sum of squared deviations from it; `zeros`:
    (units,), how many observations are 0; `count`: observations.
    """

    mean: Tensor
    square: Tensor
    zeros: Tensor
    count: int

    @classmethod
    def of(cls, values: Tensor) -> Units:
        """Sum up (observations, units), some rows at a time: all at once takes several times the memory, and longer."""
        mean = values.mean(0, dtype=torch.double)
        centre = mean.to(values)
        square, zeros = torch.zeros_like(mean), torch.zeros(mean.shape, dtype=torch.long, device=mean.device)
        for rows in values.split(max(1, AT_ONCE // max(1, values.shape[1]))):
            zeros += (rows == 0).sum(0)
            square += (rows - centre).square_().sum(0, dtype=torch.double)
        return cls(mean, square, zeros, len(values))

    @property
    def spread(self) -> float | None:
        """The standard deviation over observations, averaged over units; None of a single observation."""
        return float((self.square / (self.count - 1)).sqrt().mean()) if self.count > 1 else None

    @property
    def std(self) -> float:
        """The standard deviation of all values; not a number of a single one."""
        between = self.count * (self.mean - self.mean.mean()).square().sum()
        total = self.count * len(self.mean)
        return math.sqrt(float(self.square.sum() + between) / (total - 1)) if total > 1 else math.nan
