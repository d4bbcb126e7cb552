"""Activations and gradients of every layer of the fresh model, on one batch; and whether their sizes let it learn."""

from __future__ import annotations

from torch import Tensor, nn

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _by_unit(outputs: Tensor) -> Tensor:
    """Return (observations, units): channels are dimension 1 of images, the last of everything else."""
    values = outputs.detach().float()
    if values.ndim >= 4:
        values = values.movedim(1, -1)
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
